"""An expert that answers from a file of what a model said before."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparseft.compliance.jsonl import strict_json
from sparseft.errors import DataError
from sparseft.routing.expert import Prediction
from sparseft.routing.experts.budget import FREE, Prices
from sparseft.routing.states import State
from sparseft.routing.turns import Context, TurnId

__all__ = ["RecordedExpert"]

_COUNTS = ("prompt_tokens", "answer_tokens")
_KNOWN = {"dialogue_id", "turn_id", "delta", "score", "seconds", *_COUNTS}
_Row = tuple[str, Mapping[str, Any]]  # where it is, for errors; its fields


class RecordedExpert:
    """Recorded predictions by dialogue and number of the turn.

    The delta is what the model said when *its own* states had gone before: it does not see
    `Context.previous`.

    Args:
        name: for records.
        predictions: by id.
        trained_on: ids of the dialogues that the model was trained on.
    """

    def __init__(
        self,
        name: str,
        predictions: Mapping[TurnId, Prediction],
        trained_on: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.trained_on = trained_on
        self._predictions = dict(predictions)

    def __len__(self) -> int:
        return len(self._predictions)

    def __repr__(self) -> str:
        return f"RecordedExpert({self.name!r}, {len(self)} turns)"

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        system: str,
        *,
        trained_on: frozenset[str] = frozenset(),
        prices: Prices = FREE,
    ) -> RecordedExpert:
        """One system of a table with the columns system_name, dialogue_id, turn_id and pred_delta.

        `pred_delta` is a JSON object or null; the columns score, prompt_tokens, answer_tokens and
        seconds may be there.

        Raises:
            DataError: the file cannot be read, lacks a column or the system, or a row of the
                system is bad or a second one of its turn; rows count from 0 over the file.
        """
        rows = list(_table_rows(Path(path), system))
        return cls(system, _predictions(rows, prices), trained_on)

    @classmethod
    def from_jsonl(
        cls,
        path: str | Path,
        name: str | None = None,
        *,
        trained_on: frozenset[str] = frozenset(),
        prices: Prices = FREE,
    ) -> RecordedExpert:
        """One object a line: dialogue_id, turn_id, delta, and score, prompt_tokens, answer_tokens,
        seconds where they are known; further fields become notes.

        Args:
            name: by default that of the file.

        Raises:
            DataError: the file cannot be read, or a line is bad or a second one of its turn; lines
                count from 1.
        """
        path = Path(path)
        rows = list(_lines(path))
        return cls(name or path.stem, _predictions(rows, prices), trained_on)

    def predict(self, contexts: Sequence[Context]) -> list[Prediction]:
        """One prediction a context, in order; a turn without a record has a `problem`."""
        return [self._predictions.get(context.id) or self._unknown(context) for context in contexts]

    def check(self, ids: Iterable[TurnId]) -> None:
        """Refuse turns that are not recorded, as when the files number turns in another way.

        Raises:
            DataError: naming the first and the number of them.
        """
        wanted = list(ids)
        missing = [turn for turn in wanted if turn not in self._predictions]
        if missing:
            example = next(iter(self._predictions), None)
            raise DataError(
                f"expected a record of {self.name} for each of {len(wanted)} turns, got none for "
                f"{len(missing)} such as {missing[0]} (recorded are ids such as {example}); turns "
                "are numbered from 0 over the user's turns, align the files."
            )

    def _unknown(self, context: Context) -> Prediction:
        return Prediction(
            {},
            problem=f"expected a record of turn {context.number} of {context.dialogue!r}, got "
            "none; look whether the files number turns alike.",
        )


def _predictions(rows: Iterable[_Row], prices: Prices) -> dict[TurnId, Prediction]:
    found: dict[TurnId, Prediction] = {}
    for where, row in rows:
        turn = _id(where, row)
        if turn in found:
            raise DataError(
                f"expected one record a turn, got a second one of {turn} in {where}; remove one."
            )
        found[turn] = _prediction(where, row, prices)
    return found


def _id(where: str, row: Mapping[str, Any]) -> TurnId:
    dialogue, number = row.get("dialogue_id"), row.get("turn_id")
    if not isinstance(dialogue, str) or not isinstance(number, int) or isinstance(number, bool):
        raise DataError(
            "expected a text as dialogue_id and a whole number as turn_id, got "
            f"{dialogue!r} and {number!r} in {where}; correct it."
        )
    return dialogue, number


def _prediction(where: str, row: Mapping[str, Any], prices: Prices) -> Prediction:
    prompt_tokens, answer_tokens = (_count(where, row, name) for name in _COUNTS)
    delta = row.get("delta")
    seconds = _number(where, row, "seconds")
    return Prediction(
        {} if delta is None else _delta(where, delta),
        score=_number(where, row, "score"),
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        seconds=seconds or 0.0,
        price=prices.of(prompt_tokens, answer_tokens),
        problem="" if delta is not None else f"expected a recorded delta, got none in {where}.",
        notes={name: value for name, value in row.items() if name not in _KNOWN},
    )


def _delta(where: str, value: Any) -> State:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise DataError(
            f"expected a delta that maps slots to texts, got {str(value)[:80]!r} in {where}; "
            "correct it, or write null where there is none."
        )
    return dict(value)


def _count(where: str, row: Mapping[str, Any], name: str) -> int:
    value = row.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DataError(f"expected {name} of 0 or more, got {value!r} in {where}; correct it.")
    return value


def _number(where: str, row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise DataError(f"expected {name} to be a number, got {value!r} in {where}; correct it.")
    return float(value) if math.isfinite(value) else None


def _table_rows(path: Path, system: str) -> Iterator[_Row]:
    import pyarrow
    import pyarrow.parquet

    needed = ["system_name", "dialogue_id", "turn_id", "pred_delta"]
    optional = ["score", "seconds", *_COUNTS]
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            lacking = [name for name in needed if name not in columns]
            if lacking:
                raise DataError(
                    f"expected a column {lacking[0]!r} in {path}, got the columns "
                    f"{', '.join(map(repr, columns))}; see `RecordedExpert.from_parquet`."
                )
            table = file.read(columns=needed + [name for name in optional if name in columns])
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"expected a parquet file at {path}, got: {error}; check the path, the file may be "
            "damaged."
        ) from error
    systems = table.column("system_name").to_pylist()
    if system not in systems:
        known = ", ".join(map(repr, dict.fromkeys(systems)))
        raise DataError(f"expected the system {system!r} in {path}, got {known}; choose one.")
    for number, row in enumerate(table.to_pylist()):
        if row.pop("system_name") == system:
            where = f"row {number} of {path}"
            text = row.pop("pred_delta")
            yield where, {**row, "delta": None if text is None else _parsed(where, text)}


def _parsed(where: str, text: Any) -> Any:
    try:
        return strict_json(str(text).encode(), "a delta in JSON")
    except (DataError, ValueError) as error:
        raise DataError(f"{error} It is in {where}.") from error


def _lines(path: Path) -> Iterator[_Row]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"expected a readable JSONL file at {path}, got: {error}; check the path and that it "
            "is UTF-8."
        ) from error
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"line {number} of {path}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"expected JSON in {where}, got: {error}; correct it.") from error
        if not isinstance(row, dict):
            raise DataError(
                f"expected an object in {where}, got {line.strip()[:80]!r}; correct it."
            )
        yield where, row
