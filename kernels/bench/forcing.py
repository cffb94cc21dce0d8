"""Make an operation take one implementation with one setting, and see the sizes that it passes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from sparseft_kernels import dispatch
from sparseft_kernels.dispatch import Config, Decision

__all__ = ["Seen", "forced", "sizes_of"]


@dataclass
class Seen:
    """What an operation asked the dispatcher while it was forced."""

    dims: dict[str, int] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    config: dict[str, int] = field(default_factory=dict)

    @property
    def called(self) -> bool:
        """Whether the operation asked at all."""
        return bool(self.dims)


@contextlib.contextmanager
def forced(
    operation: str,
    implementation: str,
    config: Config | Callable[[Mapping[str, int], torch.dtype], Config] | None = None,
) -> Iterator[Seen]:
    """Calls of `operation` inside the block take `implementation`; all others decide themselves.

    The public functions run as they are, with all their checks: only the decision is replaced. So
    it also holds where SPARSEFT_KERNELS could not ask for it, as for a compilation without a GPU.

    Args:
        operation: such as "masked_grad.rows".
        implementation: "triton", "cublas" or "reference".
        config: kernel settings, or a function of sizes and dtype that gives them.
    """
    original = dispatch.decide
    seen = Seen()

    def decide(name: str, device: torch.device, dtype: torch.dtype, **dims: int) -> Decision:
        if name != operation:
            return original(name, device, dtype, **dims)
        chosen: Any = config(dims, dtype) if callable(config) else config or {}
        seen.dims, seen.dtype, seen.config = dict(dims), dtype, dict(chosen)
        return Decision(name, implementation, "benchmark", dict(chosen))

    dispatch.decide = decide
    try:
        yield seen
    finally:
        dispatch.decide = original


class _Known(Exception):
    """Ends a call as soon as its sizes are known."""


def sizes_of(operation: str, call: Callable[[], object]) -> Seen:
    """The sizes and dtype with which `call` asks for `operation`; nothing is computed.

    Raises:
        RuntimeError: it does not ask dispatch.decide for this operation.
    """

    def stop(dims: Mapping[str, int], dtype: torch.dtype) -> Config:
        found.dims, found.dtype = dict(dims), dtype
        raise _Known

    found = Seen()
    with contextlib.suppress(_Known), forced(operation, "triton", stop):
        call()
    if not found.called:
        raise RuntimeError(f"expected a call that asks dispatch.decide for {operation}, got none")
    return found
