"""Where units lie and what their loss does: counts, expectations, controls of equal structure."""

from __future__ import annotations

import numpy as np
import pytest

from sparseft.case_study.effects import class_effect, most_sensitive, random_alike
from sparseft.case_study.placement import placement_of
from sparseft.case_study.scoring import Scorer
from sparseft.case_study.units import all_groups, selected_units
from sparseft.data import Split
from sparseft.reporting.predictor import Predictor
from sparseft.selection import layout_of
from sparseft.sparse import selection_of
from tests.case_study.helpers import sparse_tiny
from tests.tiny import HEADS, INTERMEDIATE, LAYERS, tiny_tokenizer


def test_placement_counts_the_selection_and_expects_as_many_weights() -> None:
    model = sparse_tiny()
    selection = selection_of(model)
    found = placement_of(layout_of(model), selection)
    assert found.layers == tuple(range(LAYERS)) and found.kinds == ("neuron", "head")
    assert found.units.tolist() == [[INTERMEDIATE, HEADS]] * LAYERS
    assert dict(zip(found.kinds, found.selected.sum(0).tolist(), strict=True)) == {
        kind: selection.units_by_kind().get(kind, 0) for kind in found.kinds
    }
    # The lowest layer was out of reach: depth 0.67 of 3 layers is the upper two.
    assert (found.expected[0] == 0).all() and np.isnan(found.ratio[0]).all()
    units = selected_units(model, selection)
    size = {group.kind: group.size for group in all_groups(layout_of(model), selection)}
    sizes = np.array([size[kind] for kind in found.kinds])
    assert (found.expected * sizes).sum() == pytest.approx(int(units.size.sum()))
    chance = found.expected[1:] / found.units[1:]
    assert np.allclose(chance, chance[0, 0])  # every unit is equally likely
    assert (found.low <= found.expected).all() and (found.expected <= found.high).all()
    assert (found.high[1:, 0] > found.low[1:, 0]).all()


def test_embedding_rows_are_a_layer_below_the_others() -> None:
    model = sparse_tiny(units=("embedding", "neuron"))
    found = placement_of(layout_of(model), selection_of(model))
    assert found.layers == (-1, *range(LAYERS))
    assert found.units[0].tolist() == [60, 0] and np.isnan(found.share[0, 1])
    assert int(found.selected.sum()) == len(selected_units(model, selection_of(model)))


def test_the_most_sensitive_are_a_share_and_at_least_one() -> None:
    scores = np.array([0.1, 5.0, 0.2, 3.0, 0.0, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert most_sensitive(scores, 0.2).tolist() == [1, 3]
    assert most_sensitive(scores, 0.001).tolist() == [1]


def test_random_units_have_the_kinds_of_the_chosen() -> None:
    units = selected_units(model := sparse_tiny(), selection_of(model))
    kinds = units.kind
    chosen = np.flatnonzero(kinds == kinds[0])[:3]
    random = np.random.default_rng(0)
    draws = [random_alike(units, chosen, random) for _ in range(20)]
    for places in draws:
        assert len(np.unique(places)) == 3 and (kinds[places] == kinds[0]).all()
    assert len({tuple(places.tolist()) for places in draws}) > 10


def test_an_effect_is_the_difference_to_the_trained_model() -> None:
    model = sparse_tiny()
    model.head.weight.data.mul_(10)
    texts = tuple(f"word{i} word{3 * i % 55} word{7 * i % 55}" for i in range(30))
    predictor = Predictor(model, tiny_tokenizer(), ["a", "b", "c"])
    unlabelled = Split(texts, np.zeros(30, np.int64), np.arange(30))
    guessed = Scorer(predictor, unlabelled, 8).score().probability.argmax(1)
    scorer = Scorer(predictor, Split(texts, guessed, np.arange(30)), 8)
    base = scorer.score()
    assert base.accuracy == 1.0  # the labels are the model's own answers
    units = selected_units(model, selection_of(model))
    label = int(np.bincount(guessed).argmax())
    ticks: list[int] = []
    effect = class_effect(
        scorer,
        base,
        units,
        np.arange(len(units), dtype=np.float64),
        label,
        share=0.5,
        draws=3,
        random=np.random.default_rng(0),
        tick=lambda: ticks.append(1),
    )
    assert len(ticks) == 4 and effect.random_own.shape == (3,)
    assert sum(effect.units.values()) == sum(effect.layers.values()) == round(0.5 * len(units))
    assert effect.rows == int((guessed == label).sum())
    known = [change for change in effect.change.tolist() if not np.isnan(change)]
    assert min(known) < 0 and max(known) <= 0  # from all right there is only down
    assert -1 <= effect.own <= 0 and effect.own == effect.change[label]
    assert effect.beyond_chance == all(effect.own < own for own in effect.random_own)
    assert effect.less_probable == all(effect.probability < p for p in effect.random_probability)
    assert np.array_equal(scorer.score().probability, base.probability)  # all bits are back
