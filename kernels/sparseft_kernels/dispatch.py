"""Which implementation of an operation runs, and why.

Every operation has a `reference` in plain torch. Some have a `triton` kernel, some a `cublas` form
(gathers and dense matrix products). On a CUDA device the choice comes from measured break-even
tables (`tables/<gpu>.json`, written by `python -m bench`), and where a GPU has no table from the
operation's own rule. Elsewhere the reference runs.

The environment variable SPARSEFT_KERNELS overrides it: `auto`, `triton`, `cublas`, `reference`, or
single operations, as in `masked_grad.rows=cublas,unit_scores=reference`.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from sparseft_kernels.errors import KernelInputError
from sparseft_kernels.work import Work

__all__ = [
    "VARIABLE",
    "Decision",
    "Operation",
    "decide",
    "explain",
    "operations",
    "register",
    "settings",
    "table_for",
]

VARIABLE = "SPARSEFT_KERNELS"
NAMES = ("triton", "cublas", "reference")
TRITON_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
TABLES = Path(__file__).parent / "tables"

Dims = Mapping[str, int]
Config = Mapping[str, int]


@dataclass(frozen=True)
class Operation:
    """One operation as the dispatcher and the benchmarks see it."""

    name: str
    dims: tuple[str, ...]  # names of the sizes that decide
    implementations: tuple[str, ...]  # besides "reference", which all have
    work: Callable[[Dims, int], Work]  # (dims, bytes of one number) -> what cannot be avoided
    rule: Callable[[Dims, torch.dtype], tuple[str, str]]  # -> (implementation, why), for no table
    configs: Callable[[Dims, torch.dtype], tuple[Config, ...]]  # kernel settings, best guess first
    exact: tuple[str, ...] = field(default=())  # sizes that a table entry must share exactly


@dataclass(frozen=True)
class Decision:
    """An implementation, its kernel settings, and the reason for the choice."""

    operation: str
    implementation: str
    reason: str
    config: Config = field(default_factory=dict)

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value}" for key, value in self.config.items())
        return f"{self.operation}: {self.implementation} ({self.reason})" + (
            f" with {settings}" if settings else ""
        )


_operations: dict[str, Operation] = {}


def register(operation: Operation) -> Operation:
    """Make an operation known; its package calls this once when imported."""
    _operations[operation.name] = operation
    return operation


def settings(*texts: str) -> tuple[Config, ...]:
    """Kernel settings from texts such as "BM=64 BN=128 num_warps=4"."""
    return tuple(
        {key: int(value) for key, value in (part.split("=") for part in text.split())}
        for text in texts
    )


def operations() -> Mapping[str, Operation]:
    """All operations by name."""
    return dict(_operations)


def _find(name: str) -> Operation:
    if name not in _operations:
        raise KernelInputError(
            f"expected an operation of {', '.join(sorted(_operations))}; got {name!r}."
        )
    return _operations[name]


def decide(name: str, device: torch.device, dtype: torch.dtype, **dims: int) -> Decision:
    """The implementation for one call. Cached: repeated shapes cost one dictionary look-up.

    Args:
        name: such as "masked_grad.rows".
        device: where the tensors are.
        dtype: of the activations (of the values, for optimizers and swaps).
        dims: the operation's sizes, all of `Operation.dims`.

    Raises:
        KernelInputError: unknown operation, or a forced implementation that cannot run here.
    """
    return _decide(
        name,
        device.type,
        device.index,
        dtype,
        os.environ.get(VARIABLE, "auto"),
        tuple(dims.items()),
    )


def explain(
    name: str,
    *,
    device: str | torch.device = "cuda",
    dtype: torch.dtype = torch.bfloat16,
    gpu: str | None = None,
    **dims: int,
) -> Decision:
    """Say which implementation a call of these sizes would take, and why.

    Args:
        name: such as "masked_grad.rows"; `operations()` lists all with their sizes.
        device: "cuda" or "cpu"; needs no such device.
        dtype: of the activations.
        gpu: a device name, to ask about another machine's table.
        dims: the operation's sizes, as in explain("masked_grad.rows", tokens=4096, n=768, k=768,
            m=38).

    Returns:
        A decision; `str()` of it is one line to read.

    Raises:
        KernelInputError: unknown operation, missing or unknown sizes.
    """
    operation = _find(name)
    if set(dims) != set(operation.dims):
        raise KernelInputError(
            f"expected the sizes {', '.join(operation.dims)} for {name}, got "
            f"{', '.join(dims) or 'none'}; pass each as a keyword."
        )
    place = torch.device(device)
    forced = os.environ.get(VARIABLE, "auto")
    if gpu is None and place.type == "cuda" and torch.cuda.is_available():
        gpu = torch.cuda.get_device_name(place)
    return _choose(operation, place.type, gpu, dtype, forced, dims)


@lru_cache(maxsize=4096)
def _decide(
    name: str,
    device_type: str,
    device_index: int | None,
    dtype: torch.dtype,
    forced: str,
    dims: tuple[tuple[str, int], ...],
) -> Decision:
    gpu = torch.cuda.get_device_name(device_index) if device_type == "cuda" else None
    return _choose(_find(name), device_type, gpu, dtype, forced, dict(dims))


def _choose(
    operation: Operation,
    device_type: str,
    gpu: str | None,
    dtype: torch.dtype,
    forced: str,
    dims: Dims,
) -> Decision:
    wanted = _forced(operation.name, forced)
    if wanted is not None:
        return _obey(operation, wanted, device_type, dtype, dims)
    if device_type != "cuda":
        return Decision(operation.name, "reference", f"tensors are on {device_type}, not on CUDA")
    if dtype not in TRITON_DTYPES:
        name = "cublas" if "cublas" in operation.implementations else "reference"
        return Decision(operation.name, name, f"no kernel for {dtype}")
    measured = None if gpu is None else _measured(operation, gpu, dtype, dims)
    if measured is not None:
        name, reason, config = measured
    else:
        name, why = operation.rule(dims, dtype)
        reason = f"rule, as no measurement of {gpu or 'this device'} is known: {why}"
        config = operation.configs(dims, dtype)[0]
    if name == "triton" and not _has_triton():
        fallback = "cublas" if "cublas" in operation.implementations else "reference"
        return Decision(operation.name, fallback, "triton is not installed")
    return Decision(operation.name, name, reason, config if name == "triton" else {})


def _forced(name: str, text: str) -> str | None:
    """What the environment variable asks for this operation."""
    chosen: str | None = None
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, _, value = part.rpartition("=")
        if value not in (*NAMES, "auto"):
            raise KernelInputError(
                f"expected {VARIABLE} as auto, {', '.join(NAMES)}, or operation=one of these; "
                f"got {part!r}."
            )
        if key and key not in _operations and key not in {n.split(".")[0] for n in _operations}:
            raise KernelInputError(
                f"expected an operation of {', '.join(sorted(_operations))} in {VARIABLE}, "
                f"got {key!r}."
            )
        if not key or name == key or name.split(".")[0] == key:
            chosen = None if value == "auto" else value
    return chosen


def _obey(
    operation: Operation, wanted: str, device_type: str, dtype: torch.dtype, dims: Dims
) -> Decision:
    if wanted != "reference" and wanted not in operation.implementations:
        return Decision(operation.name, "reference", f"{VARIABLE}={wanted}, which it has not")
    if wanted == "triton":
        if not _has_triton():
            raise KernelInputError(
                f"expected triton for {VARIABLE}=triton, got no such package; install it."
            )
        if device_type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
            raise KernelInputError(
                f"expected CUDA tensors for {VARIABLE}=triton, got {device_type}; move them, or "
                "set TRITON_INTERPRET=1 before Python starts to interpret the kernels."
            )
        if dtype not in TRITON_DTYPES:
            raise KernelInputError(
                f"expected bfloat16, float16 or float32 for {VARIABLE}=triton, got {dtype}; cast."
            )
    config = operation.configs(dims, dtype)[0] if wanted == "triton" else {}
    return Decision(operation.name, wanted, f"{VARIABLE}={wanted}", config)


@lru_cache(maxsize=1)
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def table_for(gpu: str, folder: Path = TABLES) -> Path:
    """The file with the measurements of one kind of GPU, by its CUDA device name."""
    return folder / (gpu.replace(" ", "-").replace("/", "-") + ".json")


@lru_cache(maxsize=8)
def _table(gpu: str, folder: Path) -> Mapping[str, list[dict[str, Any]]]:
    path = table_for(gpu, folder)
    if not path.exists():
        return {}
    cases: Mapping[str, list[dict[str, Any]]] = json.loads(path.read_text())["operations"]
    return cases


def _measured(
    operation: Operation, gpu: str, dtype: torch.dtype, dims: Dims
) -> tuple[str, str, Config] | None:
    """The fastest implementation of the nearest measured case, by distance in powers of two."""
    name = str(dtype).removeprefix("torch.")
    nearest: tuple[float, dict[str, Any]] | None = None
    for case in _table(gpu, TABLES).get(operation.name, ()):
        there = case["dims"]
        if case["dtype"] != name or any(there[d] != dims[d] for d in operation.exact):
            continue
        distance = sum((math.log2((there[d] + 1) / (dims[d] + 1))) ** 2 for d in operation.dims)
        if nearest is None or distance < nearest[0]:
            nearest = (distance, case)
    if nearest is None:
        return None
    case = nearest[1]
    times: Mapping[str, float] = case["microseconds"]
    best = min(times, key=lambda key: times[key])
    sizes = ", ".join(f"{key}={value}" for key, value in case["dims"].items())
    figures = ", ".join(f"{key} {value:.1f} us" for key, value in sorted(times.items()))
    return best, f"measured on {gpu} at {sizes}: {figures}", case.get("config", {})
