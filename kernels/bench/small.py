"""Every kernel on tiny shapes, twice: for compute-sanitizer, and to see that the bits are equal.

Odd numbers of tokens and sizes that are no multiple of a tile reach every mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from bench.adapters import adapters
from bench.cases import Case
from bench.forcing import forced, sizes_of
from sparseft_kernels import operations

__all__ = ["run_small", "small_cases"]


def small_cases(only: str = "") -> Iterator[Case]:
    """One small case for each operation, dtype and option."""
    for name, adapter in adapters().items():
        if not name.startswith(only) or "triton" not in operations()[name].implementations:
            continue
        for dtype in adapter.dtypes:
            for options in adapter.options:
                edge = int(dict(options).get("edge", 0))
                tokens = 0 if adapter.axes.tokens == (0,) else 147
                density = 0.0 if adapter.axes.densities == (0.0,) else 0.3
                yield Case(name, dtype, 2 * edge or 72, tokens, density, options)


def run_small(
    device: torch.device,
    only: str = "",
    dtype: str = "",
    quick: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Run each kernel with each setting twice.

    Args:
        device: where.
        only: the start of an operation's name.
        dtype: one dtype alone.
        quick: the first setting alone, without the kernels' further variants.
        say: hears of each case.

    Returns:
        The cases whose two results differ, or hold a number that is not finite.
    """
    bad = []
    for case in small_cases(only):
        if dtype and case.dtype != dtype:
            continue
        problem = adapters()[case.operation].problem(case, device, 0)
        seen = sizes_of(case.operation, problem.run)
        configs = operations()[case.operation].configs(seen.dims, seen.dtype)
        for config in configs[:1] if quick else configs:
            for variant in ("",) if quick else ("", *problem.variants):
                runs = [_once(case, device, dict(config), variant) for _ in range(2)]
                equal = all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
                finite = all(bool(t.isfinite().all()) for t in runs[0] if t.is_floating_point())
                if not equal or not finite:
                    what = "two runs differ" if not equal else "a result is not finite"
                    bad.append(f"{case.key} {variant} {dict(config)}: {what}")
        say(case.key)
    return bad


def _once(
    case: Case, device: torch.device, config: dict[str, int], variant: str
) -> Sequence[Tensor]:
    problem = adapters()[case.operation].problem(case, device, 0)
    call = problem.variants[variant] if variant else problem.run
    with forced(case.operation, "triton", config):
        return [tensor.clone() for tensor in call()]
