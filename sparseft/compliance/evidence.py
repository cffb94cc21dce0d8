"""Where the model's values stand in the turns: copied texts, amounts, and named values.

The model says values, not places. What stands in the text word for word, or in another spelling
of the same letters and digits, is found here; a value that only follows from the text has no
place, and gets none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from sparseft.compliance.fields import Field
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Evidence, Json, Transcript

__all__ = ["locate"]

_MOST_PLACES = 8  # for each field; more would mark the whole conversation
_LEAST_LETTERS = 4  # of a value that is looked for by its letters; "no" stands everywhere
_SAYS_NOTHING = frozenset({"none", "other", "unknown", "null", "true", "false"})
_BEFORE, _AFTER = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
# At most three signs between two letters: enough for "AC - 4412", and no long search.
_BETWEEN = r"[\s\-._/(),#]{0,3}"
_CURRENCY = r"(?:usd|eur|gbp|dollars?|euros?|pounds?|bucks)\b"
# Digits in groups of three may have commas; lengths are bounded for the same reason.
_NUMBER = re.compile(
    r"(?<![\w.,])(?P<sign>[$€£]\s?)?"
    r"(?P<number>(?:\d{1,3}(?:,\d{3}){1,4}|\d{1,12})(?:\.\d{1,6})?)(?![\d])"
    rf"(?P<unit>\s?(?:[$€£]|{_CURRENCY}))?",
    re.IGNORECASE,
)


def locate(
    schema: Schema, transcript: Transcript, values: Mapping[str, Json]
) -> dict[str, tuple[Evidence, ...]]:
    """Places of the model's values, at most eight for each field, in the order of the text.

    - A pattern is looked for as it is, without regard to case and runs of blanks; where it does not
      stand so, its letters and digits with up to three other signs between two of them ("AC 44-12"
      for AC-4412).
    - An amount matches numbers that are equal to it when rounded to its decimals; a whole amount
      only those with a currency or with decimals, unless there are none such.
    - Values of enums, sets and lists are looked for as words, `_` being any one sign or blank.
      Those of fewer than four letters, and words such as "none" and "other", are not.
    - Booleans and integers have no places.

    Args:
        values: of the schema's model fields; fields that are missing or null have no places.

    Returns:
        By field name; fields without a place are left out.
    """
    found: dict[str, tuple[Evidence, ...]] = {}
    for field in schema.model_fields:
        value = values.get(field.name)
        if value is None:
            continue
        places = sorted(_places(field, transcript, value), key=lambda e: (e.turn, e.start, e.end))
        if places:
            found[field.name] = tuple(places[:_MOST_PLACES])
    return found


def _places(field: Field, transcript: Transcript, value: Json) -> list[Evidence]:
    if field.kind == "pattern":
        exact = _matches(transcript, _flexible(str(value), r"\s+"))
        return exact or _matches(transcript, _loose(str(value)))
    if field.kind == "amount":
        return _amounts(transcript, float(value), field.decimals)
    if field.kind in ("enum", "set", "list"):
        items = [value] if field.kind == "enum" else list(dict.fromkeys(value))
        return [e for item in items for e in _matches(transcript, _words(str(item)))]
    return []


def _flexible(text: str, blanks: str) -> str:
    return blanks.join(re.escape(part) for part in text.split())


def _loose(text: str) -> str | None:
    letters = [sign for sign in text if sign.isalnum() or sign == "@"]
    if len(letters) < _LEAST_LETTERS:
        return None
    return _BETWEEN.join(map(re.escape, letters))


def _words(text: str) -> str | None:
    words = [word for word in re.split(r"[\W_]+", text) if word]
    plain = "".join(words)
    if len(plain) < _LEAST_LETTERS or plain.lower() in _SAYS_NOTHING:
        return None
    return r"[\s\-_/]".join(map(re.escape, words))


def _matches(transcript: Transcript, pattern: str | None) -> list[Evidence]:
    if not pattern:
        return []
    compiled = re.compile(f"{_BEFORE}{pattern}{_AFTER}", re.IGNORECASE)
    places = (
        Evidence(number, match.start(), match.end())
        for number, turn in enumerate(transcript.turns)
        for match in compiled.finditer(turn.text)
    )
    return _first(places)


def _amounts(transcript: Transcript, value: float, decimals: int) -> list[Evidence]:
    marked: list[Evidence] = []
    bare: list[Evidence] = []
    for number, turn in enumerate(transcript.turns):
        for match in _NUMBER.finditer(turn.text):
            said = float(match["number"].replace(",", ""))
            if not math.isclose(round(said, decimals), value, abs_tol=10.0**-decimals / 2):
                continue
            is_money = match["sign"] or match["unit"] or "." in match["number"]
            place = Evidence(number, match.start(), match.end())
            (marked if is_money else bare).append(place)
    return _first(iter(marked or bare))


def _first(places: Iterator[Evidence]) -> list[Evidence]:
    return [place for _, place in zip(range(_MOST_PLACES), places, strict=False)]
