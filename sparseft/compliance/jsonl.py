"""A user's own transcripts, one JSON object a line; a bad line never stops the others.

    {"id": "c1", "turns": [{"speaker": "agent", "text": "Hello"}, …], "gold": {…}}
    {"id": "c2", "text": "Hello, how may I help? …"}

`gold` holds every field of the schema; `group` (examples of one origin, kept in one split) and
`tags` (a list of texts, for reports) may stand beside it. Empty lines are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Example, Json, Transcript
from sparseft.errors import DataError, SparseftError

__all__ = ["BadLine", "Line", "numbered_lines", "read_jsonl", "strict_json"]

_MAX_LINE = 16 * 2**20  # bytes; a longer one is no transcript, and must not fill the memory
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class BadLine:
    """A line that could not be read.

    Attributes:
        line: its number, from 1.
        error: what is wrong with it.
        id: the transcript's, where that much could be read.
    """

    line: int
    error: str
    id: str = ""


Line = Example | Transcript | BadLine


def read_jsonl(path: str | Path, schema: Schema, labelled: bool | None = None) -> Iterator[Line]:
    """The lines of a file, one at a time; one line is all that is ever held.

    Args:
        labelled: True: every line has a gold record and becomes an `Example`; False: each becomes
            a `Transcript`, and a gold record is left alone; None: as each line is.

    Returns:
        an iterator with one entry for each line that is not empty. Lines without an id are called
        line-N.

    Raises:
        DataError: the file cannot be opened, or fails while it is read.
    """
    path = Path(path)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    return (line for _, line in numbered_lines(stream, path, schema, labelled))


def numbered_lines(
    stream: BinaryIO, name: str | Path, schema: Schema, labelled: bool | None = None
) -> Iterator[tuple[int, Line]]:
    """As `read_jsonl`, of an open stream, each entry with its line's number, from 1.

    Args:
        stream: closed at the end.
        name: the stream's, for errors.

    Raises:
        DataError: the stream fails while it is read.
    """
    with stream:
        number = 0
        while True:
            try:
                content = stream.readline(_MAX_LINE + 1)
                whole = len(content) <= _MAX_LINE
                rest = content
                while not whole and rest and not rest.endswith(b"\n"):
                    rest = stream.readline(_MAX_LINE)
            except OSError as error:
                raise _unreadable(name, error) from error
            if not content:
                return
            number += 1
            if number == 1:
                content = content.removeprefix(_BOM)
            if not whole:
                yield (
                    number,
                    BadLine(
                        number,
                        f"expected a line of at most {_MAX_LINE} bytes, got a longer one; put each "
                        "transcript on its own line.",
                    ),
                )
            elif content.strip():
                yield number, _line(content, number, schema, labelled)


def _line(content: bytes, number: int, schema: Schema, labelled: bool | None) -> Line:
    name = ""
    try:
        value = strict_json(content, "a line of JSON")
        transcript = Transcript.from_json(value, default_id=f"line-{number}")
        name = transcript.id
        if labelled is False or (labelled is None and "gold" not in value):
            return transcript
        return _example(transcript, value, schema)
    except SparseftError as error:
        return BadLine(number, str(error), name)


def strict_json(content: bytes, what: str) -> Json:
    """The value of a JSON text in UTF-8, without NaN, repeated keys and halves of characters.

    Args:
        what: is expected; for errors.

    Raises:
        DataError: it is no such text.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected UTF-8 text, got byte 0x{content[error.start]:02x} at place {error.start}; "
            "write it as UTF-8."
        ) from error
    try:
        value = json.loads(text, parse_constant=_refused, object_pairs_hook=_no_repeats)
        # Half of a surrogate pair ("\ud83d") is JSON, but no text that could be written again.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"expected {what}, got {text.strip()[:80]!r} ({error}); correct it."
        ) from error
    return value


def _example(transcript: Transcript, value: Mapping[str, Json], schema: Schema) -> Example:
    gold = value.get("gold")
    if not isinstance(gold, Mapping):
        got = "none" if "gold" not in value else type(gold).__name__
        raise DataError(
            f'expected a "gold" object in transcript {transcript.id!r}, got {got}; add every '
            f"field of the schema {schema.name}."
        )
    group, tags = value.get("group", ""), value.get("tags", [])
    if not isinstance(group, str):
        raise DataError(f'expected "group" of {transcript.id!r} to be a text, got {group!r}.')
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise DataError(
            f'expected "tags" of {transcript.id!r} to be a list of texts, got {tags!r}.'
        )
    return Example(transcript, schema.canonical(gold), tuple(tags), group)


def _unreadable(path: str | Path, error: OSError) -> DataError:
    return DataError(
        f"expected to read {path}, got: {error.strerror or error}; check the file and its "
        "permissions."
    )


def _refused(name: str) -> Json:
    raise ValueError(f"{name} is no JSON")


def _no_repeats(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key occurs twice")
    return content
