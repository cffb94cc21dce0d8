"""Where the kernels' tests run: on CUDA where there is a device, else through the interpreter."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """CUDA, or the CPU with Triton's interpreter (the root conftest has switched it on)."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def force(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """force("triton"): every operation takes this implementation until the test ends."""

    def choose(implementation: str) -> None:
        monkeypatch.setenv("SPARSEFT_KERNELS", implementation)

    return choose
