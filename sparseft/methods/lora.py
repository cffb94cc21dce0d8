"""LoRA (Hu et al., 2022, arXiv 2106.09685) and rsLoRA (Kalajdzievski, 2023, arXiv 2312.03732).

On all linears of the layers, through PEFT; `depth` keeps to the upper share of the layers, so that
backward ends where that of a sparse selection of the same depth ends.
"""

from __future__ import annotations

from peft import LoraConfig

from sparseft.errors import ConfigError
from sparseft.methods.adapters import linear_names, wrap
from sparseft.methods.base import (
    MethodContext,
    Prepared,
    positive,
    prepared,
    read_options,
    register,
)
from sparseft.models.task_model import TaskModel

__all__ = ["lora", "lora_upper", "rslora"]


@register("lora")
def lora(model: TaskModel, context: MethodContext) -> Prepared:
    """Low-rank factors on all linears, scaled by alpha / r."""
    return _lora(model, context, depth=1.0, rank_stabilised=False)


@register("lora_upper")
def lora_upper(model: TaskModel, context: MethodContext) -> Prepared:
    """LoRA on the upper `depth` of the layers, half of them where nothing else is said."""
    return _lora(model, context, depth=0.5, rank_stabilised=False)


@register("rslora")
def rslora(model: TaskModel, context: MethodContext) -> Prepared:
    """LoRA scaled by alpha / sqrt(r)."""
    return _lora(model, context, depth=1.0, rank_stabilised=True)


def _lora(
    model: TaskModel, context: MethodContext, depth: float, rank_stabilised: bool
) -> Prepared:
    options = read_options(context.options, r=8, alpha=16.0, dropout=0.1, depth=depth)
    positive("r", options["r"])
    positive("alpha", options["alpha"])
    if not 0 <= options["dropout"] < 1:
        raise ConfigError(
            f"expected method.dropout from 0 to below 1, got {options['dropout']}; "
            "change method.dropout."
        )
    targets = linear_names(model, options["depth"])
    config = LoraConfig(
        r=options["r"],
        lora_alpha=options["alpha"],
        lora_dropout=options["dropout"],
        target_modules=targets,
        use_rslora=rank_stabilised,
    )
    wrap(model, config, context.seed)
    return prepared(model, notes={"linears": len(targets)})
