"""Whether a text is a valid answer: strict JSON that the JSON Schema accepts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import jsonschema

from sparseft.compliance.fields import dumps
from sparseft.compliance.record import Record
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Json

__all__ = ["answer_checker", "record_flags", "validity_flags"]


def answer_checker(schema: Schema, whole: bool = False) -> Callable[[str], bool]:
    """A function that says whether a text is valid.

    Strict: one JSON object, no NaN or infinity, no key twice, exactly the schema's fields, each as
    the JSON Schema says. The order of the keys is free.

    Args:
        whole: the text holds all fields, and not only the model's.
    """
    content = schema.json_schema()
    names = schema.names if whole else tuple(field.name for field in schema.model_fields)
    content["properties"] = {name: content["properties"][name] for name in names}
    content["required"] = list(names)
    validator: Any = jsonschema.Draft202012Validator(content)

    def is_valid(text: str) -> bool:
        try:
            value = json.loads(text, parse_constant=_refused, object_pairs_hook=_no_repeats)
        except (ValueError, RecursionError):
            return False
        return bool(validator.is_valid(value))

    return is_valid


def validity_flags(schema: Schema, given: Sequence[str | bool]) -> list[bool]:
    """Flags as they are, texts of the model checked."""
    check = answer_checker(schema)
    return [check(each) if isinstance(each, str) else bool(each) for each in given]


def record_flags(schema: Schema, records: Sequence[Record]) -> list[bool]:
    """Whether each record, written as JSON and read back, follows the JSON Schema."""
    check = answer_checker(schema, whole=True)
    return [not record.error and check(_written(record)) for record in records]


def _written(record: Record) -> str:
    try:
        return dumps(record.values())
    except (TypeError, ValueError):
        return ""


def _refused(name: str) -> Json:
    raise ValueError(f"{name} is no JSON")


def _no_repeats(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key occurs twice")
    return content
