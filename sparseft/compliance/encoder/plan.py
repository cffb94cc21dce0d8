"""Which part of a reader of segments gives which field of a schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparseft.compliance.fields import Field
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Json
from sparseft.errors import ConfigError
from sparseft.models.segments import SegmentLayout

__all__ = ["FieldPlan", "plan_of"]

_MOST_NUMBERS = 64  # values of an integer


@dataclass(frozen=True)
class FieldPlan:
    """How a schema's model fields are read.

    Attributes:
        layout: of the model's head.
        values: by choice its values, in the order of the head's columns.
    """

    layout: SegmentLayout
    values: dict[str, tuple[Json, ...]]


def plan_of(schema: Schema, neighbours: bool = False) -> FieldPlan:
    """Lists are tags, sets and booleans labels, enums and integers choices, the rest pointers.

    Args:
        neighbours: see `SegmentLayout`.

    Raises:
        ConfigError: a field cannot be read so; the message says what to change.
    """
    tags: dict[str, int] = {}
    labels: dict[str, int] = {}
    values: dict[str, tuple[Json, ...]] = {}
    pointers: list[str] = []
    for field in schema.model_fields:
        if field.kind == "list":
            tags[field.name] = len(field.choices)
        elif field.kind == "set":
            labels[field.name] = len(field.choices)
        elif field.kind == "boolean" and not field.nullable:
            labels[field.name] = 1
        elif field.kind in ("boolean", "enum", "integer"):
            values[field.name] = tuple(_choices(field))
        else:
            if field.kind == "pattern" and not field.nullable:
                raise ConfigError(
                    f"expected {field.name} to be nullable where an encoder reads, since a "
                    "transcript may hold no text to copy; add nullable: true."
                )
            pointers.append(field.name)
    if not (tags or labels or values or pointers):
        raise ConfigError(
            f"expected a field by: model in the schema {schema.name}, got none; nothing is learned."
        )
    choices = {name: len(own) for name, own in values.items()}
    return FieldPlan(SegmentLayout(tags, labels, choices, tuple(pointers), neighbours), values)


def _choices(field: Field) -> Sequence[Json]:
    own: list[Json] = list(field.choices)
    if field.kind == "boolean":
        own = [True, False]
    elif field.kind == "integer":
        assert field.minimum is not None and field.maximum is not None
        own = list(range(int(field.minimum), int(field.maximum) + 1))
        if len(own) > _MOST_NUMBERS:
            raise ConfigError(
                f"expected at most {_MOST_NUMBERS} values of the integer {field.name} where an "
                f"encoder reads, got {len(own)}; narrow its bounds, or let a rule give it."
            )
    return [*own, None] if field.nullable else own
