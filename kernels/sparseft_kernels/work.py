"""The work that an operation cannot avoid, and the time that a machine needs for it at least."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Work"]


@dataclass(frozen=True)
class Work:
    """Floating point operations, and bytes that must cross the memory bus once."""

    flops: float
    bytes: float

    def floor(self, flops_per_second: float, bytes_per_second: float) -> float:
        """Seconds below which no implementation can go: max(FLOPs / peak, bytes / bandwidth)."""
        return max(self.flops / flops_per_second, self.bytes / bytes_per_second)

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)
