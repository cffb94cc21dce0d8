"""Ahead-of-time compilation for sm_80 and sm_90: needs no GPU, but no TRITON_INTERPRET either.

A few kernels here; every kernel with every setting under the mark `slow`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import aot
from bench.aot import Compiled

pytest.importorskip("triton")


def _aot(*arguments: str, timeout: int = 250) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    return subprocess.run(
        [sys.executable, "-m", "bench", "aot", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
    )


def test_a_kernel_compiles_for_both_architectures(tmp_path: Path) -> None:
    path = tmp_path / "aot.json"
    done = _aot(
        "--only", "masked_grad.columns", "--dtypes", "bfloat16", "--quick", "--json", str(path)
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    kernels = json.loads(path.read_text())["kernels"]
    products = [row for row in kernels if row["kernel"] == "gathered_product"]
    assert {row["architecture"] for row in products} == {80, 90}
    assert len({row["setting"] for row in products}) >= 3
    for row in products:
        assert 16 < row["registers"] <= 255
        assert 0 < row["shared_bytes"] <= 227 * 1024
        assert row["failure"] == ""


def test_too_much_stack_is_a_failure() -> None:
    # No kernel has less than none: every one is over this limit.
    done = _aot(
        "--only", "masked_grad.columns", "--dtypes", "bfloat16", "--quick", "--stack", "-1",
        "--architectures", "90",
    )  # fmt: skip
    assert done.returncode == 1
    assert "bytes of stack, allowed are -1" in done.stdout


def test_an_unknown_operation_is_said() -> None:
    done = _aot("--only", "no_such_operation")
    assert done.returncode == 2
    assert "no_such_operation" in done.stdout


def test_jobs_cover_every_kernel_dtype_and_architecture() -> None:
    from bench.adapters import adapters
    from sparseft_kernels import operations

    jobs = aot.jobs_for()
    with_kernel = {
        n for n, operation in operations().items() if "triton" in operation.implementations
    }
    assert {job.case.operation for job in jobs} == with_kernel
    for name in with_kernel:
        mine = [job for job in jobs if job.case.operation == name]
        assert {job.architecture for job in mine} == {80, 90}
        assert {job.case.dtype for job in mine} == set(adapters()[name].dtypes)


def _row(setting: int, registers: int, kernel: str = "k", failure: str = "") -> Compiled:
    return Compiled(
        90,
        "an.op",
        "bfloat16",
        kernel,
        {"BM": setting},
        "case",
        "",
        registers,
        0,
        1024,
        1.0,
        failure,
    )


def test_the_table_keeps_the_worst_of_each_setting() -> None:
    rows = [_row(16, 40), _row(16, 90), _row(32, 50), _row(16, 7, "sum"), _row(32, 7, "sum")]
    assert [(r["kernel"], r["setting"], r["registers"]) for r in aot.worst(rows)] == [
        ("k", "BM=16", 90), ("k", "BM=32", 50), ("sum", "any", 7),
    ]  # fmt: skip
    assert "| BM=16 | 90 | 0 | 1.0 |" in aot.markdown(rows)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_kernel_compiles_with_every_setting() -> None:
    done = _aot(timeout=3500)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert done.returncode == 0, "\n".join(failed) + done.stderr[-2000:]


def test_the_committed_table_is_what_the_document_shows() -> None:
    root = Path(__file__).resolve().parents[2]
    content = json.loads((root / "experiments/kernels/results/aot.json").read_text())
    assert aot.table_text(content) in (root / "docs/benchmarks.md").read_text()
    assert [row for row in content["kernels"] if row["failure"]] == []


def test_a_table_is_written_between_its_marks(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("a\n<!-- table: ahead of time -->\nold\n<!-- end of table -->\nb\n")
    rows = [_row(16, 40), _row(32, 50)]
    aot.save(tmp_path / "aot.json", rows)
    aot.write_table(document, json.loads((tmp_path / "aot.json").read_text()))
    text = document.read_text()
    assert text.startswith("a\n") and text.endswith("b\n") and "old" not in text
    assert "| an.op | `k` | 2 |  |  |  | 40 to 50 | 0 | 1 |" in text
