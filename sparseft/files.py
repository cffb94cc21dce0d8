"""Atomic files: a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparseft.errors import ResultError, SparseftError

__all__ = ["directory", "read_json", "sha256_of", "write_bytes", "write_json", "write_text"]


def _failed(path: Path, error: OSError) -> SparseftError:
    return SparseftError(
        f"expected to write {path}, got: {error.strerror or error}; "
        "free some space or choose a writable folder. Nothing was left half-written."
    )


def _sync_folder(folder: Path) -> None:
    # The rename itself must survive a power cut, not only the bytes.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write `content` to `path` through a temporary name in the same folder.

    Raises:
        SparseftError: the folder is not writable or the disk is full; the old file is untouched.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise _failed(target, error) from error
    return target


def _umask() -> int:
    # mkstemp makes private files; results are meant to be read by others too.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike[str], content: str) -> Path:
    """`write_bytes` of UTF-8 text."""
    return write_bytes(path, content.encode("utf-8"))


def write_json(path: str | os.PathLike[str], content: Any, *, sort_keys: bool = True) -> Path:
    """`write_bytes` of indented JSON, its keys sorted or in order; no NaN and no infinity."""
    return write_text(
        path,
        json.dumps(content, indent=2, sort_keys=sort_keys, allow_nan=False, ensure_ascii=False)
        + "\n",
    )


@contextlib.contextmanager
def directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well.

    An older folder at `path` is replaced; when the block raises, it stays as it was.

    Raises:
        SparseftError: the folder cannot be written.
    """
    target = Path(path)
    temporary: Path | None = None
    old: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        os.chmod(temporary, 0o777 & ~_umask())
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb") as stream:
                    os.fsync(stream.fileno())
        if target.exists():
            old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
            os.replace(target, old / target.name)
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        if old is not None and not target.exists():
            os.replace(old / target.name, target)
        raise _failed(target, error) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_json(path: str | os.PathLike[str], error: type[SparseftError] = ResultError) -> Any:
    """Read a JSON file.

    Raises:
        error: the file is missing or is no JSON; the message names it.
    """
    source = Path(path)
    try:
        return json.loads(source.read_text(encoding="utf-8"))
    except OSError as reason:
        raise error(
            f"expected a readable file at {source}, got: {reason.strerror or reason}; "
            "check the path."
        ) from reason
    except ValueError as reason:
        raise error(
            f"expected JSON in {source}, got: {reason}; the file is damaged, "
            "remove it and run what wrote it again."
        ) from reason
