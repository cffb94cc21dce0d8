"""Small data files, and the optional folder of public data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sparseft.config import DataConfig
from sparseft.paths import default_data_root
from tests.data.helpers import Row, write_rows

MakeFiles = Callable[..., DataConfig]


@pytest.fixture
def shared_data() -> Path:
    """The folder of public data sets; a test that needs it is skipped where there is none."""
    root = default_data_root()
    if root is None:
        pytest.skip("data: needs the public data sets in ../shared/data beside the checkout")
    return root


@pytest.fixture
def files(tmp_path: Path) -> MakeFiles:
    """Write splits as files and give the config that reads them."""

    def make(
        train: Sequence[Row],
        test: Sequence[Row],
        validation: Sequence[Row] | None = None,
        suffix: str = ".jsonl",
        **settings: Any,
    ) -> DataConfig:
        for name, rows in (("train", train), ("test", test), ("validation", validation)):
            if rows is not None:
                write_rows(tmp_path / (name + suffix), rows)
        return DataConfig(
            **{
                "name": "mine",
                "kind": "files",
                "root": str(tmp_path),
                "train": "train" + suffix,
                "test": "test" + suffix,
                "validation": None if validation is None else "validation" + suffix,
                **settings,
            }
        )

    return make
