"""Full finetuning: every weight, norm, bias and embedding, the usual end-to-end baseline."""

from __future__ import annotations

from sparseft.methods.base import (
    MethodContext,
    Prepared,
    in_full_precision,
    prepared,
    read_options,
    register,
)
from sparseft.models.task_model import TaskModel

__all__ = ["full"]


@register("full")
def full(model: TaskModel, context: MethodContext) -> Prepared:
    """Train everything, in fp32."""
    read_options(context.options)
    upcast = in_full_precision(model)
    model.requires_grad_(True)
    return prepared(model, notes={"upcast_to_fp32": upcast})
