"""The kinds of a field: what a value is, how it is written, and how a grammar spells it.

Each kind knows its JSON Schema, checks a value, brings it to its canonical form (the one that
training, decoding and scoring share) and gives the rule of a Lark grammar that admits exactly the
canonical JSON texts of its values.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sparseft.compliance.transcript import Json
from sparseft.errors import ConfigError

__all__ = ["KINDS", "Field", "Kind", "dumps"]

_MAX_CANDIDATES = 64


def dumps(value: Json) -> str:
    """The one JSON text of a value: no blanks, Unicode as it is."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@dataclass(frozen=True)
class Field:
    """One field of a schema, as its file declares it.

    Attributes:
        kind: boolean, enum, pattern, amount, integer, set or list.
        values: of enum, set and list; with a description each, perhaps empty.
        pattern: of pattern: a regular expression that the whole text must match.
        copied: of pattern: the model may only copy a text of the transcript that matches.
        case: of pattern: upper, lower or keep; the canonical form.
        minimum, maximum: of amount and integer, inclusive.
        decimals: of amount.
        max_items: of set and list.
        given: of list: a model field of few values that the list depends on; the two are read
            together.
        by: "model" or "rule": who says the value first.
        rule: name of the rule that gives it, or that may replace the model's.
        rule_below: of a field by the model: the rule has a say only where the model's calibrated
            probability is lower; None: always.
        scorer: name of its scorer; "auto" is the kind's own.
    """

    name: str
    kind: str
    description: str = ""
    nullable: bool = False
    values: Mapping[str, str] | None = None
    pattern: str | None = None
    copied: bool = False
    case: str = "keep"
    minimum: float | None = None
    maximum: float | None = None
    decimals: int = 2
    max_items: int | None = None
    given: str | None = None
    by: str = "model"
    rule: str | None = None
    rule_below: float | None = None
    scorer: str = "auto"

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of an enum, set or list, in the schema's order."""
        return tuple(self.values or ())

    def json_schema(self) -> dict[str, Json]:
        """Of the field alone."""
        content = KINDS[self.kind].json_schema(self)
        if self.description:
            content["description"] = self.description
        if not self.nullable:
            return content
        if "enum" in content:
            return {**content, "type": [content["type"], "null"], "enum": [*content["enum"], None]}
        return {**content, "type": [content["type"], "null"]}

    def canonical(self, value: Json) -> Json:
        """The value in its canonical form.

        Raises:
            ConfigError: it is no value of this field.
        """
        if value is None and self.nullable:
            return None
        try:
            return KINDS[self.kind].canonical(self, value)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"expected {self.name} to be {KINDS[self.kind].expected(self)}"
                f"{' or null' if self.nullable else ''}, got {value!r}; change it."
            ) from error

    def text(self, value: Json) -> str:
        """The canonical JSON text of a value."""
        value = self.canonical(value)
        if self.kind == "amount" and value is not None:
            return f"{value:.{self.decimals}f}"
        return dumps(value)

    def candidates(self, transcript: str) -> list[str]:
        """Of a copied pattern: the different canonical texts found, in order of first occurrence.

        Args:
            transcript: the rendered conversation.
        """
        assert self.pattern is not None
        # Not inside a longer run of letters or digits: no half of another id.
        found = re.finditer(rf"(?<![A-Za-z0-9])(?:{self.pattern})(?![A-Za-z0-9])", transcript)
        if self.case != "keep":
            flags = re.IGNORECASE
            found = re.finditer(
                rf"(?<![A-Za-z0-9])(?:{self.pattern})(?![A-Za-z0-9])", transcript, flags
            )
        texts = dict.fromkeys(_cased(self, match.group()) for match in found)
        fitting = [text for text in texts if re.fullmatch(self.pattern, text)]
        return fitting[:_MAX_CANDIDATES]

    def grammar(self, transcript: str | None = None) -> list[str]:
        """Lines of a Lark grammar; the first defines the rule `f_<name>`.

        Args:
            transcript: the rendered conversation, from which copied patterns take their texts;
                None admits every text of the pattern.
        """
        rule = f"f_{self.name}"
        body, more = KINDS[self.kind].grammar(self, rule, transcript)
        if self.nullable:
            body = f'{body} | "null"' if body else '"null"'
        return [f"{rule}: {body}", *more]


@dataclass(frozen=True)
class Kind:
    """What differs between the kinds of fields; each part is a function of the field."""

    json_schema: Callable[[Field], dict[str, Json]]
    canonical: Callable[[Field, Json], Json]
    expected: Callable[[Field], str]
    grammar: Callable[[Field, str, str | None], tuple[str, list[str]]]


def _quoted(text: str) -> str:
    """A Lark string literal of a JSON text."""
    return json.dumps(text, ensure_ascii=False)


def _cased(field: Field, text: str) -> str:
    return {"upper": text.upper(), "lower": text.lower(), "keep": text}[field.case]


# boolean


def _boolean(_: Field, value: Json) -> Json:
    if not isinstance(value, bool):
        raise TypeError
    return value


# enum


def _enum(field: Field, value: Json) -> Json:
    if not isinstance(value, str) or value not in field.choices:
        raise ValueError
    return value


def _alternatives(field: Field) -> str:
    return " | ".join(_quoted(dumps(value)) for value in field.choices)


# pattern


def _pattern(field: Field, value: Json) -> Json:
    if not isinstance(value, str):
        raise TypeError
    text = _cased(field, value)
    if re.fullmatch(field.pattern or "", text) is None:
        raise ValueError
    return text


def _pattern_grammar(field: Field, rule: str, transcript: str | None) -> tuple[str, list[str]]:
    if field.copied and transcript is not None:
        texts = [_quoted(dumps(text)) for text in field.candidates(transcript)]
        if not texts and not field.nullable:
            raise ConfigError(
                f"expected {field.name} with copied: true to be nullable, since a transcript may "
                "hold no text to copy; add nullable: true."
            )
        return " | ".join(texts), []
    inner = (field.pattern or "").replace("/", r"\/")
    return f"{rule.upper()}", [f'{rule.upper()}: /"(?:{inner})"/']


# numbers


def _bounds(field: Field) -> str:
    return f"from {field.minimum:g} to {field.maximum:g}"


def _integer(field: Field, value: Json) -> Json:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return _within(field, value)


def _amount(field: Field, value: Json) -> Json:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError
    return _within(field, round(float(value), field.decimals))


def _within(field: Field, value: float) -> float:
    assert field.minimum is not None and field.maximum is not None
    if not field.minimum <= value <= field.maximum:
        raise ValueError
    return value


def _integer_grammar(field: Field, rule: str, _: str | None) -> tuple[str, list[str]]:
    assert field.minimum is not None and field.maximum is not None
    numbers = range(int(field.minimum), int(field.maximum) + 1)
    return rule.upper(), [f"{rule.upper()}: /{whole_numbers(numbers)}/"]


def _amount_grammar(field: Field, rule: str, _: str | None) -> tuple[str, list[str]]:
    assert field.minimum is not None and field.maximum is not None
    scale = 10**field.decimals
    low, high = math.ceil(field.minimum * scale - 1e-9), math.floor(field.maximum * scale + 1e-9)
    if field.decimals == 0:
        return rule.upper(), [f"{rule.upper()}: /{whole_numbers(range(low, high + 1))}/"]
    first, last = divmod(low, scale), divmod(high, scale)
    cents = "[0-9]" * field.decimals
    parts = []

    def part(whole: int, start: int, end: int) -> None:
        texts = _same_width(start, end, field.decimals)
        parts.append(rf"{whole}\.(?:{texts})")

    if first[0] == last[0]:
        part(first[0], first[1], last[1])
    else:
        part(first[0], first[1], scale - 1)
        if last[0] - first[0] > 1:
            parts.append(rf"(?:{whole_numbers(range(first[0] + 1, last[0]))})\.{cents}")
        part(last[0], 0, last[1])
    return rule.upper(), [f"{rule.upper()}: /{'|'.join(parts)}/"]


def whole_numbers(numbers: range) -> str:
    """A regular expression of exactly the whole numbers of a range of 0 and above."""
    low, high = numbers.start, numbers.stop - 1
    parts, digits = [], len(str(low))
    while True:
        top = min(high, 10**digits - 1)
        parts.append(_same_width(low, top, digits))
        if top == high:
            return "|".join(parts)
        low, digits = top + 1, digits + 1


def _same_width(low: int, high: int, width: int) -> str:
    """A regular expression of the numbers from low to high, all written with `width` digits."""
    if width == 0:
        return ""
    if low == 0 and high == 10**width - 1:
        return "[0-9]" * width
    unit = 10 ** (width - 1)
    parts = []
    digit = low // unit
    while digit <= high // unit:
        start = low - digit * unit if digit == low // unit else 0
        end = high - digit * unit if digit == high // unit else unit - 1
        last = digit
        if start == 0 and end == unit - 1:
            while last + 1 < high // unit:
                last += 1  # whole blocks are written together
        spelled = f"{digit}" if last == digit else f"[{digit}-{last}]"
        rest = _same_width(start, end, width - 1)
        parts.append(spelled + (f"(?:{rest})" if "|" in rest else rest))
        digit = last + 1
    return "|".join(parts)


# sets and lists


def _set(field: Field, value: Json) -> Json:
    items = _items(field, value)
    if len(set(items)) != len(items):
        raise ValueError
    return [choice for choice in field.choices if choice in items]


def _list(field: Field, value: Json) -> Json:
    return list(_items(field, value))


def _items(field: Field, value: Json) -> Sequence[str]:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    if any(not isinstance(item, str) or item not in field.choices for item in value):
        raise ValueError
    if field.max_items is not None and len(value) > field.max_items:
        raise ValueError
    return value


def _set_grammar(field: Field, rule: str, _: str | None) -> tuple[str, list[str]]:
    """Items in the schema's order, each at most once, at most `max_items`."""
    limit = min(field.max_items or len(field.choices), len(field.choices))
    lines = []
    texts = [_quoted(dumps(choice)) for choice in field.choices]

    def after(place: int, taken: int) -> str:
        return f"{rule}_{place}_{taken}"

    # The state after an item: its place in the order, and how many have been taken.
    for taken in range(1, limit):
        for place in range(taken - 1, len(texts) - 1):
            ways = [
                f'"," {texts[later]} {after(later, taken + 1)}'.rstrip()
                if taken + 1 < limit and later < len(texts) - 1
                else f'"," {texts[later]}'
                for later in range(place + 1, len(texts))
            ]
            lines.append(f"{after(place, taken)}: ({' | '.join(ways)})?")
    starts = [
        f"{text} {after(place, 1)}" if limit > 1 and place < len(texts) - 1 else text
        for place, text in enumerate(texts)
    ]
    return f'"[" ({" | ".join(starts)})? "]"', lines


def _list_grammar(field: Field, rule: str, _: str | None) -> tuple[str, list[str]]:
    limit = field.max_items
    assert limit is not None
    item = f"{rule}_item"
    more = f'("," {item}){{0,{limit - 1}}}' if limit > 1 else ""
    return f'"[" ({item} {more})? "]"', [f"{item}: {_alternatives(field)}"]


def _array(field: Field, unique: bool) -> dict[str, Json]:
    content: dict[str, Json] = {
        "type": "array",
        "items": {"type": "string", "enum": list(field.choices)},
    }
    if unique:
        content["uniqueItems"] = True
    if field.max_items is not None:
        content["maxItems"] = field.max_items
    return content


def _number(field: Field, name: str) -> dict[str, Json]:
    return {"type": name, "minimum": field.minimum, "maximum": field.maximum}


KINDS: Mapping[str, Kind] = {
    "boolean": Kind(
        lambda field: {"type": "boolean"},
        _boolean,
        lambda field: "true or false",
        lambda field, rule, transcript: ('"true" | "false"', []),
    ),
    "enum": Kind(
        lambda field: {"type": "string", "enum": list(field.choices)},
        _enum,
        lambda field: f"one of {', '.join(field.choices)}",
        lambda field, rule, transcript: (_alternatives(field), []),
    ),
    "pattern": Kind(
        lambda field: {"type": "string", "pattern": f"^(?:{field.pattern})$"},
        _pattern,
        lambda field: f"a text that matches {field.pattern}",
        _pattern_grammar,
    ),
    "amount": Kind(
        lambda field: _number(field, "number"),
        _amount,
        lambda field: f"a number {_bounds(field)}",
        _amount_grammar,
    ),
    "integer": Kind(
        lambda field: _number(field, "integer"),
        _integer,
        lambda field: f"a whole number {_bounds(field)}",
        _integer_grammar,
    ),
    "set": Kind(
        lambda field: _array(field, unique=True),
        _set,
        lambda field: f"a list of different values of {', '.join(field.choices)}",
        _set_grammar,
    ),
    "list": Kind(
        lambda field: _array(field, unique=False),
        _list,
        lambda field: f"a list of values of {', '.join(field.choices)}",
        _list_grammar,
    ),
}
