"""A write that fails leaves the old file whole, no other file, and one clear error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from sparseft import files
from sparseft.errors import SparseftError

_Fault = Callable[..., AbstractContextManager[None]]
_Content = Callable[[Path], dict[str, bytes]]

_LARGE = "x" * 100_000


def _by_text(path: Path) -> None:
    files.write_text(path, _LARGE)


def _by_json(path: Path) -> None:
    files.write_json(path, {"text": _LARGE})


def _by_folder(path: Path) -> None:
    with files.directory(path) as folder:
        (folder / "first").write_text("small")
        (folder / "second").write_text(_LARGE)


_writers = pytest.mark.parametrize("write", [_by_text, _by_json, _by_folder])


@_writers
def test_a_full_disk_leaves_nothing_behind(
    write: Callable[[Path], None], disk_full: _Fault, content_of: _Content, tmp_path: Path
) -> None:
    with disk_full(4096), pytest.raises(SparseftError, match=r"expected to write .*target.*space"):
        write(tmp_path / "target")
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "target")  # and the same write works once there is space
    assert _LARGE.encode() in b"".join(content_of(tmp_path).values())


@_writers
def test_a_full_disk_keeps_the_older_content(
    write: Callable[[Path], None], disk_full: _Fault, content_of: _Content, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    if write is _by_folder:
        target.mkdir()
        (target / "first").write_text("older")
    else:
        target.write_text("older")
    before = content_of(tmp_path)
    with disk_full(4096), pytest.raises(SparseftError):
        write(target)
    assert content_of(tmp_path) == before


@_writers
def test_a_folder_without_permission_is_named(
    write: Callable[[Path], None], read_only: _Fault, tmp_path: Path
) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    with read_only(folder), pytest.raises(SparseftError, match=r"locked.*Permission denied"):
        write(folder / "target")
    assert list(folder.iterdir()) == []


@_writers
def test_a_file_where_a_folder_should_be(
    write: Callable[[Path], None], content_of: _Content, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("older")
    with pytest.raises(SparseftError, match=r"Not a directory|File exists"):
        write(tmp_path / "file" / "target")
    assert content_of(tmp_path) == {"file": b"older"}
