"""The rules of the schema `appointments`: dates of birth, dangerous symptoms, and their triage.

They can add a symptom and raise the alarm, and never take either away: a caller in danger who is
overlooked is worse than one who is looked at twice.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping

from sparseft.compliance.rules import Finding, rule
from sparseft.compliance.transcript import Evidence, Json, Transcript

__all__ = ["birth_date", "identity", "symptoms", "triage"]

Values = Mapping[str, Json]

_DATE = re.compile(r"(?<!\w)[0-9]{2}/[0-9]{2}/[0-9]{4}(?!\w)")
_CHANGED = ("booked", "moved", "cancelled")

# Spelled as callers do; each is enough by itself.
_RED_FLAGS = {
    "chest": (
        r"chest (?:pains?|pressure|tightness)",
        r"(?:pain|pressure|tightness) in (?:my|his|her|the) chest",
        r"(?:my|his|her) chest (?:hurts|is tight)",
    ),
    "breath": (
        r"(?:can't|cannot|can hardly|struggling to|hard to) (?:breathe|get (?:any )?air)",
        r"short(?:ness)? of breath",
        r"(?:out of breath|breathless)",
    ),
    "stroke": (
        r"(?:face|mouth) (?:is|has been|looks) (?:drooping|droopy)",
        r"(?:drooping|droopy) (?:face|mouth)",
        r"slurr(?:ed|ing)",
        r"(?:can't|cannot) (?:lift|move) (?:my|his|her) arm",
    ),
    "bleeding": (
        r"(?:bleeding|blood) (?:that )?(?:won't|will not|doesn't|does not|hasn't) stop(?:ped)?",
        r"(?:can't|cannot) stop the bleeding",
    ),
    "fainting": (
        r"(?:passed|passing|blacked) out",
        r"(?:fainted|unconscious)",
        r"(?:can't|cannot|won't) (?:be woken|wake (?:up|him|her))",
    ),
    "self_harm": (
        r"suicid(?:e|al)",
        r"(?:kill|hurt|harm)(?:ing)? (?:myself|himself|herself)",
        r"end (?:my|his|her) life",
    ),
}


def _spoken(pattern: str) -> re.Pattern[str]:
    # Either apostrophe, and not inside a longer word.
    return re.compile(rf"(?<!\w)(?:{pattern})".replace("'", "['’]"), re.IGNORECASE)


_SPOKEN = {name: _spoken(rf"(?:{'|'.join(ways)})(?!\w)") for name, ways in _RED_FLAGS.items()}
# "No chest pain", "no cough or chest pain", "has not passed out": the words just before.
_DENIED = _spoken(
    r"(?:no|not|never|without|isn't|wasn't|hasn't|haven't|doesn't|don't|didn't)"
    r"(?:(?:\s+\w+){0,2}|(?:\s+\w+){0,4}\s+n?or)\s*\Z"
)
_CLAUSE = re.compile(r"[.,;!?]|(?<!\w)(?:but|though)(?!\w)", re.IGNORECASE)


@rule("appointments.birth_date")
def birth_date(transcript: Transcript, values: Values) -> Finding | None:
    """The caller's last date that the calendar has; an impossible one of the model is dropped."""
    found = [each for each in _dates(transcript) if _possible(each[0])]
    if found:
        text, place = found[-1]
        several = len({each for each, _ in found}) > 1
        return Finding(text, "the last date of the caller" if several else "the date", (place,))
    if values["birth_date"] is not None and not _possible(values["birth_date"]):
        return Finding(None, f"{values['birth_date']} is in no calendar")
    return None


@rule("appointments.symptoms")
def symptoms(transcript: Transcript, values: Values) -> Finding | None:
    """Adds the dangerous symptoms that the caller names and does not deny."""
    said = dict(_named(transcript))
    if not said:
        return None
    names = [name for name in _RED_FLAGS if name in said or name in values["symptoms"]]
    return Finding(names, f"the caller speaks of {', '.join(said)}", tuple(said.values()))


@rule("appointments.identity")
def identity(_: Transcript, values: Values) -> Finding:
    """A changed appointment needs the patient's date of birth."""
    if values["outcome"] not in _CHANGED:
        return Finding("na", "no appointment was changed")
    if values["birth_date"] is None:
        return Finding("missing", f"{values['outcome']} without a date of birth")
    return Finding("given", f"{values['outcome']} with a date of birth")


@rule("appointments.triage")
def triage(_: Transcript, values: Values) -> Finding | None:
    """Raises an alarm where symptoms went nowhere; never lowers one that the model raised."""
    if not values["symptoms"] or values["advice"] != "none":
        return None
    return Finding("missed", f"no urgent help for {', '.join(values['symptoms'])}")


def _dates(transcript: Transcript) -> Iterator[tuple[str, Evidence]]:
    for place, turn in enumerate(transcript.turns):
        if turn.speaker != "agent":
            for match in _DATE.finditer(turn.text):
                yield match.group(), Evidence(place, match.start(), match.end())


def _possible(date: str) -> bool:
    day, month, year = map(int, date.split("/"))
    try:
        return datetime.date(year, month, day).year >= 1900
    except ValueError:
        return False


def _named(transcript: Transcript) -> Iterator[tuple[str, Evidence]]:
    """Symptoms and where they are named first."""
    for name, pattern in _SPOKEN.items():
        for place, turn in enumerate(transcript.turns):
            matches = [] if turn.speaker == "agent" else pattern.finditer(turn.text)
            match = next((m for m in matches if not _denied(turn.text, m.start())), None)
            if match is not None:
                yield name, Evidence(place, match.start(), match.end())
                break


def _denied(text: str, start: int) -> bool:
    before = text[max(0, start - 80) : start]
    return _DENIED.search(_CLAUSE.split(before)[-1]) is not None
