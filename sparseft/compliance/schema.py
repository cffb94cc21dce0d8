"""The one file that defines an evaluation, and what follows from it.

    name: returns                       # of the records
    instruction: Fill the record …      # what the model is told, before the transcript
    critical: {field: verdict, alarm: [violation]}
    fields:
      verdict:
        kind: enum                      # see `Field`
        values: {compliant: every gate was passed, violation: …}
        by: model
        rule: verdict_from_steps        # may replace what the model says

The same object gives the JSON Schema, the prompt, the grammar of the model's answer, the scorers'
names and the report's order. A new evaluation is a new file; its rules, where it needs any, are
registered functions (`sparseft.compliance.rules`).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from sparseft.compliance.fields import KINDS, Field, dumps
from sparseft.compliance.transcript import Json, Transcript
from sparseft.errors import ConfigError

__all__ = ["Schema", "load_schema", "parse_schema", "schema_of", "shipped_schemas"]

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_FOLDER = "schemas"
_NEEDS = {
    "enum": ("values",),
    "set": ("values",),
    "list": ("values", "max_items"),
    "pattern": ("pattern",),
    "amount": ("minimum", "maximum"),
    "integer": ("minimum", "maximum"),
}
_COMMON = ("kind", "description", "nullable", "by", "rule", "rule_below", "scorer")
_OPTIONS = {
    "boolean": (),
    "enum": ("values",),
    "set": ("values", "max_items"),
    "list": ("values", "max_items", "given"),
    "pattern": ("pattern", "copied", "case"),
    "amount": ("minimum", "maximum", "decimals"),
    "integer": ("minimum", "maximum"),
}


_DEFAULTS = {entry.name: entry.default for entry in dataclasses.fields(Field)}


@dataclass(frozen=True)
class Schema:
    """An evaluation: its fields in order, and which of them is critical.

    Attributes:
        alarm: the critical field's values that must not be missed; empty without such a field.
    """

    name: str
    fields: tuple[Field, ...]
    instruction: str = ""
    title: str = ""
    critical: str | None = None
    alarm: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Field:
        """The field of that name.

        Raises:
            KeyError: there is none.
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """All fields, in order."""
        return tuple(field.name for field in self.fields)

    @property
    def model_fields(self) -> tuple[Field, ...]:
        """What the model emits, in order."""
        return tuple(field for field in self.fields if field.by == "model")

    def with_all_by_model(self) -> Schema:
        """The same evaluation with every field emitted by the model and no rule: an ablation."""
        plain = []
        for field in self.fields:
            # A rule may look for texts of any length; a model may only copy such.
            copied = field.copied or (field.kind == "pattern" and not _bounded(field.pattern or ""))
            nullable = field.nullable or copied
            plain.append(
                dataclasses.replace(
                    field, by="model", rule=None, rule_below=None, copied=copied, nullable=nullable
                )
            )
        return dataclasses.replace(self, fields=tuple(plain))

    def json_schema(self) -> dict[str, Json]:
        """JSON Schema (2020-12) of a record's values."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.title or self.name,
            "type": "object",
            "properties": {field.name: field.json_schema() for field in self.fields},
            "required": list(self.names),
            "additionalProperties": False,
        }

    def to_mapping(self) -> dict[str, Any]:
        """The content of its file, as `schema_of` reads it."""
        content: dict[str, Any] = {
            "name": self.name,
            "title": self.title,
            "instruction": self.instruction,
            "fields": {field.name: _declared(field) for field in self.fields},
        }
        if self.critical is not None:
            content["critical"] = {"field": self.critical, "alarm": list(self.alarm)}
        return content

    def prompt(self, transcript: str) -> str:
        """What the model reads before it answers.

        Args:
            transcript: rendered, see `Transcript.render`.
        """
        return f"{self.instruction}\n\n{transcript}\n\nRecord: "

    def answer(self, values: Mapping[str, Json]) -> str:
        """The JSON text that the model is trained to emit: its fields, canonical, in order.

        Raises:
            ConfigError: a value is missing or does not fit its field.
        """
        entries = []
        for field in self.model_fields:
            if field.name not in values:
                raise ConfigError(f"expected a value for {field.name}, got none; add it.")
            entries.append(f"{dumps(field.name)}:{field.text(values[field.name])}")
        return "{" + ",".join(entries) + "}"

    def spans(self, values: Mapping[str, Json]) -> tuple[tuple[int, int], ...]:
        """Where each model field's value stands in `answer(values)`: (start, end), in order."""
        spans, place = [], 1  # behind the brace
        for field in self.model_fields:
            start = place + len(dumps(field.name)) + 1
            end = start + len(field.text(values[field.name]))
            spans.append((start, end))
            place = end + 1
        return tuple(spans)

    def grammar(self, transcript: str | None = None) -> str:
        """Lark grammar of exactly the texts that `answer` can give.

        Args:
            transcript: rendered; copied patterns may then only be texts of it. None: any text of
                the pattern.
        """
        lines, entries = [], []
        for field in self.model_fields:
            key = json.dumps(dumps(field.name) + ":")
            entries.append(f"{key} f_{field.name}")
            lines.extend(field.grammar(transcript))
        start = ' "," '.join(entries)
        return "\n".join([f'start: "{{" {start} "}}"', *lines]) + "\n"

    def parse(self, text: str) -> dict[str, Json]:
        """The model's fields from its answer, canonical.

        Raises:
            ConfigError: it is no strict JSON object of exactly these fields.
        """
        try:
            content = json.loads(text, parse_constant=_refused, object_pairs_hook=_no_repeats)
        except ValueError as error:
            raise ConfigError(
                f"expected JSON of the schema {self.name}, got {text[:80]!r} ({error}); decode "
                "with its grammar."
            ) from error
        names = [field.name for field in self.model_fields]
        if not isinstance(content, dict) or list(content) != names:
            got = list(content) if isinstance(content, dict) else type(content).__name__
            raise ConfigError(
                f"expected an object of {', '.join(names)}, got {got}; decode with its grammar."
            )
        return {field.name: field.canonical(content[field.name]) for field in self.model_fields}

    def canonical(self, values: Mapping[str, Json]) -> dict[str, Json]:
        """A whole record's values, checked and canonical, in order.

        Raises:
            ConfigError: a field is missing, unknown, or has a value that does not fit.
        """
        unknown = sorted(set(values) - set(self.names))
        missing = [name for name in self.names if name not in values]
        if unknown or missing:
            raise ConfigError(
                f"expected exactly the fields of the schema {self.name}, got "
                f"{'the unknown ' + unknown[0] if unknown else 'no ' + missing[0]}; change it."
            )
        return {field.name: field.canonical(values[field.name]) for field in self.fields}

    def copies(self, transcript: Transcript) -> dict[str, list[str]]:
        """By copied field of the model: the texts of the transcript that it may copy."""
        text = transcript.render()
        return {field.name: field.candidates(text) for field in self.model_fields if field.copied}

    def is_alarm(self, values: Mapping[str, Json]) -> bool:
        """Whether the critical field says what must not be missed."""
        return self.critical is not None and values[self.critical] in self.alarm


def shipped_schemas() -> tuple[str, ...]:
    """Names of the schemas that come with sparseft."""
    folder = resources.files("sparseft.compliance") / _FOLDER
    return tuple(sorted(p.name.removesuffix(".yaml") for p in folder.iterdir()))


def load_schema(source: str | Path) -> Schema:
    """Read a schema: a shipped one by name, or a YAML file.

    Raises:
        ConfigError: there is none, or it contradicts itself; the message says where.
    """
    if isinstance(source, str) and source in shipped_schemas():
        folder = resources.files("sparseft.compliance") / _FOLDER
        return parse_schema((folder / f"{source}.yaml").read_text(encoding="utf-8"), source)
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"expected a schema, one of {', '.join(shipped_schemas())} or a YAML file, got "
            f"{str(source)!r} ({error}); change it."
        ) from error
    return parse_schema(text, str(source))


def parse_schema(text: str, where: str) -> Schema:
    """A schema from the text of its file.

    Raises:
        ConfigError: it is no YAML, or contradicts itself.
    """
    try:
        content = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"expected YAML in the schema {where}, got: {reason}.") from error
    return schema_of(content, where)


def schema_of(content: Any, where: str) -> Schema:
    """A schema from the content of its file.

    Raises:
        ConfigError: it contradicts itself.
    """
    return _Reader(where).schema(content)


def _declared(field: Field) -> dict[str, Any]:
    """A field's entry in its file: what its kind knows and what is not the default."""
    entry: dict[str, Any] = {"kind": field.kind}
    for key in (*_COMMON[1:], *_OPTIONS[field.kind]):
        value = getattr(field, key)
        if value != _DEFAULTS[key]:
            entry[key] = dict(value) if isinstance(value, Mapping) else value
    return entry


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key that occurs twice, which YAML would let win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} occurs twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


class _Reader:
    """Checks a schema's content; every error says which file and field."""

    def __init__(self, where: str) -> None:
        self._where = where

    def schema(self, content: Any) -> Schema:
        known = ("name", "title", "instruction", "critical", "fields")
        self._keys(content, known, "the schema")
        declared = content.get("fields")
        if not isinstance(declared, Mapping) or not declared:
            self._fail("fields to be a mapping with at least one field", declared)
        name = content.get("name")
        if not isinstance(name, str) or not _NAME.match(name):
            self._fail("name to be a word of a-z, 0-9 and _", name)
        for key in ("title", "instruction"):
            if not isinstance(content.get(key, ""), str):
                self._fail(f"{key} to be a text", content[key])
        fields = tuple(self._field(str(key), entry) for key, entry in declared.items())
        if not any(field.by == "model" for field in fields):
            self._fail("at least one field with by: model", "none")
        for field in fields:
            self._given(field, fields)
        critical, alarm = self._critical(content.get("critical"), fields)
        instruction = " ".join(content.get("instruction", "").split())
        return Schema(name, fields, instruction, content.get("title", ""), critical, alarm)

    def _field(self, name: str, entry: Any) -> Field:
        if not _NAME.match(name):
            self._fail("field names to be words of a-z, 0-9 and _", name)
        kind = entry.get("kind") if isinstance(entry, Mapping) else None
        if not isinstance(kind, str) or kind not in KINDS:
            raise self._error(f"{name}.kind to be one of {', '.join(KINDS)}", kind)
        self._keys(entry, (*_COMMON, *_OPTIONS[kind]), name)
        for needed in _NEEDS.get(kind, ()):
            if entry.get(needed) is None:
                self._fail(f"a {needed} for {name}, which is of kind {kind}", None)
        options = {key: value for key, value in entry.items() if value is not None}
        if "values" in options:
            options["values"] = self._values(name, options["values"])
        self._types(name, options)
        field = Field(name=name, **options)
        self._consistent(field)
        return field

    def _values(self, name: str, values: Any) -> dict[str, str]:
        texts = (
            dict.fromkeys(values, "")
            if isinstance(values, list) and len({repr(v) for v in values}) == len(values)
            else values
        )
        if not isinstance(texts, Mapping) or not texts:
            self._fail(f"{name}.values to be different texts", values)
        for value, meaning in texts.items():
            if not isinstance(value, str) or not value or not isinstance(meaning or "", str):
                # YAML reads a bare yes, no, on or off as a boolean.
                self._fail(f"every one of {name}.values to be a text (quote it)", value)
        return {value: meaning or "" for value, meaning in texts.items()}

    def _types(self, name: str, options: Mapping[str, Any]) -> None:
        kinds: dict[str, tuple[type, ...]] = {
            "description": (str,),
            "nullable": (bool,),
            "copied": (bool,),
            "by": (str,),
            "rule": (str,),
            "rule_below": (int, float),
            "scorer": (str,),
            "pattern": (str,),
            "case": (str,),
            "minimum": (int, float),
            "maximum": (int, float),
            "decimals": (int,),
            "max_items": (int,),
            "given": (str,),
        }
        for key, types in kinds.items():
            value = options.get(key)
            wrong = isinstance(value, bool) and bool not in types
            if value is not None and (wrong or not isinstance(value, types)):
                self._fail(f"{name}.{key} to be a {types[-1].__name__}", value)

    def _consistent(self, field: Field) -> None:
        name = field.name
        if field.by not in ("model", "rule"):
            self._fail(f"{name}.by to be model or rule", field.by)
        if field.by == "rule" and field.rule is None:
            self._fail(f"{name}.rule, the name of a rule, since by: rule", None)
        if field.rule_below is not None:
            if field.by != "model" or field.rule is None:
                self._fail(f"{name}.rule_below beside by: model and a rule", field.rule_below)
            if not 0 < field.rule_below <= 1:
                self._fail(f"{name}.rule_below above 0 and at most 1", field.rule_below)
        if field.case not in ("upper", "lower", "keep"):
            self._fail(f"{name}.case to be upper, lower or keep", field.case)
        if field.kind in ("set", "list") and field.nullable:
            self._fail(f"{name} not to be nullable: an empty list says it", "nullable: true")
        if field.max_items is not None and field.max_items < 1:
            self._fail(f"{name}.max_items of 1 or more", field.max_items)
        if field.kind in ("amount", "integer"):
            assert field.minimum is not None and field.maximum is not None
            if not 0 <= field.minimum <= field.maximum:
                got = f"{field.minimum} and {field.maximum}"
                self._fail(f"0 <= {name}.minimum <= {name}.maximum", got)
            if not 0 <= field.decimals <= 6:
                self._fail(f"{name}.decimals from 0 to 6", field.decimals)
        if field.kind == "integer" and any(
            not isinstance(bound, int) for bound in (field.minimum, field.maximum)
        ):
            self._fail(f"whole numbers as {name}.minimum and {name}.maximum", field.minimum)
        if field.copied and not field.nullable:
            self._fail(f"{name} with copied: true to be nullable", "nullable: false")
        if field.pattern is not None:
            self._pattern(field)

    def _given(self, field: Field, fields: Sequence[Field]) -> None:
        kinds = {each.name: each.kind for each in fields if each.by == "model"}
        if field.given is not None and kinds.get(field.given) not in ("enum", "integer"):
            self._fail(f"{field.name}.given to be an enum or integer by: model", field.given)
        others = [each.name for each in fields if each.given and each.given == field.given]
        if field.given is not None and len(others) > 1:
            self._fail(f"one list that is given {field.given}", " and ".join(others))

    def _pattern(self, field: Field) -> None:
        assert field.pattern is not None
        try:
            compiled = re.compile(field.pattern)
        except re.error as error:
            self._fail(f"{field.name}.pattern to be a regular expression", f"{error}")
        # Whatever the pattern admits must be a JSON string as it stands.
        if re.search(
            r'["\\]|[\x00-\x1f]', re.sub(r"\\[.dswDSW\-+()\[\]{}?*|^$/]", "", field.pattern)
        ):
            self._fail(
                f"{field.name}.pattern without quotes, backslashes or control characters "
                "in what it matches",
                field.pattern,
            )
        if field.by == "model" and not field.copied and not _bounded(field.pattern):
            self._fail(
                f"{field.name}.pattern with bounded repeats such as {{1,20}}, since the model "
                "spells it (or copied: true)",
                field.pattern,
            )
        if compiled.fullmatch(""):
            self._fail(f"{field.name}.pattern not to match the empty text", field.pattern)

    def _critical(
        self, content: Any, fields: Sequence[Field]
    ) -> tuple[str | None, tuple[str, ...]]:
        if content is None:
            return None, ()
        self._keys(content, ("field", "alarm"), "critical")
        name, alarm = content.get("field"), content.get("alarm")
        chosen = next((field for field in fields if field.name == name), None)
        if chosen is None or chosen.kind != "enum":
            raise self._error("critical.field to name an enum field", name)
        if not isinstance(alarm, list) or not alarm or not set(alarm) < set(chosen.choices):
            self._fail(f"critical.alarm to be some, not all, of {', '.join(chosen.choices)}", alarm)
        return name, tuple(alarm)

    def _keys(self, content: Any, known: Iterable[str], what: str) -> None:
        if not isinstance(content, Mapping):
            self._fail(f"{what} to be a mapping", content)
        unknown = sorted(str(key) for key in content if key not in set(known))
        if unknown:
            self._fail(f"only known keys in {what} ({', '.join(known)})", unknown[0])

    def _error(self, expected: str, got: Any) -> ConfigError:
        return ConfigError(f"expected {expected}, got {got!r}; change the schema {self._where}.")

    def _fail(self, expected: str, got: Any) -> None:
        raise self._error(expected, got)


def _bounded(pattern: str) -> bool:
    """Whether the texts that a pattern matches are of limited length."""
    plain = re.sub(r"\\.", "", pattern)
    return re.search(r"[*+]|\{\d*,\}", re.sub(r"\[[^\]]*\]", "", plain)) is None


def _refused(name: str) -> Json:
    raise ValueError(f"{name} is no JSON")


def _no_repeats(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key occurs twice")
    return content
