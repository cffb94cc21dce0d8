"""Importing the core costs no more than torch: the optimizers are for anybody's trainer."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_HEAVY = ("transformers", "datasets", "hydra", "wandb", "triton", "peft", "sklearn", "matplotlib")


def _loaded_by(statement: str) -> set[str]:
    """Top-level modules in a fresh interpreter after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    "statement",
    [
        "import sparseft",
        "import sparseft.optim",
        "from sparseft.optim import SparseAdamW, SparseSGD",
        "import sparseft.sparse, sparseft.selection, sparseft.saliency",
        "import sparseft_kernels",
        "import sparseft.results, sparseft.tracking, sparseft.config, sparseft.paths",
    ],
)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    assert _loaded_by(statement).isdisjoint(_HEAVY)


@pytest.mark.parametrize(
    "statement",
    ["import sparseft", "import sparseft.results, sparseft.tracking, sparseft.config"],
)
def test_not_even_torch_is_loaded(statement: str) -> None:
    assert "torch" not in _loaded_by(statement)


def test_the_probe_sees_a_heavy_import() -> None:
    assert "yaml" in _loaded_by("import yaml")
