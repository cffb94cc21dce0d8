"""What is evaluated: a conversation, its turns, and places in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sparseft.errors import DataError

__all__ = ["Evidence", "Example", "Json", "Speaker", "Transcript", "Turn"]

Json = Any  # what json.loads gives: None, bool, int, float, str, list, dict
Speaker = Literal["agent", "customer", "unknown"]

_SPEAKERS = ("agent", "customer", "unknown")


@dataclass(frozen=True)
class Turn:
    """What one side said. `unknown` where the source does not say who spoke."""

    speaker: Speaker
    text: str


@dataclass(frozen=True)
class Evidence:
    """A stretch of one turn's text: `turns[turn].text[start:end]`."""

    turn: int
    start: int
    end: int


@dataclass(frozen=True)
class Transcript:
    """A conversation. `id` names it in every output."""

    id: str
    turns: tuple[Turn, ...]

    @classmethod
    def from_json(cls, value: Json, default_id: str = "") -> Transcript:
        """Read `{"id": …, "turns": [{"speaker": …, "text": …}, …]}` or `{"id": …, "text": …}`.

        A `text` becomes one turn of an unknown speaker. Other keys are left alone.

        Raises:
            DataError: neither form, an unknown speaker, or a text that is none.
        """
        if not isinstance(value, Mapping):
            raise DataError(
                f"expected a transcript as a JSON object, got {type(value).__name__}; "
                'write {"id": …, "turns": [{"speaker": "agent", "text": …}, …]}.'
            )
        name = value.get("id", default_id)
        if not isinstance(name, (str, int)) or isinstance(name, bool):
            raise DataError(f"expected the transcript's id to be a text, got {name!r}; change it.")
        text, turns = value.get("text"), value.get("turns")
        if turns is None and isinstance(text, str):
            return cls(str(name), (Turn("unknown", text),))
        if not isinstance(turns, Sequence) or isinstance(turns, str):
            raise DataError(
                f'expected "turns" (a list) or "text" in transcript {name!r}, got neither; '
                "add one of them."
            )
        return cls(
            str(name), tuple(_turn(turn, place, str(name)) for place, turn in enumerate(turns))
        )

    def to_json(self) -> dict[str, Json]:
        """What `from_json` reads."""
        turns = [{"speaker": turn.speaker, "text": turn.text} for turn in self.turns]
        return {"id": self.id, "turns": turns}

    def render(self) -> str:
        """One line per turn, `speaker: text`; without a name where the speaker is unknown.

        Line breaks and runs of blanks inside a turn become one blank, so that a turn's text cannot
        pretend to be another turn.
        """
        lines = []
        for turn in self.turns:
            text = " ".join(turn.text.split())
            lines.append(text if turn.speaker == "unknown" else f"{turn.speaker}: {text}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Example:
    """A transcript with the true value of every field.

    Attributes:
        gold: by field name; all fields of the schema.
        evidence: where the turns show the gold, by field, for some fields or none: for a list or
            set one stretch for each item of the canonical gold, in order; for others any number.
            A reader of segments learns from it.
        tags: how it was made, such as ("refund", "verification_after"); for reports only.
        group: examples of one origin share it (a template, an original of a hard negative); they
            never lie in different splits.
    """

    transcript: Transcript
    gold: Mapping[str, Json]
    tags: tuple[str, ...] = ()
    group: str = ""
    evidence: Mapping[str, tuple[Evidence, ...]] = field(default_factory=dict)


def _turn(value: Json, place: int, name: str) -> Turn:
    speaker = value.get("speaker", "unknown") if isinstance(value, Mapping) else None
    text = value.get("text") if isinstance(value, Mapping) else None
    if speaker not in _SPEAKERS or not isinstance(text, str):
        raise DataError(
            f"expected turn {place} of transcript {name!r} to be an object with a text and a "
            f"speaker of {', '.join(_SPEAKERS)}, got {str(value)[:80]!r}; change it."
        )
    return Turn(speaker, text)
