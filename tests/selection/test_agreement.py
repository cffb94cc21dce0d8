"""Agreement of selections: Jaccard against random selections of the same structure."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sparseft
from sparseft.errors import SelectionError
from sparseft.selection import Choice, ModuleSelection, Selection, layout_of, unit_groups
from sparseft.selection.agreement import _counts, agreement
from sparseft.selection.build import module_selections
from tests.tiny import FAMILIES, HEADS, INTERMEDIATE, LAYERS, tiny, tiny_batch


def _rows(units: list[int], count: int = 40, layer: int = 0, name: str = "a") -> Selection:
    """Rows of one weight in one of two layers."""
    index = np.array(units)
    label = f"layers.{layer}.{name}"
    return Selection(
        (ModuleSelection(label, "rows", index, (count, 4)),),
        (Choice("row", layer, label, index, np.ones(len(units))),),
        2, layer, 1000, "", (), ("layers.0", "layers.1"),
    )  # fmt: skip


def test_the_index_by_hand() -> None:
    found = agreement([_rows([0, 1, 2, 3]), _rows([2, 3, 4, 5]), _rows([0, 1, 2, 3])])
    # 2 of 6, 4 of 4, 2 of 6.
    assert found.overall.jaccard == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)
    assert (found.overall.lowest, found.overall.highest) == (pytest.approx(1 / 3), 1.0)
    assert found.overall.units == 4 and found.selections == 3
    assert found.by_kind["row"] == found.overall == found.by_layer[0]


def test_the_expected_index_is_that_of_random_selections() -> None:
    # Exact for one row each out of two: the same with probability 1/2.
    found = agreement([_rows([0], 2), _rows([1], 2)], draws=4000)
    assert found.overall.jaccard == 0.0
    assert found.overall.expected == pytest.approx(0.5, abs=0.03)
    assert found.overall.expected_sd == pytest.approx(0.5, abs=0.01)
    # And what really random ones show.
    generator = np.random.default_rng(1)
    random = [_rows(sorted(generator.permutation(400)[:120].tolist()), 400) for _ in range(12)]
    found = agreement(random)
    assert found.overall.jaccard == pytest.approx(found.overall.expected, rel=0.05)
    assert abs(found.overall.jaccard - found.overall.expected) < 4 * found.overall.expected_sd
    assert agreement(random) == found


def test_everything_chosen_agrees_and_is_expected_to() -> None:
    found = agreement([_rows(list(range(40))), _rows(list(range(40)))])
    assert found.overall.jaccard == found.overall.expected == 1.0
    assert found.overall.expected_sd == 0.0


def test_layers_that_only_one_selection_has() -> None:
    found = agreement([_rows([0, 1], layer=0), _rows([0, 1], layer=1)])
    assert found.overall.jaccard == found.overall.expected == 0.0
    assert {layer: o.jaccard for layer, o in found.by_layer.items()} == {0: 0.0, 1: 0.0}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kinds", [("neuron", "head"), ("block",), ("embedding", "column")])
def test_the_number_of_units_is_read_from_the_file(family: str, kinds: tuple[str, ...]) -> None:
    model = tiny(family)
    layout = layout_of(model)
    groups = unit_groups(layout, kinds, block_edge=8)
    chosen = [np.arange(0, g.count, 2) for g in groups]
    selection = Selection(
        module_selections(layout, groups, chosen, 8),
        tuple(
            Choice(g.kind, g.layer, g.label, units, np.ones(units.size))
            for g, units in zip(groups, chosen, strict=True)
        ),
        LAYERS, 0, 1, "", (), tuple(layer.module_name for layer in layout.layers),
    )  # fmt: skip
    again = Selection.from_dict(json.loads(json.dumps(selection.to_dict())))
    assert _counts(again) == {(g.kind, g.layer, g.label): g.count for g in groups}


def test_analysed_selections_of_other_data_agree_more_than_random_ones() -> None:
    model = tiny("bert")
    options = {"budget": sparseft.Budget(density=0.15), "depth": 1.0}
    made = [
        sparseft.analyze(model, [tiny_batch(model, 8, 8, seed=10 * s + i) for i in range(4)],
                         **options)
        for s in range(3)
    ]  # fmt: skip
    found = agreement(made)
    assert set(found.by_kind) <= {"neuron", "head"}
    assert 0 < found.overall.units <= LAYERS * (INTERMEDIATE + HEADS)
    assert found.overall.jaccard > found.overall.expected + 3 * found.overall.expected_sd
    content = json.loads(json.dumps(found.to_dict()))
    assert content["overall"]["jaccard"] == found.overall.jaccard
    assert set(content["by_layer"]) == {str(layer) for layer in found.by_layer}


def test_what_cannot_be_compared() -> None:
    with pytest.raises(SelectionError, match="at least two selections, got 1"):
        agreement([_rows([0])])
    with pytest.raises(SelectionError, match="got 0"):
        agreement([])
    with pytest.raises(SelectionError, match=r"expected 40 units in layers\.0\.a, got 30"):
        agreement([_rows([0]), _rows([0], 30)])
    other = Selection((), (), 1, 0, 1, "", (), ("blocks.0",))
    with pytest.raises(SelectionError, match="one model"):
        agreement([_rows([0]), other])
    broken = Selection((), _rows([0]).choices, 2, 0, 1, "", (), ("layers.0", "layers.1"))
    with pytest.raises(SelectionError, match="damaged"):
        agreement([_rows([0]), broken])
    with pytest.raises(SelectionError, match="two draws"):
        agreement([_rows([0]), _rows([0])], draws=1)
