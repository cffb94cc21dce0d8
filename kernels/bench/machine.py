"""Clocks: device time on CUDA, wall time elsewhere.

On CUDA the calls of a case (one for each set of inputs) are captured in one CUDA graph, so the time
of the host, which Python makes longer than many kernels, stays out; it is measured apart. What
cannot be captured is launched call by call behind a sleeping kernel, so that the queue is full when
the clock starts.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

__all__ = ["MOST_LAUNCHES", "Ceilings", "CpuMachine", "CudaMachine", "Machine", "Timer"]

Call = Callable[[], object]

# One sample lasts about this long: far above the resolution of the events (0.5 us).
_SAMPLE_SECONDS = 2e-3
_MOST_SETS = 256
# As many single launches a sleep of five milliseconds certainly outlasts.
MOST_LAUNCHES = 16


@dataclass(frozen=True)
class Ceilings:
    """What this machine reaches: bytes a second of a large copy, read and written both counted,
    and FLOPs a second of a large matrix product in each dtype."""

    bytes_per_second: float
    flops_per_second: dict[str, float]


class Timer(Protocol):
    """One implementation, ready to be timed."""

    mode: str
    calls_per_sample: int

    def sample(self) -> float:
        """Seconds of one call, averaged over a sample."""


class Machine(Protocol):
    """A device with its clock."""

    device: torch.device
    name: str
    cache_bytes: int
    sets_limit: int
    usable: bool  # whether this process can go on measuring

    def timer(self, calls: Sequence[Call], graph: bool) -> Timer:
        """A timer of these calls, each on inputs of its own, taken in turn."""

    def ceilings(self) -> Ceilings:
        """Measure both."""

    def host_seconds(self, call: Call) -> float:
        """Seconds until the host may go on after a call."""

    def synchronize(self) -> None:
        """Wait for the device."""

    def release(self) -> None:
        """Give memory that nothing uses back."""


class _CudaTimer:
    def __init__(self, launch: Callable[[], None], calls: int, mode: str) -> None:
        self._launch, self._repeats, self.mode = launch, 1, mode
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)
        self.calls_per_sample = calls
        self.sample()
        once = max(self.sample() * calls, 1e-7)
        if mode == "graph":
            self._repeats = max(1, min(200, round(_SAMPLE_SECONDS / once)))
        self.calls_per_sample = calls * self._repeats

    def sample(self) -> float:
        # The device sleeps while the host queues the launches: about 0.1 ms, and longer for many
        # single launches. The sleep lies before the first event.
        single = self.mode == "launches"
        torch.cuda._sleep(10_000_000 if single else 200_000)
        self._start.record()
        for _ in range(self._repeats):
            self._launch()
        self._end.record()
        self._end.synchronize()
        return self._start.elapsed_time(self._end) * 1e-3 / self.calls_per_sample


def _captured(calls: Sequence[Call], stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
    """As torch.cuda.graph, but it empties neither the allocator's cache nor Python's garbage."""
    graph = torch.cuda.CUDAGraph()
    collecting = gc.isenabled()
    gc.disable()  # garbage may hold what must not be freed while a stream is captured
    try:
        with torch.cuda.stream(stream):
            graph.capture_begin()
            try:
                for call in calls:
                    call()
            finally:
                graph.capture_end()
    finally:
        if collecting:
            gc.enable()
    return graph


class CudaMachine:
    """The current CUDA device."""

    def __init__(self) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())
        properties = torch.cuda.get_device_properties(self.device)
        self.name = properties.name
        self.cache_bytes = int(getattr(properties, "L2_cache_size", 64 * 2**20))
        self.sets_limit = _MOST_SETS
        self.usable = True
        # One for all: libraries keep a workspace for each stream.
        self._stream = torch.cuda.Stream(self.device)

    def timer(self, calls: Sequence[Call], graph: bool) -> Timer:
        stream = self._stream
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for call in [calls[0], calls[0], *calls]:  # compiles; fills workspaces and tables
                call()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        if graph:
            try:
                captured = _captured(calls, stream)
            except Exception:
                # torch's random generator stays in its capturing state: no further capture works.
                self.usable = False
                raise
            return _CudaTimer(captured.replay, len(calls), "graph")

        def launch() -> None:
            for call in calls:
                call()

        return _CudaTimer(launch, len(calls), "launches")

    def ceilings(self) -> Ceilings:
        size = min(2**31, torch.cuda.mem_get_info(self.device)[0] // 8)
        source = torch.ones(size, dtype=torch.uint8, device=self.device)
        found = Ceilings(
            2.0 * size / self._best(lambda: source.clone()),
            {
                "bfloat16": self._product_rate(torch.bfloat16, 8192),
                "float16": self._product_rate(torch.float16, 8192),
                "float32": self._product_rate(torch.float32, 4096),
            },
        )
        self.release()
        return found

    def _product_rate(self, dtype: torch.dtype, side: int) -> float:
        a = torch.randn(side, side, device=self.device).to(dtype)
        b = torch.randn(side, side, device=self.device).to(dtype)
        return 2.0 * side**3 / self._best(lambda: a @ b)

    def _best(self, call: Call) -> float:
        """The 20th percentile of 20 samples, as the device warms up and slows down."""
        timer = self.timer([call], graph=True)
        return sorted(timer.sample() for _ in range(20))[4]

    def host_seconds(self, call: Call) -> float:
        found = []
        for _ in range(5):
            self.synchronize()
            started = time.perf_counter()
            for _ in range(4):
                call()
            found.append((time.perf_counter() - started) / 4)
        self.synchronize()
        return sorted(found)[2]

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.device)

    def release(self) -> None:
        torch.cuda.empty_cache()


class _WallTimer:
    mode = "wall"

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls, self._next = list(calls), 0
        self.calls_per_sample = 1
        self.sample()

    def sample(self) -> float:
        call = self._calls[self._next % len(self._calls)]
        self._next += 1
        started = time.perf_counter()
        call()
        return time.perf_counter() - started


class CpuMachine:
    """The CPU, for the tests of the benchmarks themselves: no figure of it is ever recorded."""

    def __init__(self, name: str = "cpu", rates: Any = None) -> None:
        self.device = torch.device("cpu")
        self.name = name
        self.cache_bytes = 1024
        self.sets_limit = 2
        self.usable = True
        self._rates = rates

    def timer(self, calls: Sequence[Call], graph: bool) -> Timer:
        return _WallTimer(calls)

    def ceilings(self) -> Ceilings:
        return self._rates or Ceilings(1e9, dict.fromkeys(("bfloat16", "float16", "float32"), 1e9))

    def host_seconds(self, call: Call) -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    def synchronize(self) -> None:
        """Calls return when they are done."""

    def release(self) -> None:
        """Memory comes back by itself."""
