"""Responses on disk, so that nothing is paid for twice.

One JSON file a response, written under a temporary name and renamed: readers and writers in any
number of threads and processes need no lock, on network file systems too (where SQLite's locks
cannot be relied on), and a damaged file costs one response, not all of them. Calls take seconds and
files milliseconds, so nothing would be won by a database.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparseft import files
from sparseft.errors import ConfigError, SparseftError

__all__ = ["ResponseCache", "key_of"]

_LOG = logging.getLogger(__name__)
_FORMAT = "sparseft.routing.response.1"
# `files` sets and restores the process's umask, which two threads must not do at a time.
_WRITING = threading.Lock()


def key_of(request: Mapping[str, Any]) -> str:
    """The SHA-256 of a request's canonical JSON, in hexadecimal.

    Args:
        request: everything that determines the response, and no key of a service.
    """
    return hashlib.sha256(_canonical({"format": _FORMAT, "request": request})).hexdigest()


class ResponseCache:
    """A folder of responses.

    What a model draws at a temperature above 0 is kept as it was drawn first.

    Args:
        folder: made if it is not there.

    Raises:
        ConfigError: it cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"expected a folder for the cache at {folder}, got: {error.strerror or error}; "
                "choose another."
            ) from error

    def __repr__(self) -> str:
        return f"ResponseCache({str(self.folder)!r})"

    def get(self, key: str) -> dict[str, Any] | None:
        """What was stored, or None; a damaged entry is reported to the log, and none."""
        path = self._path(key)
        try:
            entry = json.loads(path.read_bytes())
            response = entry["response"]
            if entry["key"] != key or entry["sha256"] != _digest(response):
                raise ValueError("its hash is another")
            if not isinstance(response, dict):
                raise ValueError("no object")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            self.report(key, repr(error))
            return None
        return response

    def put(self, key: str, response: Mapping[str, Any]) -> None:
        """Store a response.

        Where that fails, the log says so: an answer that was paid for must not be lost for it.
        """
        entry = {"key": key, "sha256": _digest(response), "response": response}
        try:
            with _WRITING:
                files.write_bytes(self._path(key), _canonical(entry))
        except SparseftError as error:
            _LOG.warning("the response %s was not cached: %s", key[:16], error)

    def report(self, key: str, reason: str) -> None:
        """Log that an entry cannot be used; it is asked for, and written, again."""
        _LOG.warning(
            "expected a cached response at %s, got a damaged one (%s); it is asked for again",
            self._path(key),
            reason,
        )

    def _path(self, key: str) -> Path:
        # 256 folders keep listings short.
        return self.folder / key[:2] / f"{key}.json"


def _digest(response: Any) -> str:
    return hashlib.sha256(_canonical(response)).hexdigest()


def _canonical(content: Any) -> bytes:
    # ASCII, so that halves of surrogate pairs have a form as well.
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
