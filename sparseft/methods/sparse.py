"""The sparse method: token-driven units of the pretrained weights, trained in place.

Its controls are methods of their own, so that every comparison can hold them: the same number of
units in every group, chosen at random, by magnitude, or by the Fisher without token weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from sparseft.analysis import analyze
from sparseft.errors import ConfigError
from sparseft.methods.base import Method, MethodContext, Prepared, positive, prepared, register
from sparseft.methods.compact import budget_of_units, refresh_options, vector_options
from sparseft.methods.pricing import PRICING, calibration_of, check_pricing
from sparseft.methods.width import width_factor
from sparseft.models.task_model import TaskModel
from sparseft.selection.vectors import with_vectors
from sparseft.sparse import sparsify

__all__ = ["CONTROLS", "sparse"]

CONTROLS = ("random", "magnitude", "unweighted")

_DEFAULTS: dict[str, Any] = {
    "density": None,
    "step_time": None,
    "units": ["neuron", "head"],
    "saliency": "uniform",
    "score": "agreement",
    "allocation": "fisher",
    "folds": 4,
    "depth": 0.5,
    "batches": 32,
    "block_edge": 32,
    "biases": False,
    "norms": False,
    "refresh": None,
    "lr_by_width": 0.0,
    "reference_density": 0.05,
    **PRICING,
}


@register("sparse")
def sparse(model: TaskModel, context: MethodContext) -> Prepared:
    """Analyse a few training batches, select under the budget, train only what was selected.

    Options: density or step_time (the budget), units, saliency, score, allocation, depth (share of
    upper layers, or "auto"), block_edge; see `sparseft.analyze`. batches: most that are analysed.
    folds: 0 analyses them under the run's own head, which has seen them; 2 and more show each fold
    under a head fitted to the others (`sparseft.training.held_out`). biases, norms: train
    these too, from the lowest trained layer upwards and within the density. refresh: see
    `sparseft.sparse.refresh`. lr_by_width with reference_density: see `width_factor`. calibrate,
    calibration, calibration_seconds: see `calibration_of`; depth_rule: of `sparseft.analyze`;
    priced_with_cache: its prefix_cache.
    """
    return _sparse(model, context, "none")


def _control(name: str) -> Method:
    def method(model: TaskModel, context: MethodContext) -> Prepared:
        return _sparse(model, context, name)

    return method


for _name in CONTROLS:
    register(f"sparse_{_name}")(_control(_name))


def _sparse(model: TaskModel, context: MethodContext, control: str) -> Prepared:
    options = {**_DEFAULTS, **context.options}
    unknown = sorted(set(options) - set(_DEFAULTS))
    if unknown:
        raise ConfigError(
            f"expected only known options of the method, got method.{unknown[0]}; "
            f"choose from: {', '.join(sorted(_DEFAULTS))}."
        )
    positive("batches", options["batches"])
    refresh, vectors = refresh_options(options, control), vector_options(options)
    budget = budget_of_units(model, options)
    power, reference = options["lr_by_width"], options["reference_density"]
    width_factor(1.0, power, reference)  # wrong options end the run before the analysis
    check_pricing(options)
    if options["saliency"] == "constructs" and context.constructs is None:
        raise ConfigError(
            "expected mined constructs for method.saliency=constructs, got none; add "
            "constructs=mine."
        )
    started = time.perf_counter()
    cost = calibration_of(model, context, options)
    selection = analyze(
        model,
        _batches(context, options["batches"], options["folds"]),
        budget=budget,
        units=tuple(options["units"]),
        saliency=options["saliency"],
        score=options["score"],
        allocation=options["allocation"],
        control=control,
        depth=options["depth"],
        depth_rule=options["depth_rule"],
        cost=cost,
        prefix_cache=options["priced_with_cache"],
        block_edge=options["block_edge"],
        seed=context.seed,
        constructs=context.constructs,
    )
    if any(vectors.values()):
        selection = with_vectors(selection, model, **vectors)
    # The base was hashed a moment ago, by the analysis itself.
    sparsify(model, selection, verify_base=False)
    return prepared(
        model,
        optimizer="sparse_adamw",
        selection=selection,
        analysis_seconds=time.perf_counter() - started,
        # By the budget where it is a density, which is the same for all seeds.
        lr_factor=width_factor(options["density"] or selection.density, power, reference),
        refresh=refresh,
        notes={"vectors": sum(v.trained for v in selection.vectors)} if selection.vectors else {},
    )


def _batches(context: MethodContext, count: int, folds: Any) -> Iterable[dict[str, Tensor]]:
    if not isinstance(folds, int) or isinstance(folds, bool) or folds < 0 or folds == 1:
        raise ConfigError(f"expected method.folds of 0, or 2 and more, got {folds!r}; change it.")
    if folds == 0:
        return context.batches(count)
    if context.held_out is None:
        raise ConfigError(
            f"expected a fitted head for method.folds={folds}, got training.head_warmup_steps=0; "
            "set steps, or method.folds=0."
        )
    return context.held_out(count, folds)
