"""How long an answer can get: the longest text that a schema's grammar admits."""

from __future__ import annotations

import math
from collections.abc import Iterable

# The standard library's own reading of a pattern; public until 3.10, under another name.
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from sparseft.compliance.fields import Field, dumps
from sparseft.compliance.schema import Schema
from sparseft.errors import ConfigError

__all__ = ["check_length", "longest_answer"]

_BYTES = 4  # of any character in UTF-8


def longest_answer(schema: Schema, transcript: str | None = None) -> int:
    """Bytes of the longest answer, and so a number of tokens that is always enough.

    Exact but for wildcards of free patterns, which count as four bytes each.

    Args:
        transcript: rendered, from which copied patterns take their texts; None admits every text
            of the pattern.

    Raises:
        ConfigError: a pattern without a longest match.
    """
    parts = [
        len(f"{dumps(field.name)}:".encode()) + _longest(field, transcript)
        for field in schema.model_fields
    ]
    return sum(parts) + len(parts) - 1 + len("{}")


def check_length(schema: Schema, most: int, transcript: str | None = None) -> None:
    """Refuse a cap that an answer might reach, before anything is decoded.

    Raises:
        ConfigError: `most` tokens may be too few.
    """
    longest = longest_answer(schema, transcript)
    if longest > most:
        raise ConfigError(
            f"expected room for {longest} tokens, the longest answer of the schema {schema.name}, "
            f"got {most}; allow more, or bound its patterns and lists."
        )


def _longest(field: Field, transcript: str | None) -> int:
    return max(_of_values(field, transcript), len("null") if field.nullable else 0)


def _of_values(field: Field, transcript: str | None) -> int:
    if field.kind == "boolean":
        return len("false")
    if field.kind in ("integer", "amount"):
        assert field.maximum is not None
        return len(field.text(field.maximum))
    if field.kind == "pattern":
        if field.copied and transcript is not None:
            found = field.candidates(transcript)
            return max((len(dumps(text).encode()) for text in found), default=0)
        return len('""') + _of_pattern(field)
    sizes = sorted((len(dumps(value).encode()) for value in field.choices), reverse=True)
    if field.kind == "enum":
        return sizes[0]
    if field.kind == "set":
        taken = sizes[: field.max_items]
    else:
        assert field.max_items is not None
        taken = sizes[:1] * field.max_items
    return len("[]") + sum(taken) + len(taken) - 1


def _of_pattern(field: Field) -> int:
    assert field.pattern is not None
    longest = _width(_parser.parse(field.pattern))
    if not math.isfinite(longest):
        raise ConfigError(
            f"expected {field.name}.pattern with bounded repeats such as {{1,20}}, got "
            f"{field.pattern!r}; change it, or give the transcript that it copies from."
        )
    return int(longest)


def _width(parts: Iterable[tuple[Any, Any]]) -> float:
    """Bytes of the longest match of a parsed pattern, infinite where there is none."""
    return sum(_width_of(str(kind), content) for kind, content in parts)


def _width_of(kind: str, content: Any) -> float:
    if kind == "LITERAL":
        return len(chr(content).encode())
    if kind == "RANGE":
        return len(chr(content[1]).encode())
    if kind in ("ANY", "NOT_LITERAL", "NEGATE", "CATEGORY"):
        return _BYTES
    if kind == "IN":
        return max(_width([each]) for each in content)
    if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        _, most, inner = content
        width = _width(inner)
        return 0 if not width else width * (math.inf if most == _parser.MAXREPEAT else most)
    if kind in ("SUBPATTERN", "ATOMIC_GROUP"):
        return _width(content[-1] if kind == "SUBPATTERN" else content)
    if kind == "BRANCH":
        return max(_width(each) for each in content[1])
    # Places such as ^ and $ are empty; anything else a grammar refuses.
    return 0 if kind in ("AT", "ASSERT", "ASSERT_NOT") else math.inf
