"""Seeded draws: sizes, class shares, independence and nesting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.data import draws
from sparseft.errors import ConfigError, DataError

strata = st.lists(st.integers(0, 6), min_size=1, max_size=60).map(lambda v: np.array(v, np.int64))


@given(strata, st.integers(0, 60), st.integers(0, 3), st.integers(0, 2), st.integers(0, 99))
def test_a_stratified_draw_has_its_size_and_bounds(
    classes: np.ndarray, count: int, least: int, keep: int, seed: int
) -> None:
    drawn = draws.stratified(classes, count, draws.generator(seed, "train"), least=least, keep=keep)
    names, sizes = np.unique(classes, return_counts=True)
    counts = np.array([(classes[drawn] == name).sum() for name in names])
    most = np.maximum(sizes - keep, 0)
    least_each = np.minimum(least, most)
    assert len(drawn) == max(min(count, most.sum()), least_each.sum())
    assert (counts >= least_each).all()
    assert (counts <= most).all()
    assert (np.diff(drawn) > 0).all()


@given(strata, st.integers(1, 60), st.integers(0, 99))
def test_a_stratified_draw_has_the_class_shares_of_all_rows(
    classes: np.ndarray, count: int, seed: int
) -> None:
    count = min(count, len(classes))
    drawn = draws.stratified(classes, count, draws.generator(seed, "train"))
    for name in np.unique(classes):
        expected = count * (classes == name).mean()
        assert abs((classes[drawn] == name).sum() - expected) < 1


def test_a_draw_is_repeated_by_its_seed_alone() -> None:
    classes = np.arange(200) % 4

    def draw(seed: int, stream: str = "train") -> list[int]:
        return draws.stratified(classes, 40, draws.generator(seed, stream)).tolist()

    first = draw(3)
    np.random.rand(7)  # the global generator is not involved
    assert draw(3) == first
    assert draw(4) != first
    assert draw(3, "test_rows") != first


def test_an_empty_draw_and_a_negative_seed() -> None:
    none = draws.stratified(np.zeros(0, np.int64), 3, draws.generator(0, "train"))
    assert none.tolist() == []
    with pytest.raises(ConfigError, match="seed of 0 or greater, got -1"):
        draws.generator(-1, "train")


def test_shots_take_as_many_of_each_class_and_all_of_a_smaller_one() -> None:
    labels = np.array([0] * 9 + [1] * 2 + [2] * 30)
    drawn = draws.shots(labels, 4, draws.generator(0, "train"))
    assert np.bincount(labels[drawn]).tolist() == [4, 2, 4]
    assert (np.diff(drawn) > 0).all()


def test_more_shots_only_add_rows() -> None:
    labels = np.arange(120) % 5
    few = draws.shots(labels, 3, draws.generator(1, "train"))
    many = draws.shots(labels, 8, draws.generator(1, "train"))
    assert set(few) < set(many)


@given(
    st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=4), min_size=1, max_size=40),
    st.integers(1, 6),
    st.integers(0, 20),
)
def test_multi_label_shots_reach_the_count_where_the_rows_allow_it(
    rows: list[list[int]], count: int, seed: int
) -> None:
    labels = np.array(rows, np.uint8)
    if not labels.any():
        with pytest.raises(DataError, match="got none"):
            draws.shots_multi_label(labels, count, draws.generator(seed, "train"))
        return
    drawn = draws.shots_multi_label(labels, count, draws.generator(seed, "train"))
    reached = labels[drawn].sum(axis=0)
    assert (reached >= np.minimum(count, labels.sum(axis=0))).all()
    assert len(drawn) <= count * labels.shape[1]
    assert labels[drawn].any(axis=1).all()


def test_the_stratum_of_several_labels_is_the_rarest_one() -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], np.uint8)
    assert draws.strata_of(labels).tolist() == [0, 1, 2, -1]
    assert draws.strata_of(np.array([2, 0])).tolist() == [2, 0]
