"""The optional folder of public data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparseft.paths import default_data_root


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder; a test that needs it is skipped where there is none."""
    root = default_data_root()
    if root is None or not (root / "sgd").is_dir():
        pytest.skip("data: needs the public data sets in ../shared/data beside the checkout")
    return root
