"""The benchmarks themselves, in miniature: run, resume, tables, dispatch, report, stages."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import command, gpu, report, run, tables
from bench.adapters import adapters, cases_of, missing
from bench.adapters.common import Adapter, Problem, generator_for, selected
from bench.cases import DENSITIES, TOKENS, WIDTHS, Axes, Case, grid, interleave, quick_points
from bench.environment import code_of
from bench.forcing import forced, sizes_of
from bench.machine import Ceilings, CpuMachine, CudaMachine
from bench.records import Records, folder_for, write_csv
from bench.small import small_cases
from sparseft_kernels import dispatch, explain, masked_grad, operations

GPU = "Miniature GPU"
ROWS = Case("masked_grad.rows", "float32", 32, 40, 0.2)
# One small case of each operation's first option; the sizes of a weight allow blocks of 16.
MINIATURE = {
    name: Case(
        name,
        "float32" if name.startswith("masked_grad") else adapter.dtypes[0],
        32,
        0 if adapter.axes.tokens == (0,) else 40,
        0.0 if adapter.axes.densities == (0.0,) else 0.2,
        adapter.options[0],
    )
    for name, adapter in adapters().items()
}


@pytest.fixture
def machine() -> CpuMachine:
    return CpuMachine(GPU)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(folder_for(GPU, tmp_path))


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted kernels take seconds: measure the plain forms alone."""
    for name, operation in operations().items():
        plain = tuple(i for i in operation.implementations if i != "triton")
        monkeypatch.setitem(dispatch._operations, name, replace(operation, implementations=plain))


# --- the cases ------------------------------------------------------------------------------------


def test_every_operation_has_an_adapter() -> None:
    assert missing() == []


def test_the_grid_is_whole_and_begins_with_its_corners() -> None:
    points = grid(Axes(), quick=False)
    assert len(points) == len(set(points)) == len(WIDTHS) * len(TOKENS) * len(DENSITIES)
    quick = quick_points(Axes())
    assert points[: len(quick)] == quick
    for d in (min(WIDTHS), max(WIDTHS)):
        for tokens in (min(TOKENS), max(TOKENS)):
            assert {(d, tokens, 0.005), (d, tokens, 0.20)} <= set(quick)


def test_the_cases_cover_the_operations_and_no_key_is_twice() -> None:
    cases = cases_of()
    assert len({case.key for case in cases}) == len(cases)
    assert {case.operation for case in cases} == set(operations())
    quick = cases_of(quick=True)
    assert cases[: len(quick)] == quick
    assert {case.operation for case in quick} == set(operations())
    assert {case.dtype for case in cases_of(dtype="float32")} == {"float32"}
    assert {c.operation for c in cases_of(only="masked_grad.rows")} == {"masked_grad.rows"}


def test_operations_advance_together() -> None:
    a, b = [replace(ROWS, d=d) for d in (1, 2)], [replace(ROWS, tokens=t) for t in (1, 2, 3)]
    assert interleave([a, b]) == [a[0], b[0], a[1], b[1], b[2]]


def test_inputs_are_fresh_and_repeatable() -> None:
    draws = [
        torch.rand(4, generator=generator_for(case, torch.device("cpu"), seed))
        for case, seed in ((ROWS, 0), (ROWS, 0), (ROWS, 1), (replace(ROWS, d=33), 0))
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])


def test_a_selection_is_ascending_without_duplicates() -> None:
    index = selected(100, 40, torch.Generator().manual_seed(0))
    assert index.dtype == torch.int32
    assert len(index) == 40
    assert bool((index[1:] > index[:-1]).all())


# --- forcing --------------------------------------------------------------------------------------


def test_forcing_replaces_one_decision_and_sees_the_sizes() -> None:
    dY, X, index = torch.randn(6, 5), torch.randn(6, 4), torch.tensor([1, 3])
    with forced("masked_grad.rows", "cublas") as seen:
        masked_grad.rows(dY, X, index)
    assert seen.dims == {"tokens": 6, "n": 5, "k": 4, "m": 2}
    assert seen.dtype == torch.float32
    assert not sizes_of("masked_grad.rows", lambda: masked_grad.rows(dY, X, index)).config
    with pytest.raises(RuntimeError, match=r"masked_grad.columns"):
        sizes_of("masked_grad.columns", lambda: masked_grad.rows(dY, X, index))


def test_forcing_ends_with_its_block() -> None:
    original = dispatch.decide
    with pytest.raises(ZeroDivisionError), forced("masked_grad.rows", "cublas"):
        assert dispatch.decide is not original
        raise ZeroDivisionError
    assert dispatch.decide is original


# --- measuring ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(MINIATURE))
def test_each_operation_is_verified_and_timed(
    name: str, machine: CpuMachine, records: Records, no_kernels: None
) -> None:
    summary = run.run_cases(machine, [MINIATURE[name]], records, anchors=set(), rounds=2)
    assert (summary.finished, summary.failed) == (1, [])
    (record,) = records
    assert record["dims"].keys() == set(operations()[name].dims)
    assert record["floor_us"] > 0
    for timing in record["timings"]:
        times = timing["microseconds"]
        assert 0 < times["p20"] <= times["p50"] <= times["p80"]
        assert timing["samples"] == 2


def test_a_kernel_is_measured_with_each_setting_on_an_anchor(
    machine: CpuMachine, records: Records
) -> None:
    if torch.cuda.is_available():
        pytest.skip("the miniature runs on the CPU, which needs the interpreter")
    run.run_cases(machine, [ROWS], records, anchors={ROWS.key}, rounds=1)
    (record,) = records
    kernels = [t for t in record["timings"] if t["name"] == "triton"]
    settings = operations()["masked_grad.rows"].configs(record["dims"], torch.float32)
    assert [t["config"] for t in kernels] == [dict(s) for s in settings]
    assert all(t["verified"] and t["relative_rms"] < 1e-5 for t in kernels)
    # Elsewhere the best of the anchor and the first guess are enough.
    other = replace(ROWS, density=0.4)
    best = min(kernels, key=lambda t: t["microseconds"]["p50"])["config"]
    chosen, tuned = run._configs(
        operations()["masked_grad.rows"], record["dims"], torch.float32, other, records, False
    )
    assert not tuned
    assert [dict(c) for c in chosen] == [best] + [
        dict(s) for s in settings[:1] if dict(s) != best
    ]  # fmt: skip


def test_a_run_resumes(machine: CpuMachine, records: Records, no_kernels: None) -> None:
    cases = [replace(ROWS, tokens=tokens) for tokens in (8, 16, 24)]
    first = run.run_cases(machine, cases[:2], records, anchors=set(), rounds=1)
    assert (first.finished, first.skipped, first.left) == (2, 0, 0)
    # A process that was killed in the middle of a line leaves the others readable.
    with records.path.open("a") as stream:
        stream.write('{"key": "half a rec')
    again = Records(records.path.parent)
    second = run.run_cases(machine, cases, again, anchors=set(), rounds=1)
    assert (second.finished, second.skipped) == (1, 2)
    assert len(Records(records.path.parent)) == 3


def test_other_code_is_measured_again(
    machine: CpuMachine, records: Records, no_kernels: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.run_cases(machine, [ROWS], records, anchors=set(), rounds=1)
    monkeypatch.setattr(run, "code_of", lambda operation: "other code")
    summary = run.run_cases(machine, [ROWS], records, anchors=set(), rounds=1)
    assert (summary.finished, summary.skipped) == (1, 0)
    assert [record["code"] for record in records.latest()] == ["other code"]
    assert code_of("masked_grad.rows") == code_of("masked_grad.columns") != code_of("unit_scores")


def test_no_case_begins_after_the_time(
    machine: CpuMachine, records: Records, no_kernels: None
) -> None:
    cases = [replace(ROWS, tokens=tokens) for tokens in (8, 16, 24)]
    summary = run.run_cases(machine, cases, records, anchors=set(), rounds=1, seconds=-1.0)
    assert (summary.finished, summary.left) == (0, 3)


def _adapter(monkeypatch: pytest.MonkeyPatch, wrong: Any, name: str = "masked_grad.rows") -> None:
    """Put an adapter in place whose operation returns wrong(the right result)."""
    true = adapters()[name]

    def problem(case: Case, device: torch.device, seed: int) -> Problem:
        made = true.problem(case, device, seed)
        right = made.run

        def spoilt() -> Sequence[Tensor]:
            return [wrong(tensor) for tensor in right()]

        return replace(made, run=spoilt)

    spoilt: Adapter = replace(true, problem=problem)
    monkeypatch.setattr(run, "adapters", lambda: {**adapters(), name: spoilt})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda t: t * 1.001,
        lambda t: torch.where(torch.arange(len(t))[:, None] == 0, math.nan, t),
        lambda t: t[1:],
    ],
)
def test_what_is_not_verified_is_not_timed(
    wrong: Any, machine: CpuMachine, records: Records, no_kernels: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    _adapter(monkeypatch, wrong)
    summary = run.run_cases(machine, [ROWS], records, anchors=set(), rounds=1)
    assert len(summary.failed) == 1
    (record,) = records
    (ours,) = [t for t in record["timings"] if t["name"] == "cublas"]
    assert not ours["verified"]
    assert "microseconds" not in ours
    assert len(run.failures(records, [ROWS])) == 1
    assert tables.table(records)["operations"] == {}
    assert "## Not verified" in report.report(records)


class _Uncapturable(CpuMachine):
    """A machine where a call that cannot be captured leaves the process unusable."""

    def timer(self, calls: Any, graph: bool) -> Any:
        timer = super().timer(calls, graph)
        if self._fails:
            self.usable = False
            raise RuntimeError("operation not permitted when stream is capturing")
        self._fails = True
        return timer

    _fails = False


def test_a_process_that_can_measure_no_more_stops_and_keeps_what_it_has(
    records: Records, no_kernels: None
) -> None:
    cases = [replace(ROWS, tokens=tokens) for tokens in (8, 16)]
    summary = run.run_cases(_Uncapturable(GPU), cases, records, anchors=set(), rounds=1)
    assert summary.broken
    assert (summary.finished, summary.left) == (1, 1)
    (record,) = records
    cublas, dense, _ = record["timings"]
    assert "microseconds" in cublas
    assert "not permitted" in dense["error"]
    again = run.run_cases(CpuMachine(GPU), cases, records, anchors=set(), rounds=1)
    assert (again.finished, again.skipped) == (1, 1)


def test_verifying_alone_keeps_nothing(
    machine: CpuMachine, records: Records, no_kernels: None
) -> None:
    summary = run.run_cases(machine, [ROWS], records, anchors=set(), timed=False)
    assert summary.finished == 1
    assert not records.path.exists()


def test_percentiles() -> None:
    assert run.percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert run.percentile([1.0, 2.0], 0.2) == pytest.approx(1.2)
    assert run.percentile([5.0], 0.8) == 5.0


def test_tiny_shapes_reach_every_kernel() -> None:
    with_kernel = {n for n, o in operations().items() if "triton" in o.implementations}
    assert {case.operation for case in small_cases()} == with_kernel


# --- the clock of a CUDA device, on a stand-in ----------------------------------------------------


class _Queue:
    """Stands for a device: graphs keep what was called while they captured, and repeat it."""

    def __init__(self) -> None:
        self.capturing: list[Any] | None = None
        self.now = 0.0

    def work(self, seconds: float) -> None:
        """A kernel."""
        if self.capturing is not None:
            self.capturing.append(seconds)
        else:
            self.now += seconds


def _stand_in(monkeypatch: pytest.MonkeyPatch) -> _Queue:
    queue = _Queue()

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = queue.now

        def synchronize(self) -> None:
            pass

        def elapsed_time(self, end: Event) -> float:
            return 1e3 * (end.at - self.at)

    class Stream:
        def __init__(self, device: torch.device | None = None) -> None:
            pass

        def wait_stream(self, other: Stream) -> None:
            pass

    class Graph:
        def capture_begin(self) -> None:
            self.kept: list[float] = []
            queue.capturing = self.kept

        def capture_end(self) -> None:
            queue.capturing = None

        def replay(self) -> None:
            for seconds in self.kept:
                queue.work(seconds)

    properties = SimpleNamespace(name=GPU, L2_cache_size=1000)
    for name, value in {
        "Event": Event, "Stream": Stream, "CUDAGraph": Graph,
        "current_device": lambda: 0, "get_device_properties": lambda device: properties,
        "current_stream": Stream, "stream": lambda stream: contextlib.nullcontext(),
        "synchronize": lambda device=None: None, "empty_cache": lambda: None,
        "_sleep": lambda cycles: queue.work(cycles * 1e-9),
        "mem_get_info": lambda device: (8 * 2**20, 0),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    return queue


def test_the_clock_measures_captured_calls_without_the_sleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = _stand_in(monkeypatch)
    machine_ = CudaMachine()
    assert (machine_.name, machine_.cache_bytes) == (GPU, 1000)
    calls = [lambda: queue.work(2e-6), lambda: queue.work(4e-6)]
    timer = machine_.timer(calls, graph=True)
    assert timer.mode == "graph"
    assert timer.sample() == pytest.approx(3e-6)
    assert timer.calls_per_sample == 2 * 200  # as many repeats as there may be
    single = machine_.timer(calls, graph=False)
    assert (single.mode, single.calls_per_sample) == ("launches", 2)
    assert single.sample() == pytest.approx(3e-6)
    long = machine_.timer([lambda: queue.work(0.5)], graph=True)
    assert long.calls_per_sample == 1


def test_a_failed_capture_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = _stand_in(monkeypatch)
    machine_ = CudaMachine()

    def waits() -> None:
        if queue.capturing is not None:
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        machine_.timer([waits], graph=True)
    assert not machine_.usable
    assert queue.capturing is None
    assert gc.isenabled()


def test_the_ceilings_are_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(monkeypatch)
    machine_ = CudaMachine()
    machine_.device = torch.device("cpu")
    monkeypatch.setattr(machine_, "_best", lambda call: call() is not None and 0.5)
    monkeypatch.setattr(machine_, "_product_rate", lambda dtype, side: 2.0 * side**3)
    found = machine_.ceilings()
    assert found.bytes_per_second == 2.0 * 2**20 / 0.5
    assert set(found.flops_per_second) == {"bfloat16", "float16", "float32"}
    assert machine_.host_seconds(lambda: None) >= 0


# --- from records to the dispatcher and the report ------------------------------------------------


def _record(case: Case, floor: float, times: dict[str, float], **changes: Any) -> dict[str, Any]:
    timings = [
        {
            "name": name, "config": {"BM": 16} if name == "triton" else {}, "verified": True,
            "microseconds": {"p20": t * 0.9, "p50": t, "p80": t * 1.1},
        }
        for name, t in times.items()
    ]  # fmt: skip
    m = max(1, round(case.density * case.d))
    return {
        "key": case.key, "gpu": GPU, "code": "c", "floor_us": floor, "timings": timings,
        "case": {
            "operation": case.operation, "dtype": case.dtype, "d": case.d, "tokens": case.tokens,
            "density": case.density, "options": dict(case.options),
        },
        "dims": {"tokens": case.tokens, "n": case.d, "k": case.d, "m": m},
        "dispatch_dtype": case.dtype, "tuned": True, "unavailable": {},
        "ceilings": {"bytes_per_second": 3e12, "flops_per_second": 8e14},
        "environment": {
            "commit": "0123456789abcdef", "dirty": False, "torch": "2", "triton": "3", "cuda": "13",
        },
        **changes,
    }  # fmt: skip


def test_the_dispatcher_reads_what_was_measured(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPARSEFT_KERNELS", raising=False)
    slow = Case("masked_grad.rows", "bfloat16", 1024, 256, 0.2)
    fast = Case("masked_grad.rows", "bfloat16", 1024, 4096, 0.05)
    records.append(_record(slow, 5.0, {"triton": 30.0, "cublas": 20.0, "dense": 1.0}))
    records.append(_record(fast, 5.0, {"triton": 7.0, "cublas": 20.0, "dense": 1.0}))
    monkeypatch.setattr(dispatch, "TABLES", tmp_path / "tables")
    dispatch._table.cache_clear()
    path = tables.write_table(Records(records.path.parent), GPU)
    assert path == dispatch.table_for(GPU, tmp_path / "tables")
    near_fast = explain("masked_grad.rows", gpu=GPU, tokens=4000, n=1024, k=1024, m=50)
    assert (near_fast.implementation, near_fast.config) == ("triton", {"BM": 16})
    assert "measured on Miniature GPU" in near_fast.reason
    near_slow = explain("masked_grad.rows", gpu=GPU, tokens=300, n=1024, k=1024, m=200)
    assert near_slow.implementation == "cublas"
    dispatch._table.cache_clear()


def test_a_newer_measurement_replaces_an_older_one(records: Records) -> None:
    case = Case("masked_grad.rows", "bfloat16", 1024, 4096, 0.05)
    for triton in (9.0, 8.0):
        records.append(_record(case, 5.0, {"triton": triton, "cublas": 20.0}))
    (entry,) = tables.table(records)["operations"]["masked_grad.rows"]
    assert entry["microseconds"] == {"triton": 8.0, "cublas": 20.0}


def test_measured_cases_pass_through_to_the_table(
    machine: CpuMachine, records: Records, no_kernels: None
) -> None:
    run.run_cases(machine, [ROWS], records, anchors=set(), rounds=1)
    (entry,) = tables.table(records)["operations"]["masked_grad.rows"]
    assert entry["dims"] == {"tokens": 40, "n": 32, "k": 32, "m": 6}
    assert set(entry["microseconds"]) == {"cublas"}
    lines = write_csv(records).read_text().splitlines()
    assert lines[0].startswith("gpu,operation,dtype,d,tokens,density")
    assert len(lines) == 1 + len(next(iter(records))["timings"])


def test_the_targets_are_judged(records: Records) -> None:
    rows = Case("masked_grad.rows", "bfloat16", 4096, 4096, 0.05)
    times = {"triton": 12.0, "cublas": 10.0, "dense": 30.0, "gather + cublas": 10.0}
    records.append(_record(rows, 8.0, times))
    # A third of the floor, and a quarter slower than the better rival.
    missed = {**times, "triton": 24.0, "cublas": 25.0, "gather + cublas": 20.0}
    records.append(_record(replace(rows, tokens=32768), 8.0, missed))
    floor, rival, *_ = report.verdicts(records)
    assert "masked_grad.rows: at least 70% of the floor" in floor.target
    assert "masked_grad.rows: never slower" in rival.target
    assert (floor.met, floor.cases) == (1, 2)
    assert floor.worst.startswith("33%: masked_grad.rows bfloat16 d=4096 tokens=32768")
    assert (rival.met, rival.cases) == (1, 2)
    assert rival.worst.startswith("1.20×")
    text = report.report(records)
    assert "| 8.0 | 80% | 1.00× |" in text
    assert "sparse_adamw: at least 80% of the bandwidth bound (d ≥ 1024) | not measured" in text


def test_an_optimizers_time_is_compared_with_its_density(records: Records) -> None:
    for density, time_ in ((0.05, 10.0), (0.20, 80.0)):
        case = Case("sparse_adamw.adamw", "bfloat16", 2048, 0, density)
        records.append(_record(case, 9.0, {"triton": time_}))
    (verdict,) = [v for v in report.verdicts(records) if "proportional" in v.target]
    assert (verdict.met, verdict.cases) == (0, 1)
    assert verdict.worst.startswith("2.00 of proportional")


def test_nothing_measured_is_said() -> None:
    assert "Nothing" in report.report(Records(Path("nowhere")))


# --- make gpu -------------------------------------------------------------------------------------


def _stage(name: str, code: str, **changes: Any) -> gpu.Stage:
    line = [sys.executable, "-c", code]
    return replace(
        gpu.Stage(name, "test", lambda seconds: line, 10, 1, gpu.by_status), **changes
    )  # fmt: skip


def _run(stages: list[gpu.Stage], folder: Path, code: str = "c", **keywords: Any) -> int:
    state = gpu.State(folder / "stages.json", code)
    keywords = {"seconds": 60.0, "say": lambda line: None, **keywords}
    return gpu.run_stages(stages, state, folder / "log.txt", **keywords)


def _statuses(folder: Path) -> dict[str, str]:
    stages = json.loads((folder / "stages.json").read_text())["stages"]
    return {name: mark["status"] for name, mark in stages.items()}


def test_a_failing_stage_does_not_stop_the_others(tmp_path: Path) -> None:
    stages = [_stage("bad", "raise SystemExit(1)"), _stage("good", "print('all is well')")]
    assert _run(stages, tmp_path) == 1
    assert _statuses(tmp_path) == {"bad": "failed", "good": "passed"}
    assert "all is well" in (tmp_path / "log.txt").read_text()


def test_a_passed_stage_is_not_run_again_with_the_same_code(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    stages = [_stage("once", f"open({str(counter)!r}, 'a').write('x')")]
    assert _run(stages, tmp_path) == _run(stages, tmp_path) == 0
    assert counter.read_text() == "x"
    assert _run(stages, tmp_path, code="other") == 0
    assert counter.read_text() == "xx"


def test_a_stage_over_its_time_is_ended_with_what_it_started(tmp_path: Path) -> None:
    child = "import time; time.sleep(1.5); open('CHILD', 'w').write('lived')".replace(
        "CHILD", str(tmp_path / "child")
    )
    code = (
        "import subprocess, sys, time; "
        f"subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    )
    slow = _stage("slow", code, budget=1.2, least=0.1)
    started = time.monotonic()
    assert _run([slow], tmp_path) == 0  # its time is used: it stays as far as it came
    assert time.monotonic() - started < 8
    assert _statuses(tmp_path) == {"slow": "unfinished"}
    time.sleep(1.0)
    assert not (tmp_path / "child").exists()


def test_the_time_of_a_call_leaves_the_rest_for_the_next(tmp_path: Path) -> None:
    stages = [_stage("first", "pass"), _stage("second", "pass", least=30, budget=40)]
    assert _run(stages, tmp_path, seconds=20.0) == gpu.MORE
    assert _statuses(tmp_path) == {"first": "passed"}
    assert _run(stages, tmp_path, seconds=60.0) == 0
    assert _statuses(tmp_path) == {"first": "passed", "second": "passed"}


def test_a_command_that_can_go_on_is_given_its_time_again(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = (
        f"import os, sys; p = {str(mark)!r}; done = os.path.exists(p); open(p, 'w'); "
        "sys.exit(0 if done else 3)"
    )
    assert _run([_stage("bench", code)], tmp_path) == gpu.MORE
    assert _run([_stage("bench", code)], tmp_path) == 0


def test_a_command_that_stops_early_goes_on_in_a_new_process(tmp_path: Path) -> None:
    count = tmp_path / "count"
    code = (
        f"import sys; p = {str(count)!r}; open(p, 'a').write('x'); "
        "sys.exit(0 if len(open(p).read()) == 3 else 3)"
    )
    assert _run([_stage("bench", code, restarts=5)], tmp_path) == 0
    assert count.read_text() == "xxx"
    assert _statuses(tmp_path) == {"bench": "passed"}


def test_what_was_tried_least_comes_first(tmp_path: Path) -> None:
    order = tmp_path / "order"

    def noting(name: str, status: int) -> gpu.Stage:
        return _stage(
            name, f"open({str(order)!r}, 'a').write({name!r}); raise SystemExit({status})"
        )

    _run([noting("a", 1)], tmp_path)
    _run([noting("a", 1), noting("b", 0)], tmp_path)
    assert order.read_text() == "aba"


def test_a_missing_package_is_named_and_does_not_pass(tmp_path: Path) -> None:
    said: list[str] = []
    stages = [_stage("tests", "pass", missing="hypothesis not installed")]
    assert _run(stages, tmp_path, say=said.append) == 1
    assert any("hypothesis not installed" in line for line in said)
    tool = [_stage("memcheck", "pass", missing="not on the PATH", if_missing="not run")]
    assert _run(tool, tmp_path / "tool") == 0
    assert _statuses(tmp_path / "tool") == {"memcheck": "not run: not on the PATH"}


def test_the_stages_of_a_known_gpu(tmp_path: Path) -> None:
    found = gpu.stages(tmp_path, "python", capability=90)
    names = [stage.name for stage in found]
    assert names[0] == "compile"
    assert "tests kernels/masked_grad" in names
    assert "tests kernels/aot" not in names
    assert {stage.group for stage in found} == {"test", "bench", "steps"}
    for stage in found:
        assert stage.least < stage.budget
        assert all(isinstance(word, str) for word in stage.command(100.0))
    assert "compile" not in [stage.name for stage in gpu.stages(tmp_path, "python", capability=75)]


def test_a_sanitizer_is_believed_about_our_kernels_alone() -> None:
    judge = gpu.by_sanitizer(["gathered_product"])
    assert judge(0, "========= ERROR SUMMARY: 0 errors") == "passed"
    ours = "Race reported at gathered_product+0x50\n== RACECHECK SUMMARY: 1 hazard"
    assert judge(9, ours) == "failed"
    theirs = "Race reported at cub_sort+0x50\n== RACECHECK SUMMARY: 1 hazard"
    assert judge(9, theirs).startswith("passed: hazards only")
    assert judge(1, "Error: Device not supported").startswith("not run")
    assert "gathered_product" in gpu.kernel_names()


def test_the_whole_step_benchmark_says_what_is_left() -> None:
    assert (
        gpu.by_steps(0, "records: x\n3 left, the next y; the same command goes on.") == "unfinished"
    )
    assert gpu.by_steps(0, "records: x") == "passed"
    assert gpu.by_steps(1, "") == "failed"


@pytest.mark.parametrize("name", ["run", "verify", "small", "gpu"], ids="-{}".format)
def test_without_a_device_one_line_says_what_is_needed(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main([name]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert "CUDA" in lines[0]


def test_tests_run_where_a_plugin_is_missing(tmp_path: Path) -> None:
    """pytest.ini's `timeout` is known although pytest-timeout is not there."""
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 5\naddopts = --strict-config\n")
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:timeout", str(tmp_path)]
    hidden = (
        "import importlib.util as u; f = u.find_spec; "
        "u.find_spec = lambda n, *a: None if n == 'pytest_timeout' else f(n, *a); "
        "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    )
    refused = subprocess.run(line, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert refused.returncode != 0
    helped = subprocess.run(
        [sys.executable, "-c", hidden, "-p", "bench.pytest_plugin", *line[3:]],
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert helped.returncode == 0, helped.stdout + helped.stderr


def test_ceilings_of_the_miniature_are_given(machine: CpuMachine) -> None:
    assert isinstance(machine.ceilings(), Ceilings)
