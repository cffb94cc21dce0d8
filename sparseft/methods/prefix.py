"""Prefix tuning: trained keys and values before the text in every layer (Li and Liang, 2021,
arXiv 2101.00190), through PEFT, without its reparametrising network.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PrefixTuningConfig, TaskType
from torch import Tensor, nn

from sparseft.errors import ConfigError, ModelError
from sparseft.methods.adapters import wrap
from sparseft.methods.base import (
    MethodContext,
    Prepared,
    positive,
    prepared,
    read_options,
    register,
)
from sparseft.models.task_model import TaskModel

__all__ = ["prefix"]


@register("prefix")
def prefix(model: TaskModel, context: MethodContext) -> Prepared:
    """Train `tokens` virtual keys and values in every layer, drawn with spread `init_std`.

    Raises:
        ModelError: PEFT's prefix does not reach this model's attention (DistilBERT, ModernBERT),
            or gradient checkpointing is on, which would drop it.
    """
    options = read_options(context.options, tokens=20, init_std=1.0)
    positive("tokens", options["tokens"])
    positive("init_std", options["init_std"])
    backbone: Any = model.backbone
    family = type(backbone).__name__
    if any(getattr(module, "gradient_checkpointing", False) for module in backbone.modules()):
        raise ModelError(
            "expected no gradient checkpointing with method=prefix, got it switched on: the "
            "recomputed layers would run without the prefix; set "
            "training.gradient_checkpointing=false."
        )
    row = {name: value[:1] for name, value in context.batches(1)[0].items()}
    config = PrefixTuningConfig(
        # Only the wrappers made for a task pass the prefix on; the plain one ignores it.
        task_type=TaskType.FEATURE_EXTRACTION,
        num_virtual_tokens=options["tokens"],
    )
    training = model.training
    model.eval()
    with torch.no_grad():
        without = model(row["input_ids"], row["attention_mask"]).logits
    try:
        wrapper = wrap(model, config, context.seed)
        values: nn.Parameter = wrapper.prompt_encoder["default"].embedding.weight
        with torch.no_grad():
            values.mul_(options["init_std"])
        _refuse_long_texts(wrapper, options["tokens"])
        _check_reach(model, row, without, values)
    except ConfigError:
        model.backbone = backbone
        raise
    except Exception as error:
        model.backbone = backbone
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"expected a model whose attention takes a prefix for method=prefix, got {family}, "
            f"which PEFT cannot prefix ({reason}); choose another method, or a BERT-, RoBERTa-, "
            "Llama- or Qwen-shaped model."
        ) from error
    model.train(training)
    return prepared(model)


def _check_reach(
    model: TaskModel, row: dict[str, Tensor], without: Tensor, values: nn.Parameter
) -> None:
    """Raise unless the prefix changes the logits and every layer's part of it has a gradient."""
    with torch.enable_grad():
        change = (model(row["input_ids"], row["attention_mask"]).logits - without).square().sum()
        if change == 0:
            raise ValueError("the prefix changes nothing")
        (gradient,) = torch.autograd.grad(change, values)  # [tokens, layers x keys and values]
    wrapper: Any = model.backbone
    by_layer = gradient.view(len(gradient), wrapper.active_peft_config.num_layers, -1)
    if not by_layer.ne(0).any(dim=2).any(dim=0).all():
        raise ValueError("the prefix of some layer gets no gradient")


def _refuse_long_texts(wrapper: Any, tokens: int) -> None:
    """Say clearly that prefix and text exceed the model's positions, before an index does."""
    positions = getattr(wrapper.config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return

    def check(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        length = named["input_ids"].shape[1]
        if length + tokens > positions:
            raise ConfigError(
                f"expected texts of at most {positions - tokens} tokens beside a prefix of "
                f"{tokens}, got {length}; set a smaller model.max_length or method.tokens."
            )

    wrapper.register_forward_pre_hook(check, with_kwargs=True)
