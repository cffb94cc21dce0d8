"""Every compact gradient is the dense gradient at the selected entries."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparseft_kernels import embedding_grad, masked_grad, unit_scores


def _inputs(tokens: int, n: int, k: int, seed: int, strided: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dY = torch.randn(tokens, n * (2 if strided else 1), dtype=torch.float64, generator=generator)
    X = torch.randn(k, tokens, dtype=torch.float64, generator=generator)
    if strided:
        return dY[:, ::2], X.t()
    return dY, X.t().contiguous()


def _some(limit: int, share: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(limit, generator=generator)[: round(share * limit)].sort().values


shapes = {
    "tokens": st.integers(0, 9),
    "n": st.integers(1, 13),
    "k": st.integers(1, 11),
    "share": st.sampled_from([0.0, 0.3, 1.0]),
    "seed": st.integers(0, 2**16),
    "strided": st.booleans(),
}


@settings(deadline=None, max_examples=60)
@given(**shapes)
def test_rows_columns_and_elements_equal_dense(
    tokens: int, n: int, k: int, share: float, seed: int, strided: bool
) -> None:
    dY, X = _inputs(tokens, n, k, seed, strided)
    dense = dY.t() @ X
    rows, columns, flat = _some(n, share, seed), _some(k, share, seed), _some(n * k, share, seed)
    torch.testing.assert_close(masked_grad.rows(dY, X, rows)[0], dense[rows])
    kept = X.index_select(1, columns)
    torch.testing.assert_close(masked_grad.columns(dY, kept), dense[:, columns])
    torch.testing.assert_close(masked_grad.elements(dY, X, flat), dense.reshape(-1)[flat])


@settings(deadline=None, max_examples=40)
@given(
    tokens=st.integers(0, 9),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    edge=st.sampled_from([1, 2, 3, 8]),
    share=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_blocks_equal_dense(
    tokens: int, grid: tuple[int, int], edge: int, share: float, seed: int
) -> None:
    n, k = grid[0] * edge, grid[1] * edge
    dY, X = _inputs(tokens, n, k, seed, strided=False)
    index = _some(grid[0] * grid[1], share, seed)
    dense = (dY.t() @ X).reshape(grid[0], edge, grid[1], edge).transpose(1, 2)
    expected = dense.reshape(-1, edge, edge)[index]
    torch.testing.assert_close(masked_grad.blocks(dY, X, index, edge), expected)


def test_elements_are_the_same_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparseft_kernels.masked_grad import reference

    dY, X = _inputs(5, 7, 6, 0, strided=False)
    index = _some(42, 0.7, 1)
    whole = masked_grad.elements(dY, X, index)
    monkeypatch.setattr(reference, "_CHUNK_PRODUCTS", 20)
    torch.testing.assert_close(masked_grad.elements(dY, X, index), whole)


@settings(deadline=None, max_examples=60)
@given(
    tokens=st.integers(0, 12),
    vocabulary=st.integers(1, 20),
    share=st.sampled_from([0.0, 0.4, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_embedding_rows_equal_dense(tokens: int, vocabulary: int, share: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    dY = torch.randn(tokens, 3, dtype=torch.float64, generator=generator)
    ids = torch.randint(0, vocabulary, (tokens,), generator=generator)
    dense = torch.zeros(vocabulary, 3, dtype=torch.float64).index_add_(0, ids, dY)
    index = _some(vocabulary, share, seed)
    torch.testing.assert_close(embedding_grad.embedding_rows(dY, ids, index), dense[index])


@settings(deadline=None, max_examples=40)
@given(tokens=st.integers(1, 6), seed=st.integers(0, 2**16))
def test_unit_scores_are_sums_of_squared_token_gradients(tokens: int, seed: int) -> None:
    dY, X = _inputs(tokens, 6, 4, seed, strided=False)
    w = torch.rand(tokens, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    per_token = dY[:, :, None] * X[:, None, :]  # [T, n, k]
    energy = (w[:, None, None] * per_token.square()).sum(0)
    torch.testing.assert_close(unit_scores.rows(dY, X, w), energy.sum(1))
    torch.testing.assert_close(unit_scores.columns(dY, X, w), energy.sum(0))
    torch.testing.assert_close(unit_scores.elements(dY, X, w), energy.reshape(-1))
    tiles = energy.reshape(3, 2, 2, 2).sum((1, 3)).reshape(-1)
    torch.testing.assert_close(unit_scores.blocks(dY, X, w, 2), tiles)
