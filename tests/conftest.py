"""What every test stands on: no network, one thread, fixed seeds, no test dropped in silence."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]

# Set before torch, transformers or wandb are imported by any test: they read these once.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TRANSFORMERS_VERBOSITY="error",
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="offline",
    WANDB_SILENT="true",
    MPLBACKEND="Agg",
    OMP_NUM_THREADS="1",
    # Deterministic matrix products where there is a GPU.
    CUBLAS_WORKSPACE_CONFIG=":4096:8",
    # Python processes that tests start import the same library, installed or not.
    PYTHONPATH=os.pathsep.join([str(_ROOT), str(_ROOT / "kernels")]),
)
# A developer's own key must not turn a test into an upload.
os.environ.pop("WANDB_API_KEY", None)

import random

import hypothesis
import numpy as np
import pytest
import torch

torch.set_num_threads(1)

# Triton reads this when it is imported; where there is a CUDA device the kernels run on it.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# Drawn examples are the same on every machine and in every run; a failure prints how to repeat it.
hypothesis.settings.register_profile(
    "sparseft", derandomize=True, deadline=None, database=None, print_blob=True, max_examples=40
)
hypothesis.settings.load_profile("sparseft")

_SLOW = "slow: `pytest --slow` (or `make test-all`) runs it"
_GPU = "gpu: needs a CUDA device; plain `pytest` runs it on a machine that has one"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Skipped, not deselected: a skip is counted in the last line and named below, also under xdist.
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason=_SLOW))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason=_GPU))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name every test that did not run, under its reason, which says how to run it."""
    tests_by_reason: dict[str, set[str]] = defaultdict(set)
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        tests_by_reason[reason.removeprefix("Skipped: ")].add(report.nodeid)
    if not tests_by_reason:
        return
    terminalreporter.section("tests that did not run")
    for reason, tests in sorted(tests_by_reason.items()):
        terminalreporter.line(f"{len(tests)} × {reason}")
        for test in sorted(tests):
            terminalreporter.line(f"    {test}")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """The same global random state before each test, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
