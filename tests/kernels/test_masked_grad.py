"""Every compact gradient is the dense gradient at the selected entries, by every implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparseft_kernels import KernelInputError, masked_grad
from tests.kernels.common import DTYPES, TOLERANCE, matrices, poison, relative_rms, some

IMPLEMENTATIONS = ("triton", "cublas", "reference")
# The fixtures set an environment variable, the same in every example of a test.
within_fixture = settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _tiles(dense: Tensor, edge: int) -> Tensor:
    """Every block of a dense gradient: [n / b * k / b, b, b]."""
    n, k = dense.shape
    return dense.reshape(n // edge, edge, k // edge, edge).transpose(1, 2).reshape(-1, edge, edge)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@within_fixture
@given(
    tokens=st.sampled_from([0, 1, 7, 65, 300]),
    n=st.integers(1, 70),
    k=st.integers(1, 150),
    share=st.sampled_from([0.0, 0.1, 1.0]),
    layout=st.sampled_from(["plain", "strided", "transposed"]),
    seed=st.integers(0, 2**16),
)
def test_rows_columns_and_elements_equal_dense(
    implementation: str,
    dtype: torch.dtype,
    device: torch.device,
    force: Callable[[str], None],
    tokens: int,
    n: int,
    k: int,
    share: float,
    layout: str,
    seed: int,
) -> None:
    force(implementation)
    dY, X = matrices(tokens, n, k, dtype, device, layout, seed)
    dense = dY.double().t() @ X.double()
    tolerance = TOLERANCE[dtype]
    rows = some(n, share, seed, device)
    columns, flat = some(k, share, seed, device), some(n * k, share, seed, device)
    poison(device)
    found, bias = masked_grad.rows(dY, X, rows, bias=True)
    assert bias is not None
    assert relative_rms(found, dense[rows.long()]) < tolerance
    assert relative_rms(bias, dY.double().sum(0)[rows.long()]) < tolerance
    kept = X.index_select(1, columns)
    assert relative_rms(masked_grad.columns(dY, kept), dense[:, columns.long()]) < tolerance
    entries = masked_grad.elements(dY, X, flat)
    assert relative_rms(entries, dense.reshape(-1)[flat.long()]) < tolerance
    assert {found.dtype, bias.dtype, entries.dtype} == {torch.float32}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@within_fixture
@given(
    tokens=st.sampled_from([0, 1, 40, 290]),
    edge=st.sampled_from([16, 32, 64]),
    grids=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    width=st.integers(1, 3),
    share=st.sampled_from([0.0, 0.4, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_blocks_of_several_matrices_equal_dense(
    implementation: str,
    dtype: torch.dtype,
    device: torch.device,
    force: Callable[[str], None],
    tokens: int,
    edge: int,
    grids: list[int],
    width: int,
    share: float,
    seed: int,
) -> None:
    force(implementation)
    outputs, index, expected = [], [], []
    X = matrices(tokens, 1, width * edge, dtype, device, "plain", seed)[1]
    for number, grid in enumerate(grids):
        # Matrices of different heights, dtypes of strides and shares, as Q, K and V may have.
        layout = ("plain", "strided", "transposed")[number % 3]
        dY = matrices(tokens, grid * edge, 1, dtype, device, layout, seed + number)[0]
        chosen = some(grid * width, share if number != 1 else 0.0, seed + number, device)
        outputs.append(dY)
        index.append(chosen)
        expected.append(_tiles(dY.double().t() @ X.double(), edge)[chosen.long()])
    poison(device)
    found = masked_grad.blocks(outputs, X, index, edge)
    assert relative_rms(found, torch.cat(expected)) < TOLERANCE[dtype]
    one = masked_grad.blocks(outputs[0], X, index[0], edge)
    assert relative_rms(one, expected[0]) < TOLERANCE[dtype]


def test_large_blocks_and_unusual_edges(device: torch.device, force: Any) -> None:
    dY, X = matrices(70, 256, 128, torch.bfloat16, device, "plain", 0)
    dense = dY.double().t() @ X.double()
    force("triton")
    index = torch.tensor([1], dtype=torch.int64, device=device)
    assert relative_rms(masked_grad.blocks(dY, X, index, 128), _tiles(dense, 128)[1:]) < 2e-6
    with pytest.raises(KernelInputError, match="block edge of"):
        masked_grad.blocks(dY, X, index, 8)
    force("auto")
    assert relative_rms(masked_grad.blocks(dY, X, index, 8), _tiles(dense, 8)[1:2]) < 2e-6


@pytest.mark.parametrize("implementation", ["cublas", "reference"])
def test_float64_stays_float64(implementation: str, device: torch.device, force: Any) -> None:
    force(implementation)
    dY, X = (t.double() for t in matrices(9, 6, 8, torch.float32, device, "plain", 0))
    dense = dY.t() @ X
    index = some(6, 0.5, 0, device)
    found, bias = masked_grad.rows(dY, X, index, bias=True)
    torch.testing.assert_close(found, dense[index.long()], rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(bias, dY.sum(0)[index.long()], rtol=1e-13, atol=1e-13)
    blocks = masked_grad.blocks(dY, X, torch.tensor([0, 5], device=device), 2)
    torch.testing.assert_close(blocks, _tiles(dense, 2)[[0, 5]], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("tokens", [0, 50, 600])
def test_accumulation_adds_to_what_is_there(
    implementation: str, tokens: int, device: torch.device, force: Any
) -> None:
    force(implementation)
    dY, X = matrices(tokens, 48, 32, torch.bfloat16, device, "plain", 3)
    rows, flat = some(48, 0.3, 0, device), some(48 * 32, 0.1, 0, device)
    blocks = some(6, 0.5, 0, device)

    def into(*shape: int) -> Tensor:
        return torch.full(shape, 7.0, device=device)

    gradient, bias = masked_grad.rows(dY, X, rows, bias=True)
    total, total_bias = into(*gradient.shape), into(*bias.shape)  # type: ignore[union-attr]
    same = masked_grad.rows(dY, X, rows, bias=True, into=(total, total_bias))
    assert same[0] is total and same[1] is total_bias
    torch.testing.assert_close(total, gradient + 7)
    torch.testing.assert_close(total_bias, bias + 7)
    for compute in (
        lambda **to: masked_grad.columns(dY, X[:, ::3], **to),
        lambda **to: masked_grad.blocks([dY, dY], X, [blocks, blocks], 16, **to),
        lambda **to: masked_grad.elements(dY, X, flat, **to),
    ):
        fresh = compute()
        total = into(*fresh.shape)
        assert compute(into=total) is total
        torch.testing.assert_close(total, fresh + 7)


def test_splitting_the_tokens_repeats_to_the_bit(device: torch.device, force: Any) -> None:
    force("triton")
    dY, X = matrices(5000, 16, 16, torch.bfloat16, device, "plain", 1)
    index = some(16, 1.0, 0, device)
    first, second = (masked_grad.rows(dY, X, index, bias=True) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])  # type: ignore[arg-type]
    assert relative_rms(first[0], dY.double().t() @ X.double()) < 2e-6
    flat = some(256, 0.5, 0, device)
    assert torch.equal(masked_grad.elements(dY, X, flat), masked_grad.elements(dY, X, flat))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_an_index_may_be_a_view(implementation: str, device: torch.device, force: Any) -> None:
    force(implementation)
    dY, X = matrices(20, 64, 64, torch.bfloat16, device, "plain", 0)
    dense = dY.double().t() @ X.double()
    index = torch.arange(16, device=device)[::3]
    assert not index.is_contiguous()
    assert relative_rms(masked_grad.rows(dY, X, index)[0], dense[index]) < 2e-6
    blocks = masked_grad.blocks([dY, dY], X, [index, index], 16)
    assert relative_rms(blocks, torch.cat([_tiles(dense, 16)[index]] * 2)) < 2e-6
    entries = torch.arange(4096, device=device)[5::7]
    for flat in (index, entries):  # few entries and many go different ways
        found = masked_grad.elements(dY, X, flat)
        assert relative_rms(found, dense.reshape(-1)[flat]) < 2e-6


@pytest.mark.parametrize("configuration", [0, 1, 2, 3])
def test_every_kernel_configuration_is_right(configuration: int, device: torch.device) -> None:
    from sparseft_kernels import operations
    from sparseft_kernels.masked_grad import triton_kernel

    dY, X = matrices(150, 130, 140, torch.bfloat16, device, "plain", 2)
    dense = dY.double().t() @ X.double()
    rows, flat = some(130, 0.3, 0, device), some(130 * 140, 0.05, 0, device)

    def settings_of(name: str, **dims: int) -> list[Any]:
        known = operations()[name].configs({"m": 1, "n": 1, "k": 1, **dims}, torch.bfloat16)
        return list(known[configuration : configuration + 1])

    for config in settings_of("masked_grad.rows"):
        found = triton_kernel.rows(dY, X, rows, False, config)[0]
        assert relative_rms(found, dense[rows.long()]) < 2e-6, config
    for config in settings_of("masked_grad.elements"):
        found = triton_kernel.elements(dY, X, flat, config)
        assert relative_rms(found, dense.reshape(-1)[flat.long()]) < 2e-6, config
    for config in settings_of("masked_grad.blocks", edge=32):
        found = triton_kernel.blocks(
            [dY[:, :128]], X[:, :128], [some(16, 0.3, 0, device)], 32, config
        )
        tiles = _tiles(dense[:128, :128], 32)[some(16, 0.3, 0, device).long()]
        assert relative_rms(found, tiles) < 2e-6, config


def test_offsets_beyond_two_to_the_31(device: torch.device, force: Any) -> None:
    """Rows of a view that lie 2^30 numbers apart: only the touched pages of 10 GB exist."""
    force("triton")
    if device.type == "cuda" and torch.cuda.mem_get_info()[0] < 12 << 30:
        pytest.skip("needs 12 GiB of free GPU memory")
    tokens, apart = 5, 2**30
    storage = torch.empty((tokens - 1) * apart + 64, dtype=torch.bfloat16, device=device)
    dY = storage.as_strided((tokens, 32), (apart, 1))
    dY.copy_(torch.randn(tokens, 32))
    X = torch.randn(tokens, 32).to(device=device, dtype=torch.bfloat16)
    dense = dY.double().t() @ X.double()
    index = some(32, 0.5, 0, device)
    assert relative_rms(masked_grad.rows(dY, X, index)[0], dense[index.long()]) < 2e-6
    found = masked_grad.elements(dY, X, torch.arange(0, 1024, 3, device=device))
    assert relative_rms(found, dense.reshape(-1)[::3]) < 2e-6
    blocks = torch.arange(4, device=device)
    assert relative_rms(masked_grad.blocks(dY, X, blocks, 16), _tiles(dense, 16)) < 2e-6


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([3, 1], "sorted ascending without duplicates"),
        ([1, 1], "sorted ascending without duplicates"),
        ([-1, 2], r"in \[0, 6\)"),
        ([5, 6], r"in \[0, 6\)"),
        ([0.5], "vector of int32 or int64"),
        ([[1]], "vector of int32 or int64"),
    ],
)
def test_a_bad_index_is_refused(
    index: list[Any], message: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSEFT_KERNELS_CHECK", "1")
    dY, X = matrices(4, 6, 6, torch.float32, device, "plain", 0)
    with pytest.raises(KernelInputError, match=message):
        masked_grad.rows(dY, X, torch.tensor(index, device=device))


def test_an_index_changed_in_place_is_read_again(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSEFT_KERNELS_CHECK", "1")
    dY, X = matrices(4, 6, 6, torch.float32, device, "plain", 0)
    index = torch.tensor([1, 2], device=device)
    masked_grad.rows(dY, X, index)
    index.copy_(torch.tensor([2, 1]))
    with pytest.raises(KernelInputError, match="ascending"):
        masked_grad.rows(dY, X, index)


def test_shapes_dtypes_and_targets_that_do_not_fit(device: torch.device) -> None:
    dY, X = matrices(4, 6, 6, torch.float32, device, "plain", 0)
    index = some(6, 0.5, 0, device)
    for bad, message in (
        (lambda: masked_grad.rows(dY[:3], X, index), "same T"),
        (lambda: masked_grad.rows(dY, X.half(), index), "one floating dtype"),
        (lambda: masked_grad.rows(dY[None], X, index), "flatten batch and sequence"),
        (lambda: masked_grad.blocks(dY, X, index, 4), "multiples of the block edge"),
        (lambda: masked_grad.blocks([dY], X, [index, index], 2), "one index for each dY"),
        (lambda: masked_grad.rows(dY, X, index, into=(dY, None)), "contiguous torch.float32"),
        (lambda: masked_grad.rows(dY, X, index, bias=True, into=(dY, None)), "bias tensor"),
    ):
        with pytest.raises(KernelInputError, match=message):
            bad()


def _op_inputs(device: torch.device) -> dict[str, tuple[Any, ...]]:
    dY, X = (t.requires_grad_() for t in matrices(9, 32, 48, torch.float32, device, "plain", 0))
    rows, blocks = some(32, 0.3, 0, device), some(6, 0.5, 0, device)
    flat = some(32 * 48, 0.1, 0, device)

    def into(*shape: int) -> Tensor:
        return torch.zeros(shape, device=device)

    plain_dY, plain_X = dY.detach(), X.detach()
    return {
        "masked_grad_rows": (dY, X, rows, True),
        "masked_grad_columns": (dY, X),
        "masked_grad_blocks": ([dY, dY], X, [blocks, blocks], 16),
        "masked_grad_elements": (dY, X, flat),
        "masked_grad_rows_": (into(10, 48), into(10), plain_dY, plain_X, rows, True),
        "masked_grad_columns_": (into(32, 48), plain_dY, plain_X),
        "masked_grad_blocks_": (into(3, 16, 16), [plain_dY], plain_X, [blocks], 16),
        "masked_grad_elements_": (into(154), plain_dY, plain_X, flat),
    }


@pytest.mark.parametrize("name", sorted(_op_inputs(torch.device("cpu"))))
def test_the_operations_keep_torchs_rules(name: str, device: torch.device) -> None:
    operation = getattr(torch.ops.sparseft, name).default
    torch.library.opcheck(operation, _op_inputs(device)[name])


@pytest.mark.parametrize("structure", ["rows", "columns", "blocks", "elements"])
def test_second_derivatives(structure: str, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    dY, X = (
        torch.randn(3, 4, dtype=torch.float64, generator=generator).to(device).requires_grad_()
        for _ in range(2)
    )
    index = torch.tensor([0, 2], device=device)
    compute: dict[str, Callable[..., Any]] = {
        "rows": lambda a, b: masked_grad.rows(a, b, index, bias=True),
        "columns": masked_grad.columns,
        "blocks": lambda a, b: masked_grad.blocks([a, 2 * a], b, [index, index], 2),
        "elements": lambda a, b: masked_grad.elements(a, b, index),
    }
    assert torch.autograd.gradcheck(compute[structure], (dY, X))
