"""An expert's text read strictly: one JSON object of the slots that a turn changes."""

from __future__ import annotations

import re
from collections.abc import Container

from sparseft.compliance.jsonl import strict_json
from sparseft.errors import DataError

__all__ = ["MalformedAnswer", "parse_answer"]

_FENCED = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL | re.IGNORECASE)


class MalformedAnswer(DataError):
    """A text that is no JSON object of slots and values; asking again may help."""


def parse_answer(text: str, slots: Container[str]) -> dict[str, str]:
    """The delta that a text says.

    One code fence around the object is tolerated, words around it are not. Whole numbers become
    texts, as models write "2" and 2 for the same thing; spaces around a value are dropped.

    Args:
        text: of the model.
        slots: names that are known.

    Raises:
        MalformedAnswer: no JSON object, a repeated slot, or a value that is neither a text with
            content nor a whole number.
        DataError: a slot that is not known.
    """
    stripped = text.strip()
    fenced = _FENCED.match(stripped)
    content = fenced.group(1) if fenced else stripped
    try:
        # A text may hold halves of surrogate pairs; strict_json refuses what it cannot read.
        value = strict_json(content.encode("utf-8", "surrogatepass"), "one JSON object")
    except DataError as error:
        raise MalformedAnswer(str(error)) from error
    if not isinstance(value, dict):
        raise MalformedAnswer(
            f"expected one JSON object of slots and values, got {content[:80]!r}; correct it."
        )
    unknown = sorted(slot for slot in value if slot not in slots)
    if unknown:
        raise DataError(
            f"expected slots that the prompt lists, got {unknown[0]!r}; give it a description if "
            "it is one, or take a model that keeps to the list."
        )
    return {slot: _value(slot, content) for slot, content in value.items()}


def _value(slot: str, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise MalformedAnswer(
        f"expected a text with content for {slot!r}, got {value!r}; write the value as a string."
    )
