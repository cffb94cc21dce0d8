"""The index is exact, and its order is one."""

from __future__ import annotations

import numpy as np
import pytest

from sparseft.errors import DataError
from sparseft.routing import index as module
from sparseft.routing.index import Index


def test_it_finds_what_sorting_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CELLS", 700)  # several parts
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(200, 16)), rng.normal(size=(31, 16))
    cosines, places = Index(vectors).nearest(queries, 7)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    products = asked @ unit.T
    np.testing.assert_array_equal(places, np.argsort(-products, axis=1)[:, :7])
    np.testing.assert_allclose(cosines, np.sort(products, axis=1)[:, ::-1][:, :7], atol=1e-5)


def test_of_equals_the_earlier_comes_first_and_k_is_at_most_n() -> None:
    cosines, places = Index(np.ones((5, 3))).nearest(np.ones((2, 3)), 9)
    assert places.tolist() == [[0, 1, 2, 3, 4]] * 2 and cosines.shape == (2, 5)


def test_equals_beyond_k_and_repeated_vectors_keep_their_order() -> None:
    _, places = Index(np.ones((5, 3))).nearest(np.ones((2, 3)), 3)
    assert places.tolist() == [[0, 1, 2]] * 2
    rng = np.random.default_rng(1)
    for count in (37, 500, 1003):
        kind = rng.integers(0, 9, count)  # every vector many times
        different = rng.normal(size=(9, 64)).astype(np.float32)
        vectors = different[kind]
        for asked in (1, 2, 3, 5):
            queries = rng.normal(size=(asked, 64)).astype(np.float32)
            cosines, places = Index(vectors).nearest(queries, 12)
            products = queries @ (different / np.linalg.norm(different, axis=1)[:, None]).T
            for query, found, near in zip(products, places, cosines, strict=True):
                assert (np.diff(near) <= 0).all()
                wanted = sorted(range(count), key=lambda row: (-query[kind[row]], row))[:12]
                assert found.tolist() == wanted


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros((2, 3)), np.array([[np.nan, 1.0]])])
def test_nothing_to_search_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(DataError):
        Index(bad)
