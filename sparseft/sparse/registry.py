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

__all__ = ["Owner", "owner_of", "register", "write_through"]


class Owner(Protocol):
    """A module that keeps compact values."""

    def write_through(self) -> None:
        """Copy the compact values into the weight now."""


_owners: WeakIdKeyDictionary = WeakIdKeyDictionary()
_hooked = False


def register(values: Tensor, owner: Owner) -> None:
    """Remember who writes `values` into a weight."""
    global _hooked
    if not _hooked:
        register_optimizer_step_post_hook(_after_step)
        _hooked = True
    _owners[values] = weakref.ref(owner)


def owner_of(values: Tensor) -> Owner | None:
    """The module that owns `values`, if it still lives."""
    reference = _owners.get(values)
    return None if reference is None else reference()


def write_through(groups: Iterable[dict[str, Any]]) -> None:
    """Write the compact values among an optimizer's parameters into their weights."""
    written = set()
    for group in groups:
        for parameter in group["params"]:
            owner = owner_of(parameter)
            # A module may own two parameters (weight and bias values): write it once.
            if owner is not None and id(owner) not in written and parameter.grad is not None:
                written.add(id(owner))
                owner.write_through()


def _after_step(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
    if not getattr(optimizer, "writes_through", False):
        write_through(optimizer.param_groups)
