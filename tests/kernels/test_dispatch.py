"""Which implementation runs: the rule, a table of measurements, the environment variable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import sparseft_kernels
from sparseft_kernels import KernelInputError, dispatch, explain, masked_grad, operations

GPU = "Test GPU 80GB/X"
ROWS = {"tokens": 4096, "n": 768, "k": 768, "m": 38}
BLOCKS = {"tokens": 4096, "n": 768, "k": 768, "m": 36, "edge": 16}


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARSEFT_KERNELS", raising=False)


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """tables({"masked_grad.rows": [case, …]}): the dispatcher finds these measurements of GPU."""
    monkeypatch.setattr(dispatch, "TABLES", tmp_path)

    def write(cases: dict[str, list[dict[str, Any]]]) -> None:
        content = {"environment": {}, "operations": cases}
        dispatch.table_for(GPU, tmp_path).write_text(json.dumps(content))
        dispatch._table.cache_clear()

    yield write
    dispatch._table.cache_clear()


def _case(dims: dict[str, int], triton: float, cublas: float, **changes: Any) -> dict[str, Any]:
    return {
        "dtype": "bfloat16", "dims": dims, "config": {"BM": 16},
        "microseconds": {"triton": triton, "cublas": cublas}, **changes,
    }  # fmt: skip


def test_every_operation_has_a_rule_settings_and_work() -> None:
    for name, operation in operations().items():
        # Sizes that divide each other, so that a rule may take shares and edges of them.
        dims = {size: 16 if size == "edge" else 4096 for size in operation.dims}
        for dtype in (torch.bfloat16, torch.float32):
            implementation, why = operation.rule(dims, dtype)
            assert implementation in (*operation.implementations, "reference"), name
            assert why
            assert len(operation.configs(dims, dtype)) >= 1
        work = operation.work(dims, 2)
        assert work.bytes > 0
        assert work.flops >= 0
        assert set(operation.exact) <= set(operation.dims)


def test_work_bounds_time_by_the_slower_of_both() -> None:
    work = sparseft_kernels.dispatch.Work(flops=100.0, bytes=40.0)
    assert work.floor(flops_per_second=50.0, bytes_per_second=10.0) == 4.0
    assert work.floor(flops_per_second=10.0, bytes_per_second=10.0) == 10.0
    assert (work + work).bytes == 80.0


def test_the_cpu_takes_the_reference_and_says_so() -> None:
    decision = explain("masked_grad.rows", device="cpu", **ROWS)
    assert decision.implementation == "reference"
    assert "cpu" in str(decision)


def test_without_a_table_the_rule_decides_and_is_named() -> None:
    few = explain("masked_grad.rows", gpu="Unknown GPU", **ROWS)
    assert few.implementation == "triton"
    assert few.config == dispatch.operations()["masked_grad.rows"].configs(ROWS, torch.bfloat16)[0]
    assert "no measurement of Unknown GPU" in few.reason
    many = explain("masked_grad.rows", gpu="Unknown GPU", **{**ROWS, "m": 600})
    assert many.implementation == "cublas"
    assert many.config == {}


def test_float64_has_no_kernel() -> None:
    decision = explain("masked_grad.rows", gpu=GPU, dtype=torch.float64, **ROWS)
    assert decision.implementation == "cublas"


def test_the_nearest_measurement_decides(tables: Any) -> None:
    far = {**ROWS, "tokens": 256, "m": 4}
    tables({"masked_grad.rows": [_case(ROWS, 10.0, 12.0), _case(far, 9.0, 3.0)]})
    near = explain("masked_grad.rows", gpu=GPU, **{**ROWS, "m": 40})
    assert (near.implementation, near.config) == ("triton", {"BM": 16})
    assert "triton 10.0 us" in near.reason and GPU in near.reason and "m=38" in near.reason
    other = explain("masked_grad.rows", gpu=GPU, **{**far, "m": 5})
    assert (other.implementation, other.config) == ("cublas", {})


def test_a_measurement_of_another_dtype_does_not_count(tables: Any) -> None:
    tables({"masked_grad.rows": [_case(ROWS, 12.0, 10.0, dtype="float16")]})
    assert explain("masked_grad.rows", gpu=GPU, **ROWS).implementation == "triton"
    half = explain("masked_grad.rows", gpu=GPU, dtype=torch.float16, **ROWS)
    assert half.implementation == "cublas"


def test_exact_sizes_must_agree(tables: Any) -> None:
    tables({"masked_grad.blocks": [_case({**BLOCKS, "edge": 32}, 12.0, 10.0)]})
    assert "rule" in explain("masked_grad.blocks", gpu=GPU, **BLOCKS).reason
    same = explain("masked_grad.blocks", gpu=GPU, **{**BLOCKS, "edge": 32, "n": 1024})
    assert same.implementation == "cublas"


def test_a_gpu_name_becomes_a_file_name() -> None:
    assert dispatch.table_for(GPU, Path()).name == "Test-GPU-80GB-X.json"


def test_the_committed_tables_are_well_formed() -> None:
    known = operations()
    for path in dispatch.TABLES.glob("*.json"):
        for name, cases in json.loads(path.read_text())["operations"].items():
            assert name in known, path.name
            for case in cases:
                assert set(case["dims"]) == set(known[name].dims), path.name
                assert set(case["microseconds"]) <= {*known[name].implementations, "reference"}
                assert all(us > 0 for us in case["microseconds"].values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cublas", "cublas"),
        ("reference", "reference"),
        ("auto", "triton"),
        ("masked_grad=cublas", "cublas"),
        ("masked_grad.rows=cublas", "cublas"),
        ("masked_grad.columns=cublas", "triton"),
        ("cublas,masked_grad.rows=auto", "triton"),
        ("reference, masked_grad.rows=cublas", "cublas"),
    ],
)
def test_the_variable_forces(text: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSEFT_KERNELS", text)
    assert explain("masked_grad.rows", gpu="Unknown GPU", **ROWS).implementation == expected


@pytest.mark.parametrize("text", ["tritn", "masked_grad.rows=fast", "no_such_op=cublas"])
def test_a_mistake_in_the_variable_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSEFT_KERNELS", text)
    with pytest.raises(KernelInputError, match=r"expected .* got"):
        explain("masked_grad.rows", gpu="Unknown GPU", **ROWS)


def test_forced_triton_on_the_cpu_needs_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSEFT_KERNELS", "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(KernelInputError, match="TRITON_INTERPRET=1"):
        explain("masked_grad.rows", device="cpu", **ROWS)


@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("masked_grad.row", ROWS),
        ("masked_grad.rows", {"tokens": 1}),
        ("masked_grad.rows", {**ROWS, "edge": 16}),
    ],
)
def test_explain_refuses_what_it_does_not_know(name: str, dims: dict[str, int]) -> None:
    with pytest.raises(KernelInputError, match=r"expected .* got"):
        explain(name, gpu=GPU, **dims)


def test_a_call_obeys_the_variable_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dY, X = torch.randn(5, 4), torch.randn(5, 3)
    index = torch.tensor([0, 2])
    reference = masked_grad.rows(dY, X, index)[0]
    monkeypatch.setenv("SPARSEFT_KERNELS", "cublas")
    torch.testing.assert_close(masked_grad.rows(dY, X, index)[0], reference)
    monkeypatch.setenv("SPARSEFT_KERNELS", "nonsense")
    with pytest.raises(KernelInputError, match="nonsense"):
        masked_grad.rows(dY, X, index)
