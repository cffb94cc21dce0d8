"""Layer selection: whole layers are trained, everything else is frozen, embeddings included."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from sparseft.methods.base import (
    MethodContext,
    Prepared,
    freeze,
    in_full_precision,
    positive,
    prepared,
    read_options,
    register,
    upper_layers,
)
from sparseft.models.task_model import TaskModel
from sparseft.selection.layout import layout_of

__all__ = ["layers", "layers_sensitivity"]


@register("layers")
def layers(model: TaskModel, context: MethodContext) -> Prepared:
    """Train the upper `depth` of the layers; backward stops below them."""
    options = read_options(context.options, depth=0.5)
    chosen = upper_layers(len(layout_of(model.backbone).layers), options["depth"])
    return _train_layers(model, chosen)


@register("layers_sensitivity")
def layers_sensitivity(model: TaskModel, context: MethodContext) -> Prepared:
    """Train as many layers as `depth` gives, those to which the loss is most sensitive.

    The sensitivities come from `batches` training batches and are part of the method's time.
    """
    # Not at the top of the file: only this method analyses anything.
    from sparseft.analysis import layer_sensitivities

    options = read_options(context.options, depth=0.5, batches=8)
    positive("batches", options["batches"])
    started = time.perf_counter()
    sensitivities = [
        float(value) for value in layer_sensitivities(model, context.batches(options["batches"]))
    ]
    seconds = time.perf_counter() - started
    count = len(upper_layers(len(sensitivities), options["depth"]))
    # Of equally sensitive layers the upper one: its backward is shorter.
    order = sorted(range(len(sensitivities)), key=lambda index: (-sensitivities[index], -index))
    return _train_layers(
        model,
        order[:count],
        analysis_seconds=seconds,
        notes={"layer_sensitivities": sensitivities},
    )


def _train_layers(
    model: TaskModel,
    chosen: Collection[int],
    analysis_seconds: float = 0.0,
    notes: dict[str, Any] | None = None,
) -> Prepared:
    upcast = in_full_precision(model)
    freeze(model)
    layout = layout_of(model.backbone)
    for index in chosen:
        model.backbone.get_submodule(layout.layers[index].module_name).requires_grad_(True)
    return prepared(
        model,
        analysis_seconds=analysis_seconds,
        notes={"layers": sorted(chosen), "upcast_to_fp32": upcast} | (notes or {}),
    )
