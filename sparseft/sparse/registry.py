"""From a compact parameter to the module whose weight holds its values.

Kept outside the parameter, so that copying and pickling a model stay ordinary. An optimizer that
finds no owner need not care: the module notices changed values at its next forward.
"""

from __future__ import annotations

import weakref
from typing import Protocol

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

__all__ = ["Owner", "owner_of", "register"]


class Owner(Protocol):
    """A module that keeps compact values."""

    def write_through(self) -> None:
        """Copy the compact values into the weight now."""


_owners: WeakIdKeyDictionary = WeakIdKeyDictionary()


def register(values: Tensor, owner: Owner) -> None:
    """Remember who writes `values` into a weight."""
    _owners[values] = weakref.ref(owner)


def owner_of(values: Tensor) -> Owner | None:
    """The module that owns `values`, if it still lives."""
    reference = _owners.get(values)
    return None if reference is None else reference()
