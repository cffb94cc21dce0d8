"""Small stand-ins: an embedder of words, experts from tables, dialogues."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from sparseft.routing import Context, Prediction, State, Turn, TurnId, applied

__all__ = ["Bag", "Table", "dialogue"]


class Bag:
    """Counts of hashed words: texts that share words are near."""

    def __init__(self, width: int = 64) -> None:
        self.width = width
        self.seen: list[str] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.seen.extend(texts)
        rows = np.zeros((len(texts), self.width), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[0] = 0.1
            for word in text.lower().split():
                row[zlib.crc32(word.encode()) % self.width] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Table:
    """Answers by turn; keeps the contexts that it was given."""

    def __init__(
        self,
        name: str,
        answers: Mapping[TurnId, Prediction],
        trained_on: frozenset[str] = frozenset(),
    ) -> None:
        self.name, self.trained_on = name, trained_on
        self.answers, self.given = dict(answers), list[Context]()

    def predict(self, contexts: Sequence[Context]) -> list[Prediction]:
        self.given.extend(contexts)
        return [self.answers.get(c.id, Prediction({}, problem="none")) for c in contexts]


def dialogue(name: str, deltas: Sequence[State], words: str = "i want") -> list[Turn]:
    """Turns whose users say their deltas."""
    turns, state = [], dict[str, str]()
    for number, delta in enumerate(deltas):
        state = applied(state, delta)
        said = " ".join([words, *(f"{slot} {value}" for slot, value in delta.items())])
        turns.append(Turn(name, number, "what else ?" if number else "", said, dict(state), delta))
    return turns
