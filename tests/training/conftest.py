"""Faults of the file system and a small task on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.conftest import disk_full  # noqa: F401
from tests.training.helpers import write_task


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model and three CSV files."""
    return write_task(tmp_path_factory.mktemp("task"))
