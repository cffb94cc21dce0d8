"""Run the cases: verify each implementation, time all in interleaved rounds, keep the record."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench.adapters import adapters
from bench.adapters.common import Adapter, Problem
from bench.cases import Case
from bench.environment import code_of, environment
from bench.forcing import forced, sizes_of
from bench.machine import MOST_LAUNCHES, Ceilings, Machine, Timer
from bench.records import Records
from sparseft_kernels import operations
from sparseft_kernels.dispatch import NAMES, Config, Operation

__all__ = ["Summary", "best_timing", "failures", "percentile", "relative_rms", "run_cases"]

SCHEMA_VERSION = 1
ROUNDS = 20
# Relative RMS against float64 that a result of a dtype may have. Sums are float32 from exactly
# representable products, so only the rounding of the result itself is in the narrower ones.
TOLERANCES = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1e-2}
_VERIFY_SEED = 1_000_000


@dataclass
class Summary:
    """What a run did."""

    finished: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    left: int = 0
    broken: bool = False  # this process can measure no more; another one can


@dataclass
class Entry:
    """One implementation of one case: how it is called, and what came out."""

    name: str
    config: dict[str, int]
    calls: Callable[[Sequence[Problem]], list[Callable[[], Sequence[Tensor]]]]
    checked: bool = True
    graph: bool = True
    verified: bool = False
    relative_rms: float | None = None
    error: str = ""
    timer: Timer | None = None
    samples: list[float] = field(default_factory=list)
    host_us: float | None = None

    def record(self) -> dict[str, Any]:
        """What is kept of it."""
        found: dict[str, Any] = {
            "name": self.name, "config": self.config, "verified": self.verified,
        }  # fmt: skip
        if self.relative_rms is not None:
            finite = math.isfinite(self.relative_rms)
            found["relative_rms"] = float(f"{self.relative_rms:.3g}") if finite else None
        if self.error:
            found["error"] = self.error
        if self.samples and self.timer is not None:
            found["microseconds"] = {
                f"p{share}": round(1e6 * percentile(self.samples, share / 100), 3)
                for share in (20, 50, 80)
            }
            found.update(
                samples=len(self.samples), calls_per_sample=self.timer.calls_per_sample,
                mode=self.timer.mode, host_us=self.host_us,
            )  # fmt: skip
        return found


def percentile(values: Sequence[float], share: float) -> float:
    """The value at this share of the ordered values, between neighbours linearly."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def run_cases(
    machine: Machine,
    cases: Sequence[Case],
    records: Records,
    *,
    anchors: set[str],
    seconds: float = math.inf,
    rounds: int = ROUNDS,
    timed: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> Summary:
    """Measure the cases that have no record yet.

    Args:
        machine: the device and its clock.
        cases: in this order.
        records: what was measured before; finished cases are appended one by one.
        anchors: keys of the cases where all settings of a kernel are tried. Elsewhere: the
            best setting of the nearest such case, and the dispatcher's own guess.
        seconds: no case begins that is not expected to end within them.
        rounds: samples of each implementation.
        timed: whether to time, too; without it nothing is kept.
        progress: hears one line for each case.
    """
    started = time.monotonic()
    summary = Summary()
    ceilings: Ceilings | None = None
    longest = 0.0
    for number, case in enumerate(cases):
        code = code_of(case.operation)
        if timed and records.finished(case.key, code):
            summary.skipped += 1
            continue
        spent = time.monotonic() - started
        if spent + longest > seconds:
            summary.left = sum(
                not records.finished(c.key, code_of(c.operation)) for c in cases[number:]
            )
            break
        if timed and ceilings is None:
            ceilings = machine.ceilings()
        begun = time.monotonic()
        record = _run_case(machine, case, records, case.key in anchors, rounds, ceilings)
        # The first cases compile; half of the longest so far is closer to what is to come.
        longest = max(0.5 * longest, time.monotonic() - begun)
        summary.finished += 1
        bad = [
            f"{case.key}: {t['name']}: {t.get('error') or 'not verified'}"
            for t in record["timings"]
            if t.get("error") or not t["verified"]
        ]
        summary.failed += bad
        if timed:
            records.append(record)
        progress(_line(record))
        for line in bad:
            progress(f"  FAILED {line}")
        if bad and (not machine.usable or _is_dead(machine)):
            summary.broken = True
            summary.left = len(cases) - number - 1
            break
    return summary


def _is_dead(machine: Machine) -> bool:
    try:
        machine.synchronize()
    except RuntimeError:
        return True
    return False


def _line(record: Mapping[str, Any]) -> str:
    parts = [
        f"{t['name']} {t['microseconds']['p50']:.1f}"
        for t in record["timings"]
        if "microseconds" in t
    ]
    floor = f"floor {record['floor_us']:.1f} us" if parts else "verified"
    return f"{record['key']}: {floor}; " + ", ".join(parts)


def _run_case(
    machine: Machine,
    case: Case,
    records: Records,
    is_anchor: bool,
    rounds: int,
    ceilings: Ceilings | None,
) -> dict[str, Any]:
    begun = time.monotonic()
    adapter, operation = adapters()[case.operation], operations()[case.operation]
    problem = adapter.problem(case, machine.device, _VERIFY_SEED)
    expected = [t.clone() for t in problem.expected()]
    seen = sizes_of(case.operation, problem.run)
    dims, dtype = seen.dims, seen.dtype
    unavailable, exact = dict(problem.unavailable), problem.exact
    size_of_set, most_sets = problem.bytes, problem.most_sets
    configs, tuned = _configs(operation, dims, dtype, case, records, is_anchor)
    entries = _entries(operation, adapter, problem, configs)
    del problem
    for entry in entries:
        _verify(machine, adapter, case, entry, expected, exact)
    del expected
    work = operation.work(dims, torch.empty((), dtype=dtype).element_size())
    count = 0
    if ceilings is not None:
        wanted = -(-2 * machine.cache_bytes // max(1, size_of_set))
        count = max(1, min(wanted, most_sets, machine.sets_limit))
        problems = [adapter.problem(case, machine.device, seed) for seed in range(count)]
        _time(machine, problems, [e for e in entries if e.verified and not e.error], rounds)
        del problems
    timings = [entry.record() for entry in entries]
    for entry in entries:
        entry.timer = None
    machine.release()
    peak = ceilings.flops_per_second[str(dtype).removeprefix("torch.")] if ceilings else math.inf
    bandwidth = ceilings.bytes_per_second if ceilings else math.inf
    return {
        "schema_version": SCHEMA_VERSION,
        "key": case.key,
        "case": {
            "operation": case.operation, "dtype": case.dtype, "d": case.d, "tokens": case.tokens,
            "density": case.density, "options": dict(case.options),
        },
        "dims": dims,
        "dispatch_dtype": str(dtype).removeprefix("torch."),
        "gpu": machine.name,
        "code": code_of(case.operation),
        "environment": environment(machine.device),
        "ceilings": None if ceilings is None else {
            "bytes_per_second": bandwidth, "flops_per_second": peak,
        },
        "work": {"flops": work.flops, "bytes": work.bytes},
        "floor_us": 1e6 * work.floor(peak, bandwidth),
        "tuned": tuned,
        "input_sets": count,
        "bytes_of_a_set": size_of_set,
        "timings": timings,
        "unavailable": unavailable,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.monotonic() - begun, 2),
    }  # fmt: skip


def _configs(
    operation: Operation,
    dims: Mapping[str, int],
    dtype: torch.dtype,
    case: Case,
    records: Records,
    is_anchor: bool,
) -> tuple[list[Config], bool]:
    """The settings to try, and whether these are all."""
    every = list(operation.configs(dims, dtype))
    if is_anchor:
        return every, True
    nearest: tuple[float, dict[str, int]] | None = None
    for record in records:
        there = record["case"]
        same = (
            there["operation"] == case.operation
            and there["dtype"] == case.dtype
            and there["options"] == dict(case.options)
        )
        best = best_timing(record, "triton")
        if not same or not record["tuned"] or best is None:
            continue
        distance = sum(
            math.log2((there[axis] + 1e-9) / (getattr(case, axis) + 1e-9)) ** 2
            for axis in ("d", "tokens", "density")
        )
        if nearest is None or distance < nearest[0]:
            nearest = distance, best["config"]
    if nearest is None:
        return every, True
    chosen = [config for config in every if config == nearest[1]] + every[:1]
    return [config for i, config in enumerate(chosen) if config not in chosen[:i]], False


def best_timing(record: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The fastest verified timing of one implementation in a record."""
    found = [
        t for t in record["timings"] if t["name"] == name and t["verified"] and "microseconds" in t
    ]
    return min(found, key=lambda t: t["microseconds"]["p50"], default=None)


def failures(records: Records, cases: Sequence[Case]) -> list[str]:
    """The implementations that could not be verified in the newest records of these cases.

    A rival that fails is in the report; it is no failure of ours.
    """
    keys = {case.key for case in cases}
    return [
        f"{record['key']}: {timing['name']} {timing['config']}: {timing.get('error', '')}"
        for record in records.latest()
        if record["key"] in keys
        for timing in record["timings"]
        if timing["name"] in NAMES and (timing.get("error") or not timing["verified"])
    ]


def _entries(
    operation: Operation, adapter: Adapter, problem: Problem, configs: Sequence[Config]
) -> list[Entry]:
    ways: list[tuple[str, Config]] = []
    if "triton" in operation.implementations:
        ways += [("triton", config) for config in configs]
    if "cublas" in operation.implementations:
        ways.append(("cublas", {}))
    if adapter.reference_is_timed:
        ways.append(("reference", {}))
    entries = [
        Entry(name, dict(config), _forced_calls(operation.name, name, config))
        for name, config in ways
    ]
    for name, rival in problem.rivals.items():
        entries.append(
            Entry(name, {}, _rival_calls(name), checked=rival.checked, graph=rival.graph)
        )
    return entries


def _forced_calls(
    operation: str, implementation: str, config: Config
) -> Callable[[Sequence[Problem]], list[Callable[[], Sequence[Tensor]]]]:
    def of(problem: Problem) -> Callable[[], Sequence[Tensor]]:
        def call() -> Sequence[Tensor]:
            with forced(operation, implementation, config):
                return problem.run()

        return call

    return lambda problems: [of(problem) for problem in problems]


def _rival_calls(
    name: str,
) -> Callable[[Sequence[Problem]], list[Callable[[], Sequence[Tensor]]]]:
    return lambda problems: [problem.rivals[name].build() for problem in problems]


def _verify(
    machine: Machine,
    adapter: Adapter,
    case: Case,
    entry: Entry,
    expected: Sequence[Tensor],
    exact: bool,
) -> None:
    """Run once on fresh inputs and compare with the truth. Sets `verified` or `error`."""
    try:
        problem = adapter.problem(case, machine.device, _VERIFY_SEED)
        call = entry.calls([problem])[0]
        _poison(expected)
        results = list(call())
        machine.synchronize()
    except Exception as error:
        entry.error = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return
    if not entry.checked:
        entry.verified = True
        return
    if [tuple(r.shape) for r in results] != [tuple(e.shape) for e in expected]:
        entry.error = (
            f"shapes {[tuple(r.shape) for r in results]}, "
            f"expected {[tuple(e.shape) for e in expected]}"
        )
        return
    entry.relative_rms = 0.0
    entry.verified = True
    for result, truth in zip(results, expected, strict=True):
        allowed = 0.0 if exact else TOLERANCES[result.dtype]
        found = relative_rms(result, truth)
        entry.relative_rms = max(entry.relative_rms, found)
        if not found <= allowed:
            entry.verified = False
            entry.error = f"relative RMS {found:.2e}, allowed are {allowed:.0e}"


def relative_rms(result: Tensor, truth: Tensor) -> float:
    """|result - truth| / |truth|; infinity where a result is not finite."""
    if truth.numel() == 0:
        return 0.0
    difference = float((result.double() - truth.double()).norm())
    if difference == 0.0:
        return 0.0
    size = float(truth.double().norm())
    return difference / size if math.isfinite(difference) and size else math.inf


def _poison(like: Sequence[Tensor]) -> None:
    """Fill memory of the results' sizes with NaN and free it: what an operation then allocates
    and leaves unwritten shows."""
    for _ in range(3):
        for tensor in like:
            for dtype in (torch.float32, torch.bfloat16):
                torch.full_like(tensor, math.nan, dtype=dtype)


def _time(
    machine: Machine, problems: Sequence[Problem], entries: Sequence[Entry], rounds: int
) -> None:
    """Samples of all entries in turns, in another order each round."""
    for entry in entries:
        try:
            calls = entry.calls(problems if entry.graph else problems[:MOST_LAUNCHES])
            entry.timer = machine.timer(calls, entry.graph)
            entry.host_us = round(1e6 * machine.host_seconds(calls[0]), 2)
        except Exception as error:
            entry.error = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            entry.timer = None
            if _is_dead(machine):
                return
            if not machine.usable:
                break
    ready = [entry for entry in entries if entry.timer is not None]
    for round_ in range(rounds):
        order = list(ready)
        random.Random(round_).shuffle(order)
        for entry in order:
            assert entry.timer is not None
            entry.samples.append(entry.timer.sample())
