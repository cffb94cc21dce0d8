"""The output file of a batch: opened for one process, cut to whole lines, gone on with."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from sparseft.errors import ConfigError, DataError, SparseftError

try:
    import fcntl
except ImportError:  # not POSIX: two processes are not kept apart there
    fcntl = None  # type: ignore[assignment]

__all__ = ["Key", "Output", "open_input"]

_START = b'{"line":'


@dataclass(frozen=True)
class Key:
    """What ties a line of the output to one of the input: its number, id, and a hash."""

    line: int
    id: str
    input: str


def open_input(source: str | Path, out_path: str | Path) -> tuple[BinaryIO, str]:
    """The source, "-" for the standard input, and its name.

    Raises:
        DataError: it cannot be opened.
        ConfigError: it is the output, too.
    """
    if str(source) == "-":
        if sys.stdin is None:
            raise DataError("expected a standard input, got a closed one; give a file.")
        # Its own descriptor: closing it leaves the process's standard input alone.
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb"), "the standard input"
    path = Path(source)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataError(
            f"expected to read {path}, got: {error.strerror or error}; check the path."
        ) from error
    with contextlib.suppress(OSError):
        if str(out_path) != "-" and path.samefile(out_path):
            stream.close()
            raise ConfigError(f"expected another file as output, got {path} twice; change it.")
    return stream, str(path)


class Output:
    """Lines for a file, a pipe or, as "-", the standard output; each is flushed.

    Args:
        path: made with its folder where it does not exist.
        resume: keep what is in the file; else it is emptied.

    Raises:
        DataError: another process writes it.
        SparseftError: it cannot be opened.
    """

    def __init__(self, path: str | Path, resume: bool) -> None:
        self._name = "the standard output" if str(path) == "-" else str(path)
        self._stream: BinaryIO
        if str(path) == "-":
            self._resume = False
            sys.stdout.flush()
            self._stream = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
            return
        self._resume = resume
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and not target.is_file():  # a pipe or a device
                self._resume = False
                self._stream = target.open("wb", buffering=0)
                return
            # Not emptied yet: another process may be at it.
            self._stream = os.fdopen(os.open(target, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
            self._lock()
            if not resume:
                self._stream.truncate(0)
        except OSError as error:
            raise self._failed(error) from error

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._stream.close()
            raise DataError(
                f"expected to be alone with {self._name}, got another process that writes it; "
                "wait for it, or choose another file."
            ) from error
        except OSError:  # a file system without locks
            return

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):  # every line was flushed, or its error raised
            self._stream.close()

    def skip_done(self, keys: Iterator[Key]) -> int:
        """Pass over the input's lines that stand in the file already, and cut a torn last line.

        Args:
            keys: of the input's lines, in order; afterwards it stands at the first that is to do.

        Returns:
            the number of lines passed over.

        Raises:
            DataError: the file holds something else, or answers to other lines.
        """
        if not self._resume:
            return 0
        done = 0
        try:
            size = 0
            for content in self._stream:
                if not content.endswith(b"\n"):
                    self._check_torn(content)
                    break
                self._check(content, next(keys, None), done + 1)
                size += len(content)
                done += 1
            self._stream.seek(size)
            self._stream.truncate(size)
        except OSError as error:
            raise self._failed(error) from error
        return done

    def write(self, line: bytes) -> None:
        """Write one line, through to the system.

        Raises:
            SparseftError: the disk is full, for example; what was written stays.
            BrokenPipeError: nobody reads the standard output any more.
        """
        try:
            view = memoryview(line)
            while view:  # a raw stream may take less
                view = view[self._stream.write(view) :]
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._failed(error) from error

    def _check_torn(self, content: bytes) -> None:
        if not content[: len(_START)] == _START[: len(content)]:
            raise self._foreign(content)

    def _check(self, content: bytes, expected: Key | None, place: int) -> None:
        try:
            entry = json.loads(content)
            found = Key(entry["line"], entry["id"], entry["input"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._foreign(content) from error
        if expected is None:
            raise DataError(
                f"expected the input of {self._name}, got one with fewer lines (its line {place} "
                f"answers to line {found.line}); give the old input, start over, or choose "
                "another output."
            )
        if found != expected:
            raise DataError(
                f"expected the input, schema and model that {self._name} was begun with, got a "
                f"change at line {expected.line} of the input (transcript {expected.id!r}; the "
                f"output has {found.id!r} of line {found.line}); start over, or choose another "
                "output."
            )

    def _foreign(self, content: bytes) -> DataError:
        return DataError(
            f"expected {self._name} to be new or an output to go on with, got a file with "
            f"{content[:40]!r}; choose another output."
        )

    def _failed(self, error: OSError) -> SparseftError:
        return SparseftError(
            f"expected to write {self._name}, got: {error.strerror or error}; free some space or "
            "choose another output, and start again: whole lines are kept."
        )
