"""Every score is the weighted sum of the squared gradients that the tokens send one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparseft_kernels import KernelInputError, explain, operations, unit_scores
from tests.kernels.common import DTYPES, TOLERANCE, matrices, poison, relative_rms

LAYOUTS = ("plain", "strided", "transposed")
OPERATION = "unit_scores.rows_and_columns"


def _weights(tokens: int, device: torch.device, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(tokens, generator=generator).to(device)


def _energy(dY: Tensor, X: Tensor, w: Tensor) -> Tensor:
    """sum_t w[t] (dY[t, r] X[t, c])^2 in float64, term by term of the definition: [n, k]."""
    per_token = dY.double()[:, :, None] * X.double()[:, None, :]
    return (w.double()[:, None, None] * per_token.square()).sum(0)


@pytest.mark.parametrize("implementation", ["triton", "reference"])
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tokens=st.sampled_from([0, 1, 2, 37]),
    n=st.sampled_from([1, 16, 33]),
    k=st.sampled_from([1, 20, 32]),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 99),
)
def test_rows_and_columns_are_sums_of_squared_token_gradients(
    implementation: str, tokens: int, n: int, k: int, dtype: torch.dtype, layout: str, seed: int,
    device: torch.device, force: Any,
) -> None:  # fmt: skip
    force(implementation)
    dY, X = matrices(tokens, n, k, dtype, device, layout, seed)
    w = _weights(2 * tokens, device, seed)[::2]
    energy = _energy(dY, X, w)
    poison(device)
    rows, columns = unit_scores.rows_and_columns(dY, X, w)
    assert rows.dtype == columns.dtype == torch.float32
    assert relative_rms(rows, energy.sum(1)) < TOLERANCE[dtype]
    assert relative_rms(columns, energy.sum(0)) < TOLERANCE[dtype]
    poison(device)
    assert torch.equal(unit_scores.rows(dY, X, w), rows)
    assert torch.equal(unit_scores.columns(dY, X, w), columns)


# The settings for rows too long for registers are those of the operation, in small.
SMALL_TILES = {"BT": 4, "BF": 16, "num_warps": 4, "num_stages": 1, "PROGRAMS": 1}


@pytest.mark.parametrize("size", [(24, 40), (300, 20)])
def test_every_kernel_configuration_is_right(size: tuple[int, int], device: torch.device) -> None:
    from sparseft_kernels.unit_scores import triton_kernel

    dY, X = matrices(41, *size, torch.bfloat16, device, "plain", 0)
    w = _weights(41, device)
    y, x = dY.double().square(), X.double().square()
    expected = (w.double() * x.sum(1)) @ y, (w.double() * y.sum(1)) @ x
    dims = {"tokens": 41, "n": size[0], "k": size[1]}
    for config in (*operations()[OPERATION].configs(dims, torch.bfloat16), SMALL_TILES):
        for wanted in ((True, True), (True, False), (False, True)):
            poison(device)
            found = triton_kernel.rows_and_columns(dY, X, w, *wanted, config)
            for score, truth, asked in zip(found, expected, wanted, strict=True):
                if asked:
                    assert relative_rms(score, truth) < 2e-6, config
                else:
                    assert score.numel() == 0


@pytest.mark.parametrize("implementation", ["triton", "reference"])
def test_batches_accumulate(implementation: str, device: torch.device, force: Any) -> None:
    force(implementation)
    dY, X = matrices(60, 20, 12, torch.bfloat16, device, "plain", 0)
    w = _weights(60, device)
    energy = _energy(dY, X, w)
    rows, columns = torch.zeros(20, device=device), torch.full((12,), 3.0, device=device)
    for part in (slice(0, 1), slice(1, 1), slice(1, 60)):
        unit_scores.accumulate_(dY[part], X[part], w[part], rows=rows, columns=columns)
    assert relative_rms(rows, energy.sum(1)) < 2e-6
    assert relative_rms(columns, energy.sum(0) + 3) < 2e-6
    before = rows.clone()
    unit_scores.accumulate_(dY, X, w, columns=columns)
    assert torch.equal(rows, before)
    assert relative_rms(columns, 2 * energy.sum(0) + 3) < 2e-6
    unit_scores.accumulate_(dY, X, w, rows=rows)
    assert relative_rms(rows, 2 * energy.sum(1)) < 2e-6


def test_two_runs_give_the_same_bits(device: torch.device) -> None:
    from sparseft_kernels.unit_scores import triton_kernel

    dY, X = matrices(200, 32, 16, torch.bfloat16, device, "plain", 1)
    w = _weights(200, device)
    whole = operations()[OPERATION].configs({"tokens": 200, "n": 32, "k": 16}, torch.bfloat16)[0]
    for config in (whole, SMALL_TILES):
        first, second = (
            triton_kernel.rows_and_columns(dY, X, w, True, True, config) for _ in range(2)
        )
        assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_mixed_and_double_precision(device: torch.device, force: Any) -> None:
    dY, X = matrices(9, 6, 4, torch.float32, device, "plain", 0)
    w = _weights(9, device)
    energy = _energy(dY.bfloat16(), X, w)
    force("triton")
    rows, columns = unit_scores.rows_and_columns(dY.bfloat16(), X, w.double())
    assert relative_rms(rows, energy.sum(1)) < 2e-6
    assert relative_rms(columns, energy.sum(0)) < 2e-6
    force("auto")
    exact = unit_scores.rows(dY.double(), X, w)
    assert exact.dtype == torch.float64
    assert relative_rms(exact, _energy(dY, X, w).sum(1)) < 1e-14


@pytest.mark.parametrize("implementation", ["cublas", "reference"])
@pytest.mark.parametrize("tokens", [0, 1, 9])
def test_blocks_and_elements(
    implementation: str, tokens: int, device: torch.device, force: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from sparseft_kernels.unit_scores import cublas

    force(implementation)
    monkeypatch.setattr(cublas, "_CHUNK_NUMBERS", 30)  # several chunks of tokens
    dY, X = matrices(tokens, 6, 4, torch.bfloat16, device, "strided", 2)
    w = _weights(tokens, device)
    energy = _energy(dY, X, w)
    tiles = energy.reshape(3, 2, 2, 2).sum((1, 3)).reshape(-1)
    assert relative_rms(unit_scores.blocks(dY, X, w, 2), tiles) < 2e-6
    assert relative_rms(unit_scores.elements(dY, X, w), energy.reshape(-1)) < 2e-6


@pytest.mark.parametrize("implementation", ["cublas", "reference"])
def test_derivatives(implementation: str, device: torch.device, force: Any) -> None:
    force(implementation)
    generator = torch.Generator().manual_seed(0)
    dY, X, w = (
        torch.randn(*shape, dtype=torch.float64, generator=generator).to(device).requires_grad_()
        for shape in ((3, 4), (3, 6), (3,))
    )
    scores: tuple[Callable[..., Any], ...] = (
        unit_scores.rows,
        unit_scores.columns,
        unit_scores.rows_and_columns,
        lambda dY, X, w: unit_scores.blocks(dY, X, w, 2),
        unit_scores.elements,
    )
    for score in scores:
        assert torch.autograd.gradcheck(score, (dY, X, w))
    rows, columns = unit_scores.rows_and_columns(dY, X.detach(), w.detach())
    (rows.sum() + columns.sum()).backward()
    assert dY.grad is not None and X.grad is None and w.grad is None


def _op_inputs(device: torch.device) -> dict[str, tuple[Any, ...]]:
    dY, X = matrices(9, 12, 8, torch.float32, device, "plain", 0)
    w = _weights(9, device)
    leaves = tuple(t.clone().requires_grad_() for t in (dY, X, w))
    return {
        "unit_scores": (*leaves, True, True),
        "unit_scores_": (
            torch.zeros(12, device=device), torch.zeros(8, device=device), dY, X, w, True, True,
        ),
        "unit_scores_blocks": (*leaves, 4),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["unit_scores", "unit_scores_", "unit_scores_blocks"])
def test_the_operations_keep_torchs_rules(name: str, device: torch.device) -> None:
    operation = getattr(torch.ops.sparseft, name).default
    torch.library.opcheck(operation, _op_inputs(device)[name])


def test_they_compile_to_one_graph(device: torch.device) -> None:
    dY, X = matrices(9, 12, 8, torch.float32, device, "plain", 0)
    w = _weights(9, device)

    def scores(dY: Tensor, X: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        rows = torch.zeros(12, device=dY.device)
        unit_scores.accumulate_(dY, X, w, rows=rows)
        return rows, unit_scores.columns(dY, X, w), unit_scores.blocks(dY, X, w, 2)

    compiled = torch.compile(scores, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(dY, X, w), scores(dY, X, w))


def test_offsets_beyond_two_to_the_31(device: torch.device, force: Any) -> None:
    """Rows of a view that lie 2^30 numbers apart: only the touched pages of 10 GB exist."""
    force("triton")
    if device.type == "cuda" and torch.cuda.mem_get_info()[0] < 12 << 30:
        pytest.skip("needs 12 GiB of free GPU memory")
    tokens, apart = 5, 2**30
    storage = torch.empty((tokens - 1) * apart + 64, dtype=torch.bfloat16, device=device)
    dY = storage.as_strided((tokens, 32), (apart, 1))
    dY.copy_(torch.randn(tokens, 32))
    X = torch.randn(tokens, 8).to(device=device, dtype=torch.bfloat16)
    w = _weights(tokens, device)
    energy = _energy(dY, X, w)
    assert relative_rms(unit_scores.rows(dY, X, w), energy.sum(1)) < 2e-6
    assert relative_rms(unit_scores.columns(dY, X, w), energy.sum(0)) < 2e-6


@pytest.mark.gpu
@pytest.mark.parametrize("n", [64, 40000])
def test_a_cuda_graph_repeats_it(n: int, device: torch.device, force: Any) -> None:
    force("triton")
    dY, X = matrices(300, n, 48, torch.bfloat16, device, "plain", 0)
    w = _weights(300, device)
    rows, columns = torch.zeros(n, device=device), torch.zeros(48, device=device)
    unit_scores.accumulate_(dY, X, w, rows=rows, columns=columns)  # compiles
    expected = unit_scores.rows_and_columns(dY, X, w)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        unit_scores.accumulate_(dY, X, w, rows=rows, columns=columns)
    rows.zero_()
    columns.zero_()
    for _ in range(2):
        graph.replay()
    torch.testing.assert_close(rows, 2 * expected[0])
    torch.testing.assert_close(columns, 2 * expected[1])


def test_what_does_not_fit_is_refused(device: torch.device) -> None:
    dY, X = matrices(4, 6, 5, torch.float32, device, "plain", 0)
    w = torch.ones(4, device=device)
    out = torch.zeros(6, device=device)
    for bad, message in (
        (lambda: unit_scores.rows(dY[:3], X, w), "same T"),
        (lambda: unit_scores.rows(dY, X, w[:3]), "same T"),
        (lambda: unit_scores.columns(dY[None], X, w), "flatten batch and sequence"),
        (lambda: unit_scores.rows(dY.long(), X, w), "floating"),
        (lambda: unit_scores.rows(dY, X, w.to("meta")), "one device"),
        (lambda: unit_scores.blocks(dY, X, w, 2), "multiples of the block edge"),
        (lambda: unit_scores.accumulate_(dY, X, w), "accumulators for rows, columns or both"),
        (lambda: unit_scores.accumulate_(dY, X, w, columns=out), r"of shape \(5,\)"),
        (lambda: unit_scores.accumulate_(dY, X, w, rows=out.half()), "torch.float32 tensor"),
    ):
        with pytest.raises(KernelInputError, match=message):
            bad()


def test_the_dispatcher_says_why() -> None:
    decision = explain(OPERATION, tokens=4096, n=768, k=768)
    assert decision.implementation == "triton" and "read once" in decision.reason
    assert decision.config["WHOLE"] == 1
    assert "WHOLE" not in explain(OPERATION, tokens=64, n=28672, k=8192).config
    elements = explain("unit_scores.elements", tokens=64, n=8, k=8)
    assert elements.implementation == "cublas" and "every entry" in elements.reason
