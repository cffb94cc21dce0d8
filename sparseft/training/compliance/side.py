"""What a run needs of the kind of reader that it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from sparseft.compliance import Example
from sparseft.compliance.answer import Reader
from sparseft.models import TaskModel
from sparseft.training.compliance.validation import Fields
from sparseft.training.prefix_cache import PrefixCache

__all__ = ["Rows", "Side", "WarmUp"]


class Rows(Protocol):
    """Padded batches of examples in an order that can be resumed."""

    lengths: np.ndarray

    @property
    def device(self) -> Any: ...

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None: ...

    def batches(self, start: int = 0) -> Iterator[dict[str, Any]]: ...

    def collate(self, rows: np.ndarray) -> dict[str, Any]: ...


@dataclass(frozen=True)
class WarmUp:
    """A head that was fitted before any method starts, and batches under heads that have not seen
    them: `held_out(count, folds)`."""

    seconds: float
    held_out: Callable[[int, int], Iterator[dict[str, Tensor]]]


class Side(Protocol):
    """A model with its data's form: `DecoderSide` or `EncoderSide`."""

    @property
    def model(self) -> TaskModel:
        """What is trained."""

    def batches(self, examples: Sequence[Example], seed: int | None = None) -> Rows:
        """Padded batches: those of training where there is a seed."""

    def warm_up(self, rows: Rows) -> WarmUp | None:
        """Fit the head to the frozen features; None where it has no weights of its own."""

    def validate(self, rows: Rows, cache: PrefixCache | None) -> Fields:
        """Which model fields of each example are right."""

    def judged(self, examples: Sequence[Example]) -> list[bool]:
        """Whether what decides about each example's critical field is read rightly."""

    def reader(self) -> Reader:
        """The trained model, ready to read."""
