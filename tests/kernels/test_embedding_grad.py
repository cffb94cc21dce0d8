"""The compact embedding gradient is the dense table's gradient at the selected rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparseft_kernels import KernelInputError, explain, operations
from sparseft_kernels.embedding_grad import embedding_rows
from tests.kernels.common import DTYPES, TOLERANCE, matrices, poison, relative_rms, some

OPERATION = "embedding_grad.embedding_rows"


def _dense(dY: Tensor, ids: Tensor, index: Tensor, vocabulary: int) -> Tensor:
    """The float64 gradient of the whole table at the selected rows."""
    table = torch.zeros(vocabulary, dY.shape[1], dtype=torch.float64)
    return table.index_add_(0, ids.cpu().long(), dY.double().cpu())[index.cpu().long()]


def _ids(tokens: int, vocabulary: int, frequent: float, seed: int, device: torch.device) -> Tensor:
    """Random ids; `frequent` is the share of the tokens that are one and the same word."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocabulary, (tokens,), generator=generator)
    ids[torch.rand(tokens, generator=generator) < frequent] = vocabulary // 2
    return ids.to(device)


@pytest.mark.parametrize("implementation", ["triton", "reference"])
@settings(max_examples=16, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tokens=st.sampled_from([0, 1, 2, 63, 64, 200]),
    vocabulary=st.sampled_from([1, 5, 40]),
    d=st.sampled_from([1, 3, 40]),
    share=st.sampled_from([0.0, 0.4, 1.0]),
    frequent=st.sampled_from([0.0, 0.9]),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(["plain", "strided", "transposed"]),
    wide=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 99),
)
def test_embedding_rows_equal_dense(
    implementation: str, tokens: int, vocabulary: int, d: int, share: float, frequent: float,
    dtype: torch.dtype, layout: str, wide: tuple[bool, bool], seed: int, device: torch.device,
    force: Any,
) -> None:  # fmt: skip
    force(implementation)
    dY = matrices(tokens, d, 1, dtype, device, layout, seed)[0]
    ids = _ids(2 * tokens, vocabulary, frequent, seed, device)[::2]
    index = some(vocabulary, share, seed, device)
    expected = _dense(dY, ids, index, vocabulary)
    ids, index = (t.long() if long else t.int() for t, long in zip((ids, index), wide, strict=True))
    index = index.repeat_interleave(2)[::2]  # not contiguous
    poison(device)
    found = embedding_rows(dY, ids, index)
    assert found.dtype == torch.float32
    assert relative_rms(found, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("configuration", [0, 1, 2])
def test_every_kernel_configuration_is_right(configuration: int, device: torch.device) -> None:
    from sparseft_kernels.embedding_grad import triton_kernel

    known = operations()[OPERATION].configs({}, torch.bfloat16)
    config = known[configuration]
    dY = matrices(700, 50, 1, torch.bfloat16, device, "plain", 0)[0]
    index = some(30, 0.5, 0, device)
    poison(device)
    for frequent in (0.0, 0.6, 1.0):
        ids = _ids(700, 30, frequent, 1, device)
        ids[:5] = index[0]  # of the row whose tokens come first
        found = triton_kernel.embedding_rows(dY, ids, index, config)
        assert relative_rms(found, _dense(dY, ids, index, 30)) < 2e-6
    assert configuration < len(known) == 3


@pytest.mark.parametrize("length", [63, 64, 65, 128, 129, 6400])
def test_segments_that_end_where_chunks_do(length: int, device: torch.device, force: Any) -> None:
    """Rows that begin and end at, before and after a multiple of the chunk's length."""
    force("triton")
    if device.type == "cpu" and length > 1000:
        length = 1000
    ids = torch.tensor([2] * 64 + [7] * length + [9] * 3 + [11], device=device)
    ids = ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(0)).to(device)]
    dY = matrices(len(ids), 20, 1, torch.float32, device, "plain", 0)[0]
    for rows in ([2, 7, 9], [7], [1, 2, 3, 7, 8, 12], [12]):
        index = torch.tensor(rows, device=device)
        poison(device)
        assert relative_rms(embedding_rows(dY, ids, index), _dense(dY, ids, index, 13)) < 2e-6


@pytest.mark.parametrize("implementation", ["triton", "reference"])
@pytest.mark.parametrize("tokens", [0, 5, 300])
def test_accumulation_adds_to_what_is_there(
    implementation: str, tokens: int, device: torch.device, force: Any
) -> None:
    force(implementation)
    dY = matrices(tokens, 24, 1, torch.bfloat16, device, "plain", 0)[0]
    ids, index = _ids(tokens, 9, 0.7, 0, device), some(9, 0.6, 0, device)
    total = torch.full((len(index), 24), 7.0, device=device)
    assert embedding_rows(dY, ids, index, into=total) is total
    assert relative_rms(total, _dense(dY, ids, index, 9) + 7) < 2e-6


def test_two_runs_give_the_same_bits(device: torch.device, force: Any) -> None:
    dY = matrices(3000, 16, 1, torch.bfloat16, device, "plain", 0)[0]
    ids, index = _ids(3000, 50, 0.7, 0, device), some(50, 0.5, 0, device)
    for implementation in ("triton", "reference"):
        force(implementation)
        first, second = (embedding_rows(dY, ids, index) for _ in range(2))
        assert torch.equal(first, second)


def test_ids_that_no_table_has(device: torch.device, force: Any) -> None:
    """Wider than the index's dtype, or negative: no selected row, whatever their low bits say."""
    ids = torch.tensor([3, 3 + 2**32, -1, 2**31, 4], device=device)
    index = torch.tensor([0, 3], dtype=torch.int32, device=device)
    dY = torch.ones(5, 2, device=device)
    for implementation in ("triton", "reference"):
        force(implementation)
        assert embedding_rows(dY, ids, index).tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_float64_stays_float64(device: torch.device) -> None:
    dY = matrices(20, 3, 1, torch.float32, device, "plain", 0)[0].double()
    ids, index = _ids(20, 6, 0.3, 0, device), some(6, 0.5, 0, device)
    expected = _dense(dY, ids, index, 6).to(device)
    torch.testing.assert_close(embedding_rows(dY, ids, index), expected, rtol=1e-13, atol=1e-13)


def test_derivatives(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    dY = torch.randn(6, 3, dtype=torch.float64, generator=generator).to(device).requires_grad_()
    ids = torch.tensor([4, 1, 1, 0, 4, 2], device=device)
    for index in ([1, 3, 4], []):
        rows = torch.tensor(index, dtype=torch.int32, device=device)
        assert torch.autograd.gradcheck(lambda g, r=rows: embedding_rows(g, ids, r), (dY,))


@pytest.mark.parametrize("name", ["embedding_grad_rows", "embedding_grad_rows_"])
def test_the_operations_keep_torchs_rules(name: str, device: torch.device) -> None:
    dY = matrices(9, 5, 1, torch.float32, device, "plain", 0)[0]
    ids, index = _ids(9, 6, 0.3, 0, device), some(6, 0.5, 0, device)
    into = torch.zeros(len(index), 5, device=device)
    inputs = (into, dY, ids, index) if name.endswith("_") else (dY.requires_grad_(), ids, index)
    torch.library.opcheck(getattr(torch.ops.sparseft, name).default, inputs)


def test_offsets_beyond_two_to_the_31(device: torch.device, force: Any) -> None:
    """Tokens of a view that lie 2^30 numbers apart: only the touched pages of 10 GB exist."""
    force("triton")
    if device.type == "cuda" and torch.cuda.mem_get_info()[0] < 12 << 30:
        pytest.skip("needs 12 GiB of free GPU memory")
    tokens, apart = 5, 2**30
    storage = torch.empty((tokens - 1) * apart + 64, dtype=torch.bfloat16, device=device)
    for strides in ((apart, 1), (1, apart)):
        dY = storage.as_strided((tokens, 5), strides)
        dY.copy_(torch.randn(tokens, 5))
        ids = torch.tensor([1, 0, 1, 2, 1], device=device)
        index = torch.tensor([1, 2], device=device)
        assert relative_rms(embedding_rows(dY, ids, index), _dense(dY, ids, index, 3)) < 2e-6


@pytest.mark.gpu
def test_a_cuda_graph_repeats_it(device: torch.device, force: Any) -> None:
    force("triton")
    dY = matrices(3000, 64, 1, torch.bfloat16, device, "plain", 0)[0]
    ids, index = _ids(3000, 50, 0.7, 0, device), some(50, 0.5, 0, device)
    total = torch.zeros(len(index), 64, device=device)
    embedding_rows(dY, ids, index, into=total)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        embedding_rows(dY, ids, index, into=total)
    total.zero_()
    ids.copy_(_ids(3000, 50, 0.2, 5, device))  # a graph is bound to no batch
    graph.replay()
    assert relative_rms(total, _dense(dY, ids, index, 50)) < 2e-6


def test_what_does_not_fit_is_refused(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSEFT_KERNELS_CHECK", "1")
    dY, ids = torch.ones(4, 6, device=device), torch.zeros(4, dtype=torch.int64, device=device)
    index = torch.tensor([1, 3], device=device)
    for bad, message in (
        (lambda: embedding_rows(dY[:3], ids, index), "same T"),
        (lambda: embedding_rows(dY[None], ids, index), "flatten batch and sequence"),
        (lambda: embedding_rows(dY.long(), ids, index), "floating dY"),
        (lambda: embedding_rows(dY, ids.float(), index), "int32 or int64"),
        (lambda: embedding_rows(dY, ids.to("meta"), index), "one device"),
        (lambda: embedding_rows(dY, ids, index.flip(0)), "without duplicates"),
        (lambda: embedding_rows(dY, ids, index[[0, 0]]), "without duplicates"),
        (lambda: embedding_rows(dY, ids, index - 2), "rows in"),
        (lambda: embedding_rows(dY, ids, index, into=dY), r"of shape \(2, 6\)"),
    ):
        with pytest.raises(KernelInputError, match=message):
            bad()


def test_the_dispatcher_says_why() -> None:
    decision = explain(OPERATION, tokens=4096, d=384, m=1500)
    assert decision.implementation == "triton" and "only the selected" in decision.reason
