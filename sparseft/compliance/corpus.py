"""The examples of a run: training, validation and test, without a group in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparseft.compliance.fields import dumps
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Example
from sparseft.errors import DataError

__all__ = ["Corpus", "split_validation"]


@dataclass(frozen=True)
class Corpus:
    """Checked examples of one schema.

    Attributes:
        report: plain data about how they came about.
    """

    name: str
    schema: Schema
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    report: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split in ("train", "validation", "test"):
            examples: tuple[Example, ...] = getattr(self, split)
            if not examples:
                raise DataError(
                    f"expected examples in the {split} split of {self.name}, got none; "
                    "ask for more rows."
                )
            for example in examples:
                self.schema.canonical(example.gold)
        groups = [{e.group for e in examples if e.group} for examples in self._splits]
        shared = (groups[0] & groups[1]) | (groups[0] & groups[2]) | (groups[1] & groups[2])
        if shared:
            raise DataError(
                f"expected the groups of {self.name} in one split each, got {min(shared)!r} in "
                "two; give examples of one origin one group."
            )

    @property
    def _splits(self) -> tuple[tuple[Example, ...], ...]:
        return (self.train, self.validation, self.test)

    @property
    def sha256(self) -> str:
        """Of all transcripts and gold values, in order."""
        digest = hashlib.sha256()
        for examples in self._splits:
            for example in examples:
                content = {"transcript": example.transcript.to_json(), "gold": dict(example.gold)}
                digest.update(dumps(content).encode())
        return digest.hexdigest()


def split_validation(
    examples: Sequence[Example], share: float, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Training and validation examples, whole groups at a time; at least one of each.

    Args:
        share: of the examples that go to validation, about.
        seed: of the draw.
    """
    names = [example.group or f"#{place}" for place, example in enumerate(examples)]
    groups = list(dict.fromkeys(names))
    order = np.random.default_rng(seed).permutation(len(groups))
    wanted = max(1, round(share * len(examples)))
    held: set[str] = set()
    count = 0
    for place in order:
        if count >= wanted:
            break
        held.add(groups[place])
        count += names.count(groups[place])
    train = tuple(e for e, name in zip(examples, names, strict=True) if name not in held)
    validation = tuple(e for e, name in zip(examples, names, strict=True) if name in held)
    return train, validation
