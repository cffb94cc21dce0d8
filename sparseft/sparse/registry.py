"""From a compact parameter to the module whose weight holds its values.

Kept outside the parameter, so that copying and pickling a model stay ordinary.

Modules notice in-place changes of their values by torch's version counter. torch's fused
optimizers do not raise it (torch 2.11 to 2.13), so a hook that torch runs after every optimizer
step writes through for them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, Protocol

from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils.weak import WeakIdKeyDictionary

from sparseft_kernels.entries import Entries

__all__ = ["Owner", "forget", "owners_of", "references_of", "register", "write_through"]


class Owner(Protocol):
    """A module that keeps compact values."""

    @property
    def weight(self) -> Any:
        """The weight that holds compact values."""

    @property
    def sparse_bias(self) -> Any:
        """Values besides those of the weight, or None."""

    def write_through(self) -> None:
        """Copy the compact values into the weight now."""

    def destination(self, values: Tensor) -> Entries | None:
        """Where `values` may be written now; None while they are to stay out of the weight."""

    def mark_written(self, values: Tensor | None = None) -> None:
        """Note that the weight holds the compact values (or those given) as they are now."""


# Tied modules own the same values.
_owners: WeakIdKeyDictionary = WeakIdKeyDictionary()
_hooked = False


def register(values: Tensor, owner: Owner) -> None:
    """Remember who writes `values` into a weight."""
    global _hooked
    if not _hooked:
        register_optimizer_step_post_hook(_after_step)
        _hooked = True
    references = references_of(values)
    if not any(reference() is owner for reference in references):
        references[:] = [reference for reference in references if reference() is not None]
        references.append(weakref.ref(owner))


def forget(values: Tensor, owner: Owner) -> None:
    """The owner's weight no longer follows `values`."""
    references = references_of(values)
    references[:] = [reference for reference in references if reference() is not owner]


def references_of(values: Tensor) -> list[weakref.ref[Owner]]:
    """References to the owners of `values`: always the same list, whoever comes and goes."""
    references: list[weakref.ref[Owner]] = _owners.setdefault(values, [])
    return references


def owners_of(values: Tensor) -> list[Owner]:
    """The living modules that own `values`; several where a weight is tied."""
    owners = (reference() for reference in _owners.get(values, ()))
    return [owner for owner in owners if owner is not None]


def write_through(groups: Iterable[dict[str, Any]]) -> None:
    """Write the compact values among an optimizer's parameters into their weights."""
    owners = {
        id(owner): owner
        for group in groups
        for parameter in group["params"]
        if parameter.grad is not None
        for owner in owners_of(parameter)
    }
    written: set[int] = set()
    # A module may own two parameters (weight and bias values), and a tied weight have two modules:
    # each is written once.
    for owner in owners.values():
        if id(owner.weight) in written and owner.sparse_bias is None:
            owner.mark_written()
        else:
            written.add(id(owner.weight))
            owner.write_through()


def _after_step(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
    if not getattr(optimizer, "writes_through", False):
        write_through(optimizer.param_groups)
