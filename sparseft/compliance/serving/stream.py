"""JSON lines of transcripts in, JSON lines of records out, in order; killed, it goes on.

Each line of the input that is not empty gives one line of the output:

    {"line": 3, "input": "9f2c…", "id": "c3", "schema": "service", "values": {…}, …}
    {"line": 4, "input": "51d0…", "id": "", "schema": "service", "error": "expected …"}

`input` is a hash of the transcript and the schema (and of a stamp, such as the model's hash), by
which a later start knows that a line of the output is still the answer to that of the input.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sparseft.compliance.fields import dumps
from sparseft.compliance.jsonl import BadLine, Line, numbered_lines
from sparseft.compliance.record import Record
from sparseft.compliance.serving.attempts import (
    Evaluates,
    Outcome,
    check_words,
    describe,
    evaluate_each,
)
from sparseft.compliance.serving.output import Key, Output, open_input
from sparseft.compliance.transcript import Example, Json, Transcript
from sparseft.errors import ConfigError, DataError, SparseftError

__all__ = ["Counts", "evaluate_stream"]

_LOG = logging.getLogger(__name__)


@dataclass
class Counts:
    """What became of the lines so far.

    Attributes:
        resumed: lines that an earlier start had done; in no other count.
        evaluated: records written.
        bad: lines that hold no transcript.
        failed: transcripts that the evaluator failed on.
        reviewed: records marked for review.
        alarms: records whose critical field says what must not be missed.
        seconds: of this start.
    """

    resumed: int = 0
    evaluated: int = 0
    bad: int = 0
    failed: int = 0
    reviewed: int = 0
    alarms: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Item:
    """A line of the input: its key, and what it holds."""

    key: Key
    content: Transcript | BadLine


def evaluate_stream(
    evaluator: Evaluates,
    source: str | Path,
    out_path: str | Path,
    *,
    batch_size: int = 8,
    resume: bool = True,
    progress: Callable[[Counts], None] | None = None,
    stamp: str = "",
    max_failures: int = 50,
) -> Counts:
    """Evaluate the transcripts of a file (see `sparseft.compliance.jsonl`) into another.

    Every record is written and flushed as soon as its batch is done. A line that holds no
    transcript, or one that the evaluator fails on, gives a line with `error`.

    Args:
        source: "-" is the standard input.
        out_path: "-" is the standard output, which cannot be resumed.
        batch_size: transcripts that the evaluator is given at once.
        resume: keep the whole lines that are there, cut a torn last one, and go on after them.
            False starts over.
        progress: called after every batch.
        stamp: of what made the records, the model's hash for example; a file with records of
            another stamp is not gone on with.
        max_failures: where the evaluator fails on that many transcripts in a row, it is taken for
            broken: these lines are not written, so that a later start tries them again.

    Returns:
        what became of the lines.

    Raises:
        DataError: the source cannot be read; the output is no file of this function, is of other
            input, schema or stamp, or is being written by another process.
        ConfigError: a setting out of its range, or output and source are one file.
        SparseftError: the output cannot be written, or the evaluator fails on everything.
    """
    if batch_size < 1 or max_failures < 1:
        raise ConfigError(
            f"expected a batch size and a number of failures of 1 or more, got {batch_size} and "
            f"{max_failures}; change them."
        )
    started = time.perf_counter()
    counts = Counts()
    stream, name = open_input(source, out_path)
    with stream, Output(out_path, resume) as output:
        salt = _digest([evaluator.schema.to_mapping(), stamp])
        items = _items(evaluator, numbered_lines(stream, name, evaluator.schema, False), salt)
        counts.resumed = output.skip_done(item.key for item in items)
        writer = _Writer(output, evaluator, counts, max_failures)
        for batch in _batches(items, batch_size):
            transcripts = [item.content for item in batch if isinstance(item.content, Transcript)]
            outcomes = iter(evaluate_each(evaluator, transcripts))
            for item in batch:
                bad = isinstance(item.content, BadLine)
                writer.add(item, None if bad else next(outcomes))
            counts.seconds = time.perf_counter() - started
            if progress is not None:
                progress(counts)
        writer.finish()
    counts.seconds = time.perf_counter() - started
    return counts


class _Writer:
    """Writes lines in order; those of a run of failures wait for what comes after them."""

    def __init__(
        self, output: Output, evaluator: Evaluates, counts: Counts, max_failures: int
    ) -> None:
        self._output = output
        self._schema = evaluator.schema
        self._counts = counts
        self._max_failures = max_failures
        self._waiting: list[bytes] = []
        self._failures = 0

    def add(self, item: _Item, outcome: Outcome | None) -> None:
        """Write, or hold back, one line. `outcome` is None where the line holds no transcript."""
        counts = self._counts
        content: dict[str, Json] = {"id": item.key.id, "schema": self._schema.name}
        if isinstance(outcome, Exception):
            self._failures += 1
            if self._failures >= self._max_failures:
                raise SparseftError(
                    "expected the evaluator to work, got failures on "
                    f"{self._failures} transcripts in a row, up to line {item.key.line}, the last: "
                    f"{_message(outcome)}; correct it, or allow for more, and start again. These "
                    "lines are not in the output."
                ) from outcome
            counts.failed += 1
            content["error"] = _message(outcome)
        elif outcome is not None:
            self._failures = 0
            content = {**outcome.to_json(), "id": item.key.id}
            self._count(outcome)
        else:
            assert isinstance(item.content, BadLine)
            counts.bad += 1
            content["error"] = item.content.error
        place = {"line": item.key.line, "input": item.key.input}
        self._waiting.append(dumps({**place, **content}).encode("utf-8") + b"\n")
        if not self._failures:
            self.finish()

    def finish(self) -> None:
        """Write what waits."""
        for line in self._waiting:
            self._output.write(line)
        self._waiting.clear()

    def _count(self, record: Record) -> None:
        counts = self._counts
        if record.error:
            counts.failed += 1
            return
        counts.evaluated += 1
        counts.reviewed += bool(record.review)
        counts.alarms += self._schema.is_alarm(record.values())


def _items(evaluator: Evaluates, lines: Iterator[tuple[int, Line]], salt: str) -> Iterator[_Item]:
    for number, line in lines:
        content: Transcript | BadLine
        content = line.transcript if isinstance(line, Example) else line
        if isinstance(content, Transcript):
            try:
                check_words(content)
            except DataError as error:
                content = BadLine(number, str(error), content.id)
        told: Json = content.to_json() if isinstance(content, Transcript) else content.error
        yield _Item(Key(number, content.id, _digest([salt, told])), content)


def _batches(items: Iterator[_Item], size: int) -> Iterator[Sequence[_Item]]:
    # Bad lines count as well, so that a file of nothing else still goes out line by line.
    while batch := list(islice(items, size)):
        yield batch


def _digest(value: Json) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _message(error: Exception) -> str:
    if isinstance(error, SparseftError):
        return str(error)
    _LOG.debug("not an error of sparseft's own: %s", describe(error))
    return f"expected the evaluator to answer, got {type(error).__name__}: {error}"
