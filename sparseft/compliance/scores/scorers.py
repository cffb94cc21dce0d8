"""How right one value is: a scorer for each kind of field, and a registry for a schema's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from sparseft.compliance.fields import KINDS, Field
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Json
from sparseft.errors import ConfigError

__all__ = [
    "AMOUNT_TOLERANCE",
    "Scorer",
    "check_scorers",
    "edit_similarity",
    "register_scorer",
    "scorer",
    "scorer_names",
    "scorer_of",
    "set_f1",
]

AMOUNT_TOLERANCE = 0.01

# (gold, predicted) -> a figure, or None where there is none for these two.
Measure = Callable[[Json, Json], float | None]
Score = Callable[[Json, Json], float]


@dataclass(frozen=True)
class Scorer:
    """What a field is scored by.

    Both values that `score` sees are canonical. A value is *right* where its score is 1.

    Attributes:
        score: (gold, predicted) -> [0, 1]; its mean over transcripts is the field's accuracy.
        kinds: of fields that it can score.
        beside: further figures, reported as means over the transcripts that have them.
    """

    name: str
    score: Score
    kinds: tuple[str, ...] = tuple(KINDS)
    beside: Mapping[str, Measure] = field(default_factory=dict)


_SCORERS: dict[str, Scorer] = {}

_OF_KIND = {
    "boolean": "exact",
    "enum": "exact",
    "pattern": "exact",
    "amount": "amount",
    "integer": "integer",
    "set": "set_f1",
    "list": "list",
}


def register_scorer(new: Scorer) -> Scorer:
    """Make a scorer known by its name; a schema's file then names it at `scorer`.

    Raises:
        ConfigError: the name is another scorer's, or it names an unknown kind.
    """
    unknown = [kind for kind in new.kinds if kind not in KINDS]
    if unknown:
        raise ConfigError(
            f"expected {new.name}.kinds of {', '.join(KINDS)}, got {unknown[0]!r}; change it."
        )
    if new.name == "auto" or _SCORERS.setdefault(new.name, new) is not new:
        raise ConfigError(f"expected a new scorer name, got {new.name!r} again; rename it.")
    return new


def scorer_names() -> tuple[str, ...]:
    """All registered scorers, sorted."""
    return tuple(sorted(_SCORERS))


def scorer(name: str) -> Scorer:
    """The scorer of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name not in _SCORERS:
        raise ConfigError(
            f"expected a scorer of auto, {', '.join(scorer_names())}, got {name!r}; change the "
            "schema, or register the scorer before."
        )
    return _SCORERS[name]


def scorer_of(of: Field) -> Scorer:
    """The scorer of a field; "auto" is the one of its kind.

    Raises:
        ConfigError: the field names an unknown one, or one of other kinds.
    """
    found = scorer(_OF_KIND[of.kind] if of.scorer == "auto" else of.scorer)
    if of.kind not in found.kinds:
        raise ConfigError(
            f"expected a scorer of {of.kind} for {of.name}, got {found.name}, which scores "
            f"{', '.join(found.kinds)}; change {of.name}.scorer."
        )
    return found


def check_scorers(schema: Schema) -> Mapping[str, Scorer]:
    """The scorer of each field.

    Raises:
        ConfigError: a field names one that is unknown or of other kinds.
    """
    return MappingProxyType({each.name: scorer_of(each) for each in schema.fields})


def set_f1(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """F1 of two sets; two empty ones agree."""
    wanted, said = set(gold), set(predicted)
    if not wanted and not said:
        return 1.0
    return 2 * len(wanted & said) / (len(wanted) + len(said))


def edit_similarity(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """1 − Levenshtein distance / the longer length; two empty lists agree."""
    longest = max(len(gold), len(predicted))
    if not longest:
        return 1.0
    row = list(range(len(predicted) + 1))
    for place, wanted in enumerate(gold, start=1):
        diagonal, row[0] = row[0], place
        for column, said in enumerate(predicted, start=1):
            changed = diagonal + (wanted != said)
            diagonal = row[column]
            row[column] = min(row[column] + 1, row[column - 1] + 1, changed)
    return 1.0 - row[-1] / longest


def _exact(gold: Json, predicted: Json) -> float:
    # True == 1 in Python, but not in JSON.
    return float(type(gold) is type(predicted) and gold == predicted)


def _amount(gold: Json, predicted: Json) -> float:
    if gold is None or predicted is None:
        return float(gold is predicted)
    # The slack is that of binary fractions: 0.03 - 0.02 counts as 0.01.
    return float(abs(gold - predicted) <= AMOUNT_TOLERANCE + 1e-9)


def _absolute_error(gold: Json, predicted: Json) -> float | None:
    return None if gold is None or predicted is None else float(abs(gold - predicted))


def _set_exact(gold: Json, predicted: Json) -> float:
    return float(set(gold) == set(predicted))


for _each in (
    Scorer("exact", _exact),
    Scorer("amount", _amount, ("amount",), {"mae": _absolute_error}),
    Scorer("integer", _exact, ("integer",), {"mae": _absolute_error}),
    Scorer("set_f1", set_f1, ("set",), {"exact": _set_exact}),
    Scorer("list", _exact, ("list",), {"similarity": edit_similarity}),
    Scorer("list_similarity", edit_similarity, ("list",), {"exact": _exact}),
):
    register_scorer(_each)
