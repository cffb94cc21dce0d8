"""The sparse method: token-driven units of the pretrained weights, trained in place.

Its controls are methods of their own, so that every comparison can hold them: the same number of
units in every group, chosen at random, by magnitude, or by the Fisher without token weights.
"""

from __future__ import annotations

import time
from typing import Any

from sparseft.analysis import analyze
from sparseft.errors import ConfigError
from sparseft.methods.base import Method, MethodContext, Prepared, positive, prepared, register
from sparseft.models.classifier import TextClassifier
from sparseft.selection import Budget
from sparseft.sparse import sparsify

__all__ = ["CONTROLS", "sparse"]

CONTROLS = ("random", "magnitude", "unweighted")

_DEFAULTS: dict[str, Any] = {
    "density": None,
    "step_time": None,
    "units": ["neuron", "head"],
    "saliency": "gradient_x_input",
    "depth": 0.5,
    "batches": 4,
    "block_edge": 32,
}


@register("sparse")
def sparse(model: TextClassifier, context: MethodContext) -> Prepared:
    """Analyse a few training batches, select under the budget, train only what was selected.

    Options: density or step_time (the budget), units, saliency, depth (share of upper layers, or
    "auto"), batches (analysed), block_edge; see `sparseft.analyze`.
    """
    return _sparse(model, context, "none")


def _control(name: str) -> Method:
    def method(model: TextClassifier, context: MethodContext) -> Prepared:
        return _sparse(model, context, name)

    return method


for _name in CONTROLS:
    register(f"sparse_{_name}")(_control(_name))


def _sparse(model: TextClassifier, context: MethodContext, control: str) -> Prepared:
    options = {**_DEFAULTS, **context.options}
    unknown = sorted(set(options) - set(_DEFAULTS))
    if unknown:
        raise ConfigError(
            f"expected only known options of the method, got method.{unknown[0]}; "
            f"choose from: {', '.join(sorted(_DEFAULTS))}."
        )
    positive("batches", options["batches"])
    started = time.perf_counter()
    selection = analyze(
        model,
        context.batches(options["batches"]),
        budget=Budget(density=options["density"], step_time=options["step_time"]),
        units=tuple(options["units"]),
        saliency=options["saliency"],
        control=control,
        depth=options["depth"],
        block_edge=options["block_edge"],
        seed=context.seed,
    )
    # The base was hashed a moment ago, by the analysis itself.
    sparsify(model, selection, verify_base=False)
    return prepared(
        model,
        optimizer="sparse_adamw",
        selection=selection,
        analysis_seconds=time.perf_counter() - started,
    )
