"""How each operation is benchmarked: inputs, rivals, and the truth that it is checked against."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

import sparseft_kernels
from bench.adapters.common import Adapter, Problem, Rival
from bench.cases import Case, grid, interleave

__all__ = ["Adapter", "Problem", "Rival", "adapters", "cases_of", "missing"]


def adapters() -> Mapping[str, Adapter]:
    """All adapters by the name of their operation, in the order of the operations."""
    found: dict[str, Adapter] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name != "common":
            for adapter in importlib.import_module(f"{__name__}.{module.name}").ADAPTERS:
                found[adapter.operation] = adapter
    known = sparseft_kernels.operations()
    return {name: found[name] for name in known if name in found}


def missing() -> list[str]:
    """Operations that no adapter measures: none, if the registry is whole."""
    return sorted(set(sparseft_kernels.operations()) - set(adapters()))


def cases_of(quick: bool = False, only: str = "", dtype: str = "") -> list[Case]:
    """All cases in the order in which they are run.

    Args:
        quick: the corners and the middle of each grid alone.
        only: the start of an operation's name.
        dtype: one dtype's cases alone.
    """
    first: list[list[Case]] = []
    rest: list[list[Case]] = []
    for name, adapter in adapters().items():
        if not name.startswith(only):
            continue
        corners, points = grid(adapter.axes, quick=True), grid(adapter.axes, quick=False)
        main, *others = adapter.dtypes
        for options in adapter.options:
            first.append([Case(name, main, *point, options) for point in corners])
            rest.append([Case(name, other, *p, options) for other in others for p in corners])
            rest.append([Case(name, main, *point, options) for point in points[len(corners) :]])
    ordered = interleave(first) + ([] if quick else interleave(rest))
    return [case for case in ordered if not dtype or case.dtype == dtype]
