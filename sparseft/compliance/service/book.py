"""The procedure book, read from `book.yaml`: what each sensitive action needs, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

__all__ = ["Book", "Need", "load_book", "parse_book"]


@dataclass(frozen=True)
class Need:
    """A step that an action needs; every condition that is set must hold for it to be due.

    Attributes:
        amount_above: dollars.
        origin: who brought the money up.
        fee: whether a fee applies.
        before: another step that it must come before, too.
    """

    step: str
    amount_above: float | None = None
    origin: str | None = None
    fee: bool | None = None
    before: str | None = None

    def due(self, amount: float | None, origin: str, fee: float | None) -> bool:
        """Whether the step is needed. An unknown amount of money is not above a limit."""
        if self.amount_above is not None and (amount is None or amount <= self.amount_above):
            return False
        if self.origin is not None and origin != self.origin:
            return False
        return self.fee is None or self.fee == (fee is not None)

    def why(self) -> str:
        """The condition in words; "" without one."""
        parts = []
        if self.amount_above is not None:
            parts.append(f"above {self.amount_above:.2f}")
        if self.origin is not None:
            parts.append(f"asked for by the {self.origin}")
        if self.fee is not None:
            parts.append("with a fee" if self.fee else "without a fee")
        return ", ".join(parts)


@dataclass(frozen=True)
class Book:
    """Needs by sensitive action, in the book's order."""

    actions: Mapping[str, tuple[Need, ...]]

    def missing(
        self, steps: Sequence[str], amount: float | None, origin: str, fee: float | None
    ) -> list[tuple[str, Need]]:
        """Actions of `steps` that lack a step, and which; in order, each pair once."""
        found: list[tuple[str, Need]] = []
        for place, action in enumerate(steps):
            for need in self.actions.get(action, ()):
                if not need.due(amount, origin, fee):
                    continue
                before = list(steps[:place])
                if need.before in before:
                    before = before[: before.index(need.before)]
                if need.step not in before and (action, need) not in found:
                    found.append((action, need))
        return found


@cache
def load_book() -> Book:
    """The shipped procedure book."""
    folder = resources.files("sparseft.compliance.service")
    return parse_book((folder / "book.yaml").read_text(encoding="utf-8"))


def parse_book(text: str) -> Book:
    """A procedure book from the text of its file."""
    content = yaml.safe_load(text)
    return Book(
        {
            action: tuple(Need(**need) for need in entry["needs"])
            for action, entry in content["actions"].items()
        }
    )
