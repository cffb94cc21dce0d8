"""The small task that runs with constructs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.constructs.runs import write_task


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and texts with planted constructs: "word1 word2" can be one token."""
    return write_task(tmp_path_factory.mktemp("task"))
