"""Linear probe: the head alone, on the frozen model's features."""

from __future__ import annotations

from sparseft.methods.base import (
    MethodContext,
    Prepared,
    freeze,
    prepared,
    read_options,
    register,
)
from sparseft.models.task_model import TaskModel

__all__ = ["probe"]


@register("probe")
def probe(model: TaskModel, context: MethodContext) -> Prepared:
    """Train the head only; the backbone builds no graph."""
    read_options(context.options)
    freeze(model)
    return prepared(model)
