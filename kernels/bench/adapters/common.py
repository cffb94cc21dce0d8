"""What an adapter is made of, and the random inputs that all share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.cases import Axes, Case

__all__ = [
    "Adapter",
    "Problem",
    "Rival",
    "Run",
    "bytes_of",
    "dtype_of",
    "generator_for",
    "random",
    "selected",
    "selected_count",
]

Run = Callable[[], Sequence[Tensor]]


@dataclass(frozen=True)
class Rival:
    """Another way to the same end.

    Attributes:
        build: makes what it needs (weights, optimizers) and returns the call to be timed.
        checked: whether its results are comparable with the expected ones.
        graph: whether it may be captured in a CUDA graph.
    """

    build: Callable[[], Run]
    checked: bool = True
    graph: bool = True


@dataclass
class Problem:
    """One set of inputs of a case.

    Attributes:
        run: the public function of the operation; returns the tensors that hold its results.
        expected: the same results in float64, worked out from the inputs as they were made.
        bytes: of the tensors that one run touches: sets are rotated until they exceed the cache.
        rivals: by name.
        unavailable: rivals that cannot run here, with the reason.
        variants: further calls that reach other variants of the kernels.
        exact: whether results must equal the expected ones bit for bit.
        most_sets: how many sets of inputs may take turns at most.
    """

    run: Run
    expected: Run
    bytes: int
    rivals: Mapping[str, Rival] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, Run] = field(default_factory=dict)
    exact: bool = False
    most_sets: int = 256


@dataclass(frozen=True)
class Adapter:
    """An operation as the benchmarks see it.

    Attributes:
        operation: its name.
        problem: (case, device, seed) -> inputs.
        axes: the sizes it is measured at.
        options: further sizes: one list of cases for each.
        dtypes: the first is measured on the whole grid, the others on its corners.
        better_of: the rivals whose better one the dispatched operation must not be slower than.
        reference_is_timed: whether the plain-torch form is a rival on the device, too.
        compiled_widths: the widths that `bench aot` compiles for, where settings depend on them.
    """

    operation: str
    problem: Callable[[Case, torch.device, int], Problem]
    axes: Axes = field(default_factory=Axes)
    options: tuple[tuple[tuple[str, int | str], ...], ...] = ((),)
    dtypes: tuple[str, ...] = ("bfloat16", "float16", "float32")
    better_of: tuple[str, ...] = ()
    reference_is_timed: bool = False
    compiled_widths: tuple[int, ...] = (768,)


def bytes_of(*tensors: Tensor) -> int:
    """Of all of them together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def dtype_of(case: Case) -> torch.dtype:
    """The torch dtype of a case."""
    found: torch.dtype = getattr(torch, case.dtype)
    return found


def generator_for(case: Case, device: torch.device, seed: int) -> torch.Generator:
    """Fresh numbers for each case and each set of inputs, the same in every run."""
    digest = hashlib.sha256(f"{case.key} {seed}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))


def random(
    *shape: int, generator: torch.Generator, dtype: torch.dtype, scale: float = 1.0
) -> Tensor:
    """Normal numbers, drawn in float32 and rounded."""
    drawn = torch.randn(shape, generator=generator, device=generator.device)
    return drawn.mul_(scale).to(dtype)


def selected_count(limit: int, density: float) -> int:
    """How many of `limit` a density selects: at least one."""
    return max(1, round(density * limit))


def selected(limit: int, count: int, generator: torch.Generator) -> Tensor:
    """[count] int32 (int64 where it must be): distinct, ascending, below `limit`."""
    keys = torch.rand(limit, generator=generator, device=generator.device)
    chosen = keys.topk(count).indices.sort().values
    return chosen.to(torch.int32 if limit <= 2**31 else torch.int64)
