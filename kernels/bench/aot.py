"""Ahead-of-time compilation of every kernel and setting, without a GPU.

Reports registers, stack (where the compiler keeps what does not fit into registers), shared memory
and compile time. A kernel that does not compile, takes more shared memory than the GPU has, or
more stack than allowed is a failure.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.cases import Case

__all__ = [
    "ARCHITECTURES",
    "STACK_LIMIT",
    "Compiled",
    "compile_all",
    "jobs_for",
    "markdown",
    "save",
    "summary",
    "table_text",
    "worst",
    "write_table",
]

ARCHITECTURES = (80, 90)
_BEGIN, _END = "<!-- table: ahead of time -->", "<!-- end of table -->"
# Bytes a thread. Some dozens are spilled pointers, seldom read again; a thousand are a loop that
# goes through local memory at every step.
STACK_LIMIT = 256


@dataclass(frozen=True)
class Compiled:
    """One kernel with one setting for one GPU.

    Attributes:
        case: the sizes that it was launched with; `variant` names a further call on them.
        seconds: of the call: compilation, or its look-up in Triton's cache.
        failure: "" or why it cannot be used.
    """

    architecture: int
    operation: str
    dtype: str
    kernel: str
    config: dict[str, int]
    case: str
    variant: str
    registers: int
    stack_bytes: int
    shared_bytes: int
    seconds: float
    failure: str = ""


@dataclass(frozen=True)
class Job:
    """One operation with one set of inputs for one architecture: all its settings."""

    architecture: int
    case: Case
    variants: bool = True


def jobs_for(
    only: str = "",
    architectures: Sequence[int] = ARCHITECTURES,
    dtypes: Sequence[str] = (),
    quick: bool = False,
    more: bool = False,
) -> list[Job]:
    """What has to be compiled: each operation in each dtype, with each of its options.

    Args:
        only: the start of an operation's name.
        architectures: compute capabilities times ten.
        dtypes: fewer than the operations take.
        quick: no further variants of the kernels.
        more: also the odd widths of `bench.small`, which no model has.
    """
    from bench.adapters import adapters
    from bench.small import small_cases
    from sparseft_kernels import operations

    # Triton compiles another kernel where a size is no multiple of 16: both kinds of selections.
    cases = []
    for name, adapter in adapters().items():
        if "triton" not in operations()[name].implementations:
            continue
        axes = adapter.axes
        for dtype, options, d, selected in itertools.product(
            adapter.dtypes, adapter.options, adapter.compiled_widths, (32, 38)
        ):
            tokens = 0 if axes.tokens == (0,) else 4096 if d <= 4096 else 256
            density = 0.0 if axes.densities == (0.0,) else round(selected / d, 4)
            cases.append(Case(name, dtype, d, tokens, density, options))
    if more:
        cases += small_cases()
    return [
        Job(architecture, case, not quick)
        for architecture in architectures
        for case in dict.fromkeys(cases)
        if case.operation.startswith(only) and (not dtypes or case.dtype in dtypes)
    ]


def _work(job: Job) -> list[dict[str, Any]]:
    """In a worker: compile all settings of one job."""
    import torch

    from bench import fake_driver
    from bench.adapters import adapters
    from bench.forcing import forced
    from sparseft_kernels import operations

    torch.set_num_threads(1)
    rows: list[Compiled] = []
    binaries: list[fake_driver.Binary] = []
    fake_driver.use(fake_driver.TARGETS[job.architecture], binaries.append)
    case = job.case
    operation = operations()[case.operation]
    problem = adapters()[case.operation].problem(case, torch.device("cpu"), 0)
    calls = {"": problem.run, **(problem.variants if job.variants else {})}
    for variant, call in calls.items():
        number, count = 0, 1
        while number < count:
            binaries.clear()
            # Kernels that another setting compiled already are loaded, and so reported, again.
            fake_driver.use(fake_driver.TARGETS[job.architecture], binaries.append)
            started = time.perf_counter()
            failure = ""
            with forced(
                case.operation,
                "triton",
                lambda dims, dtype: operation.configs(dims, dtype)[number],  # noqa: B023
            ) as seen:
                try:
                    call()
                except Exception as error:
                    failure = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            seconds = time.perf_counter() - started
            if not seen.called:
                failure = failure or "the operation asked dispatch.decide for nothing"
            else:
                count = len(operation.configs(seen.dims, seen.dtype))
            if not failure and not binaries:
                failure = "no kernel was launched"
            for binary in dict.fromkeys(binaries) or [fake_driver.Binary("", 0, 0, 0)]:
                rows.append(
                    Compiled(
                        job.architecture, case.operation, case.dtype, binary.kernel, seen.config,
                        case.key, variant, binary.registers, binary.stack_bytes,
                        binary.shared_bytes, round(seconds, 2), failure,
                    )
                )  # fmt: skip
            number += 1
    return [asdict(row) for row in rows]


def _start_worker(path: list[str]) -> None:
    sys.path[:] = path
    os.nice(5)


def compile_all(
    jobs: Sequence[Job], processes: int = 2, stack_limit: int = STACK_LIMIT, progress: bool = False
) -> list[Compiled]:
    """Compile in parallel processes; Triton's own cache keeps what has been compiled before."""
    # Read when triton is imported, which only the workers do.
    os.environ.pop("TRITON_INTERPRET", None)
    rows: list[Compiled] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_start_worker, initargs=(sys.path,)
    ) as pool:
        pending = {pool.submit(_work, job): job for job in jobs}
        for done, future in enumerate(as_completed(pending), 1):
            rows += [_judged(Compiled(**row), stack_limit) for row in future.result()]
            if progress:
                job = pending[future]
                print(f"{done}/{len(jobs)} sm_{job.architecture} {job.case.key}", flush=True)
    return sorted(
        rows, key=lambda r: (r.operation, r.architecture, r.dtype, r.case, r.variant, str(r.config))
    )


def _judged(row: Compiled, stack_limit: int) -> Compiled:
    if row.failure or row.stack_bytes <= stack_limit:
        return row
    failure = f"{row.stack_bytes} bytes of stack, allowed are {stack_limit}"
    return Compiled(**{**asdict(row), "failure": failure})


def worst(rows: Sequence[Compiled]) -> list[dict[str, Any]]:
    """For each kernel, dtype and setting the worst of its sizes, variants and options.

    Settings of which a kernel knows nothing (that of a second, reducing one) are one row, "any".
    """
    grouped: dict[tuple[Any, ...], dict[str, list[Compiled]]] = {}
    for row in rows:
        setting = " ".join(f"{k}={v}" for k, v in row.config.items())
        key = (row.operation, row.kernel, row.architecture, row.dtype)
        grouped.setdefault(key, {}).setdefault(setting, []).append(row)
    found = []
    for (operation, kernel, architecture, dtype), settings in grouped.items():
        figures = {
            setting: (
                max(row.registers for row in of),
                max(row.stack_bytes for row in of),
                max(row.shared_bytes for row in of),
                next((row.failure for row in of if row.failure), ""),
            )
            for setting, of in settings.items()
        }
        if len(figures) > 1 and len(set(figures.values())) == 1:
            figures = {"any": next(iter(figures.values()))}
        found += [
            {
                "operation": operation, "kernel": kernel, "architecture": architecture,
                "dtype": dtype, "setting": setting, "registers": registers,
                "stack_bytes": stack, "shared_bytes": shared, "failure": failure,
            }
            for setting, (registers, stack, shared, failure) in figures.items()
        ]  # fmt: skip
    return found


def markdown(rows: Sequence[Compiled]) -> str:
    """`worst` as a table."""
    lines = [
        "| operation | kernel | sm | dtype | setting | registers | stack bytes | shared KiB "
        "| failure |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['operation']} | {row['kernel']} | {row['architecture']} | {row['dtype']} "
        f"| {row['setting']} | {row['registers']} | {row['stack_bytes']} "
        f"| {row['shared_bytes'] / 1024:.1f} | {row['failure']} |"
        for row in worst(rows)
    ]
    return "\n".join(lines)


def summary(kernels: Sequence[Mapping[str, Any]]) -> str:
    """A short table of what `save` keeps: for each kernel the range over dtypes and settings."""
    grouped: dict[tuple[str, str], dict[int, list[Mapping[str, Any]]]] = {}
    for row in kernels:
        places = grouped.setdefault((row["operation"], row["kernel"]), {})
        places.setdefault(row["architecture"], []).append(row)
    lines = [
        "| operation | kernel | settings × dtypes "
        + "".join(f"| sm_{a}: registers | stack bytes | shared KiB " for a in ARCHITECTURES)
        + "|",
        "|---|---|---|" + "---|---|---|" * len(ARCHITECTURES),
    ]
    for (operation, kernel), places in sorted(grouped.items()):
        cells = [operation, f"`{kernel}`", str(max(len(rows) for rows in places.values()))]
        for architecture in ARCHITECTURES:
            rows = places.get(architecture, [])
            cells += [
                _range([row["registers"] for row in rows]),
                _range([row["stack_bytes"] for row in rows]),
                _range([round(row["shared_bytes"] / 1024) for row in rows]),
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _range(numbers: Sequence[int]) -> str:
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def write_table(document: Path, content: Mapping[str, Any]) -> None:
    """Put the summary of a saved table between the marks in a document."""
    from sparseft import files

    before, rest = document.read_text(encoding="utf-8").split(_BEGIN)
    after = rest.split(_END)[1]
    table = table_text(content)
    files.write_text(document, f"{before}{_BEGIN}\n{table}\n{_END}{after}")


def table_text(content: Mapping[str, Any]) -> str:
    """What stands between the marks."""
    where = content["environment"]
    failed = sum(bool(row["failure"]) for row in content["kernels"])
    return (
        f"{content['binaries']} binaries, {failed} failures; triton {where['triton']}, commit "
        f"{where['commit'][:7]}.\n\n{summary(content['kernels'])}"
    )


def save(path: Path, rows: Sequence[Compiled]) -> None:
    """`worst` as JSON, one kernel a line, with the compiler's version and the code's commit."""
    from bench.environment import environment
    from sparseft import files

    where = json.dumps(environment(None), sort_keys=True)
    lines = ",\n".join(json.dumps(row) for row in worst(rows))
    files.write_text(
        path,
        f'{{"environment": {where},\n"stack_limit": {STACK_LIMIT}, "binaries": {len(rows)},\n'
        f'"kernels": [\n{lines}\n]}}\n',
    )
