"""Applying, switching off, merging and removing a selection: bit for bit."""

import copy
import io

import pytest
import torch
from torch import nn

import sparseft
from sparseft.errors import SelectionError
from tests.sparse.helpers import (
    STRUCTURES,
    analysed,
    bits,
    module_selection,
    same_bits,
    selection_by_hand,
    train,
)
from tests.tiny import FAMILIES, tiny, tiny_batch

UNITS = (("neuron", "head"), ("row",), ("column",), ("block",), ("element",), ("embedding",))


@pytest.mark.parametrize("units", UNITS, ids="+".join)
@pytest.mark.parametrize("family", FAMILIES)
def test_training_changes_the_selected_entries_and_no_other_bit(
    family: str, units: tuple[str, ...]
) -> None:
    model, selection = analysed(family, units=units)
    before = bits(model)
    sparseft.sparsify(model, selection)
    train(model)
    after = bits(model)
    untouched = {}
    for selected in selection.modules:
        name = f"{selected.module}.weight"
        mask = torch.zeros(selected.shape, dtype=torch.bool)
        index = torch.from_numpy(selected.index)
        if selected.structure in ("rows", "embedding"):
            mask[index] = True
        elif selected.structure == "columns":
            mask[:, index] = True
        elif selected.structure == "elements":
            mask.view(-1)[index] = True
        else:
            edge, columns = selected.edge, selected.shape[1] // selected.edge
            for block in selected.index.tolist():
                r, c = divmod(block, columns)
                mask[r * edge : (r + 1) * edge, c * edge : (c + 1) * edge] = True
        assert int(mask.sum()) == selected.weights
        assert torch.equal(before[name][~mask], after[name][~mask])
        assert not torch.equal(before[name][mask], after[name][mask])
        untouched[name] = mask
        if selected.bias:
            bias = f"{selected.module}.bias"
            rest = torch.ones(selected.shape[0], dtype=torch.bool)
            rest[index] = False
            assert torch.equal(before[bias][rest], after[bias][rest])
            untouched[bias] = rest
    for name in before:
        if name not in untouched and not name.startswith("head."):
            assert torch.equal(before[name], after[name]), name


def test_sparsify_freezes_everything_but_values_and_head() -> None:
    model, selection = analysed()
    sparseft.sparsify(model, selection)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        n for n, _ in model.named_parameters() if "sparse_" in n or n.startswith("head.")
    }
    values = sum(p.numel() for n, p in model.named_parameters() if "sparse_" in n)
    assert values == selection.trained


def test_outputs_are_unchanged_until_a_step_is_taken() -> None:
    model, selection = analysed()
    batch = tiny_batch(model, 4, 7, seed=1)
    before = model(**batch).logits
    sparseft.sparsify(model, selection)
    assert torch.equal(model(**batch).logits, before)


def test_disabled_is_the_base_model_and_enabled_again_the_trained_one() -> None:
    model, selection = analysed()
    base = bits(model, without=("head.",))
    sparseft.sparsify(model, selection)
    train(model)
    trained = bits(model)
    with sparseft.disabled(model):
        assert same_bits(bits(model, without=("head.",)), base)
        # A forward inside must not bring the trained values back, nor collect a gradient.
        model(**tiny_batch(model, 2, 5, seed=1)).loss.backward()
        assert same_bits(bits(model, without=("head.",)), base)
        assert all(p.grad is None for n, p in model.named_parameters() if "sparse_" in n)
    assert same_bits(bits(model), trained)


def test_disabled_comes_back_after_an_error() -> None:
    model, selection = analysed()
    sparseft.sparsify(model, selection)
    train(model)
    trained = bits(model)
    with pytest.raises(KeyError), sparseft.disabled(model):
        raise KeyError
    assert same_bits(bits(model), trained)


@pytest.mark.parametrize("family", FAMILIES)
def test_merge_leaves_a_plain_model_with_the_trained_weights(family: str) -> None:
    model, selection = analysed(family)
    kinds = {n: type(m) for n, m in model.named_modules()}
    keys = set(model.state_dict())
    flags = {n: p.requires_grad for n, p in model.named_parameters()}
    sparseft.sparsify(model, selection)
    train(model)
    batch = tiny_batch(model, 4, 7, seed=1)
    model.eval()
    logits = model(**batch).logits
    trained = bits(model)
    sparseft.merge(model)
    assert {n: type(m) for n, m in model.named_modules()} == kinds
    assert set(model.state_dict()) == keys
    assert {n: p.requires_grad for n, p in model.named_parameters()} == flags
    assert not [name for m in model.modules() for name in vars(m) if "sparse_" in name]
    assert same_bits(bits(model), trained)
    assert torch.equal(model(**batch).logits, logits)


def test_unload_gives_the_base_weights_back() -> None:
    model, selection = analysed()
    base = bits(model, without=("head.",))
    sparseft.sparsify(model, selection)
    train(model)
    sparseft.unload(model)
    assert same_bits(bits(model, without=("head.",)), base)
    assert not [n for n, _ in model.named_parameters() if "sparse" in n]


def test_any_torch_optimizer_is_noticed_at_the_next_forward() -> None:
    for build in (
        lambda p: torch.optim.AdamW(p, lr=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True),
        lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.1, fused=True),
        lambda p: torch.optim.RMSprop(p, lr=0.1),
        lambda p: torch.optim.Adagrad(p, lr=0.1),
    ):
        model, selection = analysed()
        sparseft.sparsify(model, selection)
        optimizer = build(sparseft.trainable(model))
        batch = tiny_batch(model, 4, 7, seed=1)
        model(**batch).loss.backward()
        optimizer.step()
        with torch.no_grad():
            model(**batch)
        for module in sparseft.sparse.apply.sparse_modules(model).values():
            held = module.sparse_plan.read(module.weight.detach())
            assert torch.equal(held, module.sparse_values.detach())


def test_sync_follows_changes_that_torch_cannot_see() -> None:
    model, selection = analysed()
    sparseft.sparsify(model, selection)
    name, module = next(iter(sparseft.sparse.apply.sparse_modules(model).items()))
    module.sparse_values.data.fill_(0.25)
    sparseft.sync(model)
    assert torch.all(module.sparse_plan.read(module.weight) == 0.25), name


def test_load_state_dict_reaches_the_weights() -> None:
    model, selection = analysed()
    sparseft.sparsify(model, selection)
    untrained = {k: v.clone() for k, v in model.state_dict().items()}
    train(model)
    model.load_state_dict(untrained)
    batch = tiny_batch(model, 2, 5, seed=1)
    logits = model(**batch).logits
    again, _ = analysed()
    again.head.load_state_dict(model.head.state_dict())  # type: ignore[union-attr,operator]
    assert torch.equal(logits, again(**batch).logits)


def test_deepcopy_and_pickle_carry_a_working_delta() -> None:
    model, selection = analysed()
    sparseft.sparsify(model, selection)
    train(model)
    batch = tiny_batch(model, 2, 5, seed=1)
    logits = model(**batch).logits
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for twin in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        assert torch.equal(twin(**batch).logits, logits)
        optimizer = torch.optim.AdamW(sparseft.trainable(twin), lr=0.1, fused=True)
        twin(**batch).loss.backward()
        optimizer.step()
        assert not torch.equal(twin(**batch).logits, logits)
        assert torch.equal(model(**batch).logits, logits)
        sparseft.merge(twin)


def test_a_move_takes_plan_and_base_along() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))
    base = model[0].weight.detach().double()
    selected = module_selection(model, "0", "rows", 0.5)
    sparseft.sparsify(model, selection_by_hand(model, [selected]))
    model.to(torch.float64)
    optimizer = sparseft.optim.SparseSGD(sparseft.trainable(model), lr=0.1)
    model(torch.randn(5, 6, dtype=torch.float64)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight, base)
    sparseft.unload(model)
    assert torch.equal(model[0].weight, base)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_empty_and_full_selections_train(structure: str) -> None:
    for share in (0.0, 1.0):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))
        selected = module_selection(model, "0", structure, share, edge=2)
        before = model[0].weight.detach().clone()
        sparseft.sparsify(model, selection_by_hand(model, [selected]))
        optimizer = sparseft.optim.SparseSGD(sparseft.trainable(model), lr=0.1)
        model(torch.randn(5, 6)).square().sum().backward()
        optimizer.step()
        changed = (model[0].weight != before).float().mean()
        assert changed == share


class TestRefusals:
    def test_twice(self) -> None:
        model, selection = analysed()
        sparseft.sparsify(model, selection)
        with pytest.raises(SelectionError, match="already carries a selection"):
            sparseft.sparsify(model, selection)

    def test_other_base_weights(self) -> None:
        model, selection = analysed()
        with torch.no_grad():
            next(model.parameters()).add_(1)
        before = bits(model)
        with pytest.raises(SelectionError, match="base weights with hash"):
            sparseft.sparsify(model, selection)
        assert same_bits(bits(model), before)
        assert all(p.requires_grad for p in model.parameters())

    def test_other_model(self) -> None:
        _, selection = analysed("bert")
        with pytest.raises(SelectionError, match="belongs to another model"):
            sparseft.sparsify(tiny("llama"), selection)

    def test_plain_model(self) -> None:
        model = tiny("bert")
        for call in (sparseft.trainable, sparseft.sync, sparseft.merge, sparseft.unload):
            with pytest.raises(SelectionError, match=r"after sparseft\.sparsify or load_delta"):
                call(model)

    def test_unsorted_or_duplicate_indices(self) -> None:
        import numpy as np

        from sparseft.selection import ModuleSelection

        for index in ([3, 1], [1, 1], [-1], [7]):
            with pytest.raises(SelectionError, match="sorted, distinct rows below 4"):
                ModuleSelection("0", "rows", np.array(index), (4, 6))
