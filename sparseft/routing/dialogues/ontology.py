"""What can be arranged in the built-in dialogues, and how a value is spoken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random

import yaml

__all__ = ["DAYS", "Slot", "domains", "noun", "slots_of", "spoken", "spoken_forms"]

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TIMES = tuple(f"{hour:02d}:{minute:02d}" for hour in range(8, 20) for minute in (0, 30))
_NUMBERS = tuple(str(number) for number in range(2, 9))
_HOURS = "one two three four five six seven eight nine ten eleven twelve"
_WORDS = {str(number): word for number, word in enumerate(_HOURS.split(), start=1)}


@dataclass(frozen=True)
class Slot:
    """A slot of the built-in dialogues.

    Attributes:
        name: `domain-slot`.
        kind: day, time, number, name or word.
        thing: what a speaker calls it.
        about: its description.
        values: in the gold's spelling.
    """

    name: str
    kind: str
    thing: str
    about: str
    values: tuple[str, ...]


@cache
def _content() -> Mapping[str, Mapping[str, object]]:
    file = resources.files("sparseft.routing.dialogues") / "ontology.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def domains() -> tuple[str, ...]:
    """Their names."""
    return tuple(_content())


def noun(domain: str) -> str:
    """What a speaker calls something of that domain."""
    return str(_content()[domain]["noun"])


@cache
def slots_of(domain: str) -> tuple[Slot, ...]:
    """The slots of a domain."""
    always = {"day": DAYS, "time": _TIMES, "number": _NUMBERS}
    content = _content()[domain]["slots"]
    assert isinstance(content, dict)
    return tuple(
        Slot(
            f"{domain}-{name}",
            facts["kind"],
            facts["thing"],
            facts["about"],
            tuple(facts["values"]) if "values" in facts else always[facts["kind"]],
        )
        for name, facts in content.items()
    )


def spoken_forms(slot: Slot, value: str) -> tuple[str, ...]:
    """All ways to say a value outright."""
    if slot.kind == "time":
        return _clock_forms(value)
    if slot.kind == "number":
        return value, _WORDS[value]
    if slot.kind == "word":
        return (value,)
    return (" ".join(word.capitalize() for word in value.split()),)


def spoken(random: Random, slot: Slot, value: str) -> str:
    """One of them."""
    return random.choice(spoken_forms(slot, value))


def _clock_forms(value: str) -> tuple[str, ...]:
    hour, minute = int(value[:2]), int(value[3:])
    short = (hour - 1) % 12 + 1
    half = "pm" if hour >= 12 else "am"
    phase = "morning" if hour < 12 else "afternoon" if hour < 18 else "evening"
    word = _WORDS[str(short)]
    if minute == 30:
        return value, f"{short}:30 {half}", f"half past {word} in the {phase}"
    return value, f"{short} {half}", f"{word} in the {phase}"
