"""What the sparse methods' options beside the selection ask for, checked before any analysis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sparseft.errors import ConfigError
from sparseft.models.task_model import TaskModel
from sparseft.selection import Budget
from sparseft.selection.budget import lowest_layer_of_depth
from sparseft.selection.layout import layout_of
from sparseft.selection.units import EMBEDDING_LAYER
from sparseft.selection.vectors import vectors_from
from sparseft.sparse.refresh import RefreshOptions

__all__ = ["budget_of_units", "refresh_options", "vector_options"]


def vector_options(options: Mapping[str, Any]) -> dict[str, bool]:
    """`biases` and `norms` among the method's options.

    Raises:
        ConfigError: one is neither true nor false.
    """
    for name in ("biases", "norms"):
        if not isinstance(options[name], bool):
            raise ConfigError(
                f"expected method.{name} to be true or false, got {options[name]!r}; "
                f"change method.{name}."
            )
    return {name: options[name] for name in ("biases", "norms")}


def budget_of_units(model: TaskModel, options: Mapping[str, Any]) -> Budget:
    """What is left for units when biases and norms have taken their part of the density.

    Raises:
        ConfigError: nothing is left.
        SelectionError: the budget or the depth is out of its range.
    """
    budget = Budget(density=options["density"], step_time=options["step_time"])
    vectors = vector_options(options)
    if budget.density is None or not any(vectors.values()):
        return budget
    layout, depth = layout_of(model), options["depth"]
    # The deepest cut that may come out, so that the density is kept in any case.
    lowest = 0 if isinstance(depth, str) else lowest_layer_of_depth(depth, len(layout.layers))
    lowest = EMBEDDING_LAYER if "embedding" in options["units"] else lowest
    count = sum(vector.trained for vector in vectors_from(layout, lowest, **vectors))
    share = count / sum(weight.numel() for weight in model.backbone.parameters())
    if share >= budget.density:
        raise ConfigError(
            f"expected method.density above {share:.2g}, which the biases or norms take, got "
            f"{budget.density}; raise it, or set method.biases and method.norms to false."
        )
    return replace(budget, density=budget.density - share)


def refresh_options(options: Mapping[str, Any], control: str = "none") -> RefreshOptions | None:
    """The checked `refresh` among the method's options; None where there is none.

    Raises:
        ConfigError: unknown or wrong options, or a control whose choice never changes.
    """
    given = options.get("refresh")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ConfigError(
            "expected method.refresh to be null or a mapping such as {every: 1, share: 0.1}, "
            f"got {given!r}; change method.refresh."
        )
    if control == "magnitude":
        raise ConfigError(
            "expected no refresh with method=sparse_magnitude, whose order of units never changes, "
            "got one; set method.refresh=null."
        )
    return RefreshOptions.from_mapping(given)
