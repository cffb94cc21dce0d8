"""Where and with what code a measurement was taken."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import sparseft_kernels
from sparseft.results import environment as run_environment

__all__ = ["code_of", "environment"]

_KERNELS = Path(sparseft_kernels.__file__).parent
_BENCH = Path(__file__).parent
# Packages that several operations are made with.
_SHARED = ("entries", "tokens")
# What decides about a measurement, beside the operation itself.
_MEASURING = ("adapters/common.py", "cases.py", "forcing.py", "machine.py", "run.py")


@lru_cache(maxsize=64)
def code_of(operation: str) -> str:
    """A short hash of the code that a measurement of `operation` depends on.

    Finer than the commit: another commit with the same kernels needs no new measurement, and a
    checkout with changes, or without git, is told from others too.
    """
    package = operation.split(".")[0]
    sources = [
        *sorted(_KERNELS.glob("*.py")),
        *(path for name in (package, *_SHARED) for path in sorted((_KERNELS / name).glob("*.py"))),
        *(_BENCH / name for name in (*_MEASURING, f"adapters/{package}.py")),
    ]
    digest = hashlib.sha256()
    for source in sources:
        if source.exists():
            digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@lru_cache(maxsize=4)
def environment(device: torch.device | None) -> dict[str, Any]:
    """Commit, versions, and the device."""
    on_cuda = device is not None and device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_cuda else platform.machine()
    found = run_environment(name, torch.get_num_threads())
    return {**found, "cuda": torch.version.cuda, "peft": _version("peft")}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
