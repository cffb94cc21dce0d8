"""What a tracker knows of values: which need not be said, and how the annotation spells them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sparseft.errors import DataError
from sparseft.models.tracker import TrackerLayout
from sparseft.routing.states import DELETE
from sparseft.routing.turns import Turn
from sparseft.routing.values import DONTCARE, normalised

__all__ = ["Vocabulary", "learn_vocabulary"]

_FEW = 12  # values of a slot that can be chosen without being said
_SEEN = 2  # times, of a value that is to be chosen


@dataclass(frozen=True)
class Vocabulary:
    """Slots, their choices, and spellings.

    Attributes:
        choices: by slot the values that a turn may mean without saying them; each slot has
            `dontcare`, those with few values these too.
        spellings: by slot, and under "" for all slots together: a normalised value to how it is
            written most often.
    """

    choices: Mapping[str, tuple[str, ...]]
    spellings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def slots(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(self.choices)

    @property
    def layout(self) -> TrackerLayout:
        """What the model's head scores."""
        return TrackerLayout(self.choices)

    def known(self, text: str) -> bool:
        """Whether any slot has had the value that a normalised text is."""
        return text in self.spellings.get("", {})

    def spelled(self, slot: str, value: str) -> str:
        """How a slot writes what `value` means; an unknown value in its plain spelling."""
        plain = normalised(slot, value)
        own = self.spellings.get(slot, {})
        return own.get(plain) or self.spellings.get("", {}).get(plain) or plain

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return {
            "choices": {slot: list(values) for slot, values in self.choices.items()},
            "spellings": {slot: dict(sorted(own.items())) for slot, own in self.spellings.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Vocabulary:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, AttributeError: it is something else.
        """
        return cls(
            {str(slot): tuple(map(str, own)) for slot, own in content["choices"].items()},
            {str(slot): dict(own) for slot, own in content["spellings"].items()},
        )


def learn_vocabulary(turns: Iterable[Turn], separator: str | None = None) -> Vocabulary:
    """The vocabulary of training turns; slots in order of their names.

    Args:
        separator: of several accepted values.

    Raises:
        DataError: no turn changes a slot.
    """
    counts: dict[str, Counter[str]] = {}
    for turn in turns:
        for slot, text in turn.delta.items():
            values = text.split(separator) if separator else [text]
            counts.setdefault(slot, Counter()).update(values)
    if not counts:
        raise DataError(
            "expected training dialogues with turns that change a slot, got none; give dialogues "
            "with states."
        )
    choices: dict[str, tuple[str, ...]] = {}
    spellings: dict[str, dict[str, str]] = {}
    every: Counter[tuple[str, str]] = Counter()
    for slot in sorted(counts):
        written: dict[str, Counter[str]] = {}
        for value, count in counts[slot].items():
            if value not in (DELETE, DONTCARE):
                plain = normalised(slot, value)
                written.setdefault(plain, Counter())[value] += count
                every[plain, value] += count
        spellings[slot] = {plain: _commonest(own) for plain, own in written.items()}
        often = {plain for plain, own in written.items() if own.total() >= _SEEN}
        chosen = [spellings[slot][plain] for plain in sorted(often)] if len(written) <= _FEW else []
        taken = [DELETE] if counts[slot][DELETE] >= _SEEN else []
        choices[slot] = (DONTCARE, *taken, *chosen)
    together: dict[str, Counter[str]] = {}
    for (plain, value), count in every.items():
        together.setdefault(plain, Counter())[value] += count
    spellings[""] = {plain: _commonest(own) for plain, own in together.items()}
    return Vocabulary(choices, spellings)


def _commonest(counts: Counter[str]) -> str:
    return min(counts, key=lambda value: (-counts[value], value))
