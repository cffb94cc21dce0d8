"""BitFit: only the bias vectors (Ben Zaken et al., 2022, arXiv 2106.10199)."""

from __future__ import annotations

from sparseft.errors import ConfigError
from sparseft.methods.base import (
    MethodContext,
    Prepared,
    freeze,
    in_full_precision,
    prepared,
    read_options,
    register,
)
from sparseft.models.task_model import TaskModel

__all__ = ["bitfit"]


@register("bitfit")
def bitfit(model: TaskModel, context: MethodContext) -> Prepared:
    """Train every bias of the backbone, those of the norms included, in fp32.

    Raises:
        ConfigError: the model has no biases (Llama, Qwen3, ModernBERT).
    """
    read_options(context.options)
    biases = [
        weight
        for name, weight in model.backbone.named_parameters()
        if name.rpartition(".")[2] == "bias"
    ]
    if not biases:
        raise ConfigError(
            f"expected a model with biases for method=bitfit, got {type(model.backbone).__name__}, "
            "which has none; choose another method, or a BERT-shaped model."
        )
    upcast = in_full_precision(model)
    freeze(model)
    for bias in biases:
        bias.requires_grad_(True)
    return prepared(model, notes={"upcast_to_fp32": upcast})
