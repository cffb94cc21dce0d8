"""Real faults of the file system, from the kernel rather than from a patched function.

`pytest.MonkeyPatch` would test that we call what we think we call; these make the calls fail.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

_NOBODY = 65534


@contextlib.contextmanager
def _limited(bytes_per_file: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_per_file, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def disk_full() -> Callable[[int], AbstractContextManager[None]]:
    """`with disk_full(1000):` every write beyond a file's first 1,000 bytes fails."""
    return _limited


@contextlib.contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    mode = folder.stat().st_mode
    is_root = os.geteuid() == 0
    folder.chmod(0o555)
    if is_root:  # root may write anywhere, so the block runs as a user who may not
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(mode)


@pytest.fixture
def read_only() -> Callable[[Path], AbstractContextManager[None]]:
    """`with read_only(folder):` nothing can be made, changed or removed in `folder`.

    What the block needs must be imported before it: as root it runs as another user.
    """
    return _read_only


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its bytes: two of these compare what a fault changed."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(name="content_of")
def _content_of() -> Callable[[Path], dict[str, bytes]]:
    return content_of
