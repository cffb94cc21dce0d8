"""Curves remove what they say in the order they say, and tell a good order from a random one."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparseft.errors import ConfigError, SelectionError
from sparseft.saliency import saliency_curves, token_saliency
from sparseft.saliency.areas import against_random, area
from tests.tiny import tiny, tiny_batch

MASK, CLS, KEY = 4, 2, 7


class Reader(nn.Module):
    """Class 1 by the logit 2 (number of KEY tokens) - 1; nothing else matters."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Tensor] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        self.rows.append(input_ids)
        logit = 2.0 * ((input_ids == KEY) & attention_mask.bool()).sum(1) - 1.0
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(logit), logit], dim=1))


def _texts() -> dict[str, Tensor]:
    ids = torch.tensor(
        [
            [CLS, 10, KEY, 11, 12, 13],
            [CLS, 14, 15, 16, KEY, KEY],
            [CLS, KEY, 0, 0, 0, 0],
            [CLS, 0, 0, 0, 0, 0],
        ]
    )
    mask = torch.tensor([[1] * 6, [1] * 6, [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.ones(4, dtype=torch.int64)}


def _finds(batch: Mapping[str, Tensor]) -> Tensor:
    return (batch["input_ids"] == KEY).float() + (batch["input_ids"] == CLS) * 5


def _misses(batch: Mapping[str, Tensor]) -> Tensor:
    return -_finds(batch)


def _p(keys: int) -> float:
    return 1.0 / (1.0 + float(np.exp(1.0 - 2.0 * keys)))


def test_the_points_are_the_probabilities_of_the_changed_texts() -> None:
    found = saliency_curves(
        Reader(), [_texts()], {"finds": _finds}, replacement=MASK, special_ids=[CLS], points=5
    )
    assert found.tokens.tolist() == [5, 5, 1, 0]
    curves = found.by_method["finds"]
    none, one, two = _p(0), _p(1), _p(2)
    np.testing.assert_allclose(
        curves.deletion,
        [
            [one, none, none, none, none, none],
            [two, one, none, none, none, none],
            [one, one, one, none, none, none],  # 0.4 of one token is none, 0.6 is it
            [none] * 6,  # [CLS] is never removed
        ],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        curves.insertion,
        [
            [none, one, one, one, one, one],
            [none, one, two, two, two, two],
            [none, none, none, one, one, one],
            [none] * 6,
        ],
        rtol=1e-6,
    )
    middle = (none + one) / 2
    assert curves.deletion_area[0] == pytest.approx((middle + 4 * none) / 5, rel=1e-6)
    assert curves.insertion_area[0] == pytest.approx((middle + 4 * one) / 5, rel=1e-6)


def test_only_ordinary_tokens_are_replaced_and_no_text_runs_twice() -> None:
    model, batch = Reader(), _texts()
    weigh = {"finds": _finds, "misses": _misses}
    found = saliency_curves(
        model, [batch], weigh, replacement=MASK, special_ids=[CLS], batch_size=7
    )
    rows = torch.cat(model.rows)
    assert all(len(part) <= 7 for part in model.rows)
    assert torch.all(rows[:, 0] == CLS)
    assert len(rows.unique(dim=0)) == len(rows)  # masks differ only where ids do here
    # Padding stays: the last text has only itself.
    assert int((rows == batch["input_ids"][3]).all(1).sum()) == 1
    assert len(found.random) == 3


def test_random_orders_lie_between_the_best_and_the_worst() -> None:
    batch = {k: v[:2].repeat(20, *[1] * (v.ndim - 1)) for k, v in _texts().items()}
    weigh = {"finds": _finds, "misses": _misses, "equal": lambda b: b["attention_mask"].float()}
    found = saliency_curves(Reader(), [batch], weigh, replacement=MASK, special_ids=[CLS])
    assert found.deletion("finds").high < 0 < found.deletion("misses").low
    assert found.insertion("misses").high < 0 < found.insertion("finds").low
    for compared in (found.deletion("equal"), found.insertion("equal")):
        assert compared.low < 0 < compared.high
        assert compared.difference == pytest.approx(compared.mean - compared.random)


def test_orders_depend_on_seeds_alone() -> None:
    model = tiny("bert")
    batch = tiny_batch(model, 6, 9, seed=4)
    weigh = {"gradient": lambda b: token_saliency(model, b)}

    def curves(parts: list[dict[str, Tensor]], **options: Any) -> Any:
        return saliency_curves(model, parts, weigh, replacement=MASK, **options)

    whole = curves([batch])
    again = curves([batch])
    halves = curves(
        [{k: v[a:b] for k, v in batch.items()} for a, b in ((0, 4), (4, 6))], batch_size=5
    )
    other = curves([batch], seeds=(5, 6))
    np.testing.assert_array_equal(
        whole.by_method["gradient"].deletion, again.by_method["gradient"].deletion
    )
    for one, two in zip(whole.random, halves.random, strict=True):
        np.testing.assert_allclose(one.deletion, two.deletion, atol=1e-5)
        np.testing.assert_allclose(one.insertion, two.insertion, atol=1e-5)
    assert not np.allclose(whole.random[0].deletion, whole.random[1].deletion)
    assert not np.allclose(whole.random[0].deletion, other.random[0].deletion)


def test_the_ends_are_the_whole_and_the_empty_text() -> None:
    model = tiny("llama")
    batch = tiny_batch(model, 4, 7, seed=1)
    weigh = {"gradient": lambda b: token_saliency(model, b)}
    found = saliency_curves(model, [batch], weigh, replacement=MASK, points=3).by_method["gradient"]
    logits = model(batch["input_ids"], batch["attention_mask"]).logits.detach()
    whole = logits.softmax(1).gather(1, batch["labels"][:, None])[:, 0]
    np.testing.assert_allclose(found.deletion[:, 0], whole, rtol=1e-4)
    np.testing.assert_allclose(found.insertion[:, -1], whole, rtol=1e-4)
    np.testing.assert_allclose(found.deletion[:, -1], found.insertion[:, 0], rtol=1e-6)


def test_multi_label_follows_the_mean_of_the_rows_classes() -> None:
    model = tiny("bert", multi_label=True)
    batch = tiny_batch(model, 3, 6, seed=1)
    batch["labels"] = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]])
    weigh = {"gradient": lambda b: token_saliency(model, b)}
    found = saliency_curves(model, [batch], weigh, replacement=MASK, points=2).by_method["gradient"]
    p = model(batch["input_ids"], batch["attention_mask"]).logits.detach().sigmoid()
    expected = [(p[0, 0] + p[0, 2]) / 2, (1 - p[1]).mean(), p[2, 1]]
    np.testing.assert_allclose(found.deletion[:, 0], expected, rtol=1e-4)


def test_the_area_of_a_straight_line_is_a_half() -> None:
    line = np.linspace(1.0, 0.0, 11)[None]
    np.testing.assert_allclose(area(line), [0.5])
    np.testing.assert_allclose(area(np.array([[1.0, 0, 0, 0, 0]])), [0.125])


class TestAgainstRandom:
    """The interval is paired, and covers both texts and orders."""

    def test_a_constant_difference_has_no_spread(self) -> None:
        random = np.random.default_rng(0).random((1, 50))
        compared = against_random(random[0] - 0.25, random)
        assert compared.difference == pytest.approx(-0.25)
        assert compared.low == pytest.approx(-0.25) == pytest.approx(compared.high)

    def test_the_interval_is_that_of_the_mean(self) -> None:
        areas = np.random.default_rng(1).normal(size=400)
        compared = against_random(areas, np.zeros((3, 400)), resamples=4000)
        error = areas.std() / 20
        assert compared.low == pytest.approx(areas.mean() - 1.96 * error, abs=0.15 * error)
        assert compared.high == pytest.approx(areas.mean() + 1.96 * error, abs=0.15 * error)

    def test_orders_that_differ_widen_it(self) -> None:
        areas = np.full(30, 0.5)
        steady = against_random(areas, np.stack([np.full(30, 0.4)] * 2))
        unsteady = against_random(areas, np.stack([np.full(30, 0.3), np.full(30, 0.5)]))
        assert steady.high - steady.low < 1e-9 < unsteady.high - unsteady.low

    def test_many_texts_go_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        areas = np.random.default_rng(1).normal(size=100)
        random = np.zeros((2, 100))
        monkeypatch.setattr("sparseft.saliency.areas._CHUNK_ELEMENTS", 1000)
        parts = against_random(areas, random, resamples=1005)
        assert parts.low < areas.mean() < parts.high

    def test_refusals(self) -> None:
        for areas, random in (((3,), (2, 4)), ((3,), (3,)), ((0,), (2, 0)), ((3,), (0, 3))):
            with pytest.raises(ConfigError, match="expected areas"):
                against_random(np.zeros(areas), np.zeros(random))
        with pytest.raises(ConfigError, match="expected areas"):
            against_random(np.zeros(3), np.zeros((1, 3)), resamples=0)


def test_refusals() -> None:
    batch = _texts()
    for wrong in ({"points": 0}, {"batch_size": 0}, {"seeds": ()}):
        with pytest.raises(ConfigError, match="at least one seed"):
            saliency_curves(Reader(), [batch], {"finds": _finds}, replacement=MASK, **wrong)
    with pytest.raises(SelectionError, match="at least one batch"):
        saliency_curves(Reader(), [], {"finds": _finds}, replacement=MASK)
    with pytest.raises(ConfigError, match="from 'short'"):
        saliency_curves(Reader(), [batch], {"short": lambda b: _finds(b)[:, 1:]}, replacement=MASK)
    with pytest.raises(ConfigError, match="with values that are not"):
        saliency_curves(Reader(), [batch], {"nan": lambda b: _finds(b) / 0}, replacement=MASK)
    bare = {k: v for k, v in batch.items() if k != "labels"}
    with pytest.raises(SelectionError, match="batch with labels"):
        saliency_curves(Reader(), [bare], {"finds": _finds}, replacement=MASK)
