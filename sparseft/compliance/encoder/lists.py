"""The lists of examples as numbers, and their chains."""

from __future__ import annotations

from collections.abc import Sequence

from sparseft.compliance.encoder.chains import Chains, learn_chains
from sparseft.compliance.encoder.plan import FieldPlan
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Example

__all__ = ["learned_chains", "list_and_value"]


def list_and_value(
    example: Example, name: str, schema: Schema, plan: FieldPlan
) -> tuple[list[int], int]:
    """A list's true items, numbered from 1, and the number of the value that it is given, or 0."""
    field = schema[name]
    items = [field.choices.index(v) + 1 for v in field.canonical(example.gold[name])]
    if field.given is None:
        return items, 0
    value = schema[field.given].canonical(example.gold[field.given])
    return items, plan.values[field.given].index(value)


def learned_chains(
    schema: Schema, plan: FieldPlan, examples: Sequence[Example]
) -> dict[str, Chains]:
    """The chains of all lists, from training examples, with the usual settings."""
    found = {}
    for name in plan.layout.tags:
        field = schema[name]
        pairs = [list_and_value(example, name, schema, plan) for example in examples]
        values = 1 if field.given is None else len(plan.values[field.given])
        found[name] = learn_chains(
            [items for items, _ in pairs],
            [value for _, value in pairs],
            len(field.choices),
            values,
        )
    return found
