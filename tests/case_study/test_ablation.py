"""Ablated units hold the base's values and nothing else changes; afterwards every bit is back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import sparseft
from sparseft.case_study.ablation import ablated
from sparseft.case_study.units import class_sensitivity, selected_units
from sparseft.models import TextClassifier
from sparseft.saliency import unit_sensitivities
from sparseft.selection import layout_of
from sparseft.sparse import selection_of
from tests.case_study.helpers import sparse_tiny
from tests.tiny import tiny_batch

KINDS = [("neuron", "head"), ("row",), ("column",), ("block",), ("element",), ("embedding",)]


def _state(model: TextClassifier) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _weights(model: TextClassifier) -> dict[str, Tensor]:
    """Weights and biases without the compact values beside them."""
    return {n: t for n, t in _state(model).items() if ".sparse_" not in n and "head." not in n}


@pytest.mark.parametrize("units", KINDS, ids=lambda units: "+".join(units))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_all_units_ablated_are_the_base_and_come_back(
    units: tuple[str, ...], dtype: torch.dtype
) -> None:
    model = sparse_tiny(units=units, dtype=dtype)
    before = _state(model)
    with sparseft.disabled(model):
        base = _weights(model)
    found = selected_units(model, selection_of(model))
    with ablated(model, found, np.arange(len(found))):
        inside = _weights(model)
    after = _state(model)
    changed = [name for name in base if not torch.equal(base[name], before[name])]
    assert changed  # else the trained values would equal the base's, and nothing be shown
    assert all(torch.equal(inside[name], base[name]) for name in base)
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_one_ablated_unit_changes_its_own_entries_alone(family: str) -> None:
    model = sparse_tiny(family)
    found = selected_units(model, selection_of(model))
    layout = layout_of(model)
    trained = _weights(model)
    with sparseft.disabled(model):
        base = _weights(model)
    for place in (0, len(found) - 1):
        group, number = found.groups[found.group[place]], int(found.number[place])
        with ablated(model, found, np.array([place])):
            inside = _weights(model)
        expected = {name: tensor.clone() for name, tensor in trained.items()}
        for piece in group.pieces:
            entries = piece.of(torch.tensor([number]))
            weight = f"{piece.module}.weight"
            if piece.structure == "columns":
                expected[weight][:, entries] = base[weight][:, entries]
            else:
                expected[weight][entries] = base[weight][entries]
                if layout.linear(piece.module).bias is not None:
                    bias = f"{piece.module}.bias"
                    expected[bias][entries] = base[bias][entries]
        assert all(torch.equal(inside[name], expected[name]) for name in expected)
        assert any(not torch.equal(inside[name], trained[name]) for name in trained)


def test_values_come_back_when_the_block_fails() -> None:
    model = sparse_tiny()
    before = _state(model)
    found = selected_units(model, selection_of(model))
    with pytest.raises(KeyError), ablated(model, found, np.array([0, 3])):
        raise KeyError("inside")
    assert all(torch.equal(tensor, before[name]) for name, tensor in _state(model).items())


def test_units_are_those_of_the_selection() -> None:
    model = sparse_tiny()
    selection = selection_of(model)
    found = selected_units(model, selection)
    kinds, counts = np.unique(found.kind, return_counts=True)
    assert dict(zip(kinds.tolist(), counts.tolist(), strict=True)) == selection.units_by_kind()
    assert int(found.size.sum()) == selection.trained


def test_sensitivity_is_that_of_the_batches_and_leaves_the_model_alone() -> None:
    model = sparse_tiny()
    before = _state(model)
    found = selected_units(model, selection_of(model))
    one, other = (tiny_batch(model, rows=6, seed=seed) for seed in (1, 2))
    scores = class_sensitivity(model, found, [one])
    assert scores.shape == (len(found),) and (scores >= 0).all() and scores.max() > 0
    assert not np.allclose(scores, class_sensitivity(model, found, [other]), rtol=0.1)
    whole = unit_sensitivities(model, layout_of(model), found.groups, [one], lowest_layer=1)
    first = whole.by_saliency["gradient_x_input"][0][found.number[found.group == 0]]
    assert np.allclose(scores[found.group == 0], first / found.groups[0].size)
    assert all(torch.equal(tensor, before[name]) for name, tensor in _state(model).items())
    assert all(p.requires_grad for p in sparseft.trainable(model))
