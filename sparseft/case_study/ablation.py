"""Put selected units back to the base model's values, and afterwards back again, bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparseft.case_study.units import SelectedUnits
from sparseft.sparse.apply import sparse_modules
from sparseft.sparse.modules import SparseModule

__all__ = ["ablated"]


@contextlib.contextmanager
def ablated(model: nn.Module, units: SelectedUnits, chosen: NDArray[np.int64]) -> Iterator[None]:
    """Inside the block the chosen units hold the base's values, the others the trained ones.

    Biases and norms that are trained whole, beside the units, stay as they are. A unit's trained
    numbers are replacement values and the base's are kept beside them, so both ways are copies and
    exact.

    Args:
        model: carries the selection that `units` are of.
        units: of `selected_units`.
        chosen: int64, different places in `units`.
    """
    entries = _entries(units, chosen)
    modules = sparse_modules(model)
    kept: list[tuple[Tensor, int, Tensor, Tensor]] = []
    with torch.no_grad():
        for name, wanted in entries.items():
            kept += _put_base(modules[name], wanted)
    _write(modules, entries)
    try:
        yield
    finally:
        with torch.no_grad():
            for values, dimension, places, trained in kept:
                values.index_copy_(dimension, places, trained)
        _write(modules, entries)


def _entries(units: SelectedUnits, chosen: NDArray[np.int64]) -> dict[str, Tensor]:
    """The entries (rows, columns, blocks, …) of the chosen units, by module."""
    found: dict[str, list[Tensor]] = {}
    for place in np.unique(units.group[chosen]).tolist():
        numbers = np.sort(units.number[chosen[units.group[chosen] == place]])
        for piece in units.groups[place].pieces:
            found.setdefault(piece.module, []).append(piece.of(torch.from_numpy(numbers)))
    return {name: torch.cat(parts) for name, parts in found.items()}


def _put_base(module: SparseModule, wanted: Tensor) -> list[tuple[Tensor, int, Tensor, Tensor]]:
    """Overwrite; returns (values, dimension, places, what stood there) to undo it."""
    plan = module.sparse_plan
    index = plan.index.long()
    places = torch.searchsorted(index, wanted.to(index))
    base, base_bias = module.sparse_base
    pairs = [(module.sparse_values, 1 if plan.structure == "columns" else 0, base)]
    if module.sparse_bias is not None and base_bias is not None:
        pairs.append((module.sparse_bias, 0, base_bias))
    kept: list[tuple[Tensor, int, Tensor, Tensor]] = []
    for values, dimension, original in pairs:
        kept.append((values, dimension, places, values.index_select(dimension, places)))
        of_base = original.index_select(dimension, places).to(values)
        values.index_copy_(dimension, places, of_base)
    return kept


def _write(modules: dict[str, SparseModule], names: dict[str, Tensor]) -> None:
    for name in names:
        modules[name].write_through()
