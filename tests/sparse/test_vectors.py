"""Biases and norms that are trained whole: as exact as everything else, and no deeper."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import sparseft
from sparseft.errors import DeltaError, SelectionError
from sparseft.models import FrozenPrefix
from sparseft.selection import Selection, VectorSelection, layout_of
from sparseft.selection.vectors import vectors_from, with_vectors
from sparseft.sparse.apply import sparse_modules, trained_modules, vector_values
from tests.sparse.helpers import analysed, bits, same_bits, train
from tests.tiny import FAMILIES, LAYERS, tiny, tiny_batch


def _selected(
    family: str = "bert", biases: bool = True, norms: bool = True, depth: float = 0.5
) -> tuple[nn.Module, Selection]:
    model, selection = analysed(family, depth=depth)
    return model, with_vectors(selection, model, biases=biases, norms=norms)


def _names(selection: Selection) -> set[str]:
    return {f"{v.module}.{name}" for v in selection.vectors for name in v.parameters}


def _expected(model: nn.Module, lowest: int, biases: bool, norms: bool) -> set[str]:
    """By the parameters' names: those of layers from `lowest` on, and of a last norm."""
    found = set()
    for name, parameter in model.backbone.named_parameters():  # type: ignore[union-attr,operator]
        layer = next((int(part) for part in name.split(".") if part.isdigit()), None)
        if parameter.dim() != 1 or (layer is not None and layer < lowest):
            continue
        if layer is None and name not in ("norm.weight", "final_norm.weight"):
            continue
        norm = "norm" in name.lower()
        if (biases and name.endswith("bias")) or (norms and norm):
            found.add(f"backbone.{name}")
    return found


@pytest.mark.parametrize(("biases", "norms"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("family", FAMILIES)
def test_which_vectors(family: str, biases: bool, norms: bool) -> None:
    model, selection = _selected(family, biases, norms)
    assert selection.lowest_layer == 1
    assert _names(selection) == _expected(model, 1, biases, norms)
    counted = sum(dict(model.named_parameters())[name].numel() for name in _names(selection))
    of_units = sum(module.trained for module in selection.modules)
    assert selection.trained == of_units + counted
    assert not any(m.bias for m in selection.modules) or not biases


def test_from_the_embeddings_on_their_norm_counts_too() -> None:
    layout = layout_of(tiny("bert"))
    all_of_it = vectors_from(layout, -1, biases=True, norms=True)
    layers_only = vectors_from(layout, 0, biases=True, norms=True)
    assert {v.module for v in all_of_it} - {v.module for v in layers_only} == {
        "backbone.embeddings.LayerNorm"
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_training_moves_them_alone_and_everything_is_exact(family: str, tmp_path: Path) -> None:
    model, selection = _selected(family)
    base = bits(model)
    sparseft.sparsify(model, selection)
    assert same_bits(bits(model), base)
    assert FrozenPrefix(model).layers == selection.lowest_layer == 1
    train(model)
    changed = {n for n, value in bits(model).items() if not torch.equal(value, base[n])}
    selected = {f"{m.module}.weight" for m in selection.modules}
    selected |= {f"{m.module}.bias" for m in selection.modules if m.bias}
    assert changed == selected | _names(selection) | {"head.weight", "head.bias"}

    sparseft.save_delta(model.eval(), tmp_path / "delta")
    loaded = sparseft.load_delta(tiny(family), tmp_path / "delta").eval()
    assert same_bits(bits(loaded), bits(model))
    batch = tiny_batch(model, 4, 7, seed=1)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)

    trained = bits(model)
    with sparseft.disabled(model):
        assert same_bits(bits(model, ("head.",)), bits(tiny(family), ("head.",)))
        plain = tiny(family)
        plain.head.load_state_dict(model.head.state_dict())
        assert torch.equal(model(**batch).logits, plain(**batch).logits)
    assert same_bits(bits(model), trained)
    train(loaded, seed=9)
    assert not same_bits(bits(loaded), trained)
    sparseft.swap(loaded, tmp_path / "delta")
    assert same_bits(bits(loaded), trained)
    assert same_bits(bits(sparseft.unload(loaded), ("head.",)), bits(tiny(family), ("head.",)))
    sparseft.merge(model)
    assert same_bits(bits(model), trained)
    for merged in (model, loaded):
        assert [type(m) for m in merged.modules()] == [type(m) for m in tiny(family).modules()]
        assert merged.state_dict().keys() == tiny(family).state_dict().keys()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("family", ["bert", "llama", "modernbert"])
def test_gradients_are_those_of_dense_training(family: str, autocast: bool) -> None:
    model, selection = _selected(family)
    dense = tiny(family)
    sparseft.sparsify(model, selection)
    batch = tiny_batch(model, 6, 7, seed=2)
    for each in (model, dense):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            each(**batch).loss.backward()
    parameters = dict(dense.named_parameters())
    values = vector_values(model, selection)
    assert set(values) == _names(selection)
    for name, value in values.items():
        assert value.grad is not None and value.grad.dtype == torch.float32
        wanted = parameters[name].grad
        scale = float(wanted.abs().max())
        tolerance = {"rtol": 2e-2, "atol": 2e-2 * scale} if autocast else {}
        assert scale > 0, name
        torch.testing.assert_close(value.grad, wanted, **tolerance)


def test_small_steps_add_up_over_bfloat16() -> None:
    model = tiny("llama")
    model.backbone.to(torch.bfloat16)
    batches = [tiny_batch(model, 4, 7)]
    selection = sparseft.analyze(model, batches, budget=sparseft.Budget(density=0.1), depth=0.5)
    selection = with_vectors(selection, model, biases=True, norms=True)
    sparseft.sparsify(model, selection)
    norm = model.backbone.norm
    values = norm.values("weight")
    assert values.dtype == torch.float32 and norm.weight.dtype == torch.bfloat16
    # A step of 1e-3 is below half of bfloat16's distance at 1, so without masters nothing moves.
    optimizer = sparseft.optim.SparseAdamW(sparseft.trainable(model), lr=1e-3)
    model.train()
    for _ in range(20):
        model(**batches[0]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert bool((norm.weight != 1).any())
    assert torch.equal(norm.weight, values.to(torch.bfloat16))


def test_any_torch_optimizer_and_changes_by_hand_are_followed() -> None:
    model, selection = _selected()
    sparseft.sparsify(model, selection)
    batch = tiny_batch(model, 4, 7)
    for fused in (False, True):
        optimizer = torch.optim.AdamW(sparseft.trainable(model), lr=1e-2, fused=fused)
        model.train()(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        for name, values in vector_values(model, selection).items():
            assert torch.equal(dict(model.named_parameters())[name], values), name
    before = model.eval()(**batch).logits.detach()
    values = next(iter(vector_values(model, selection).values()))
    with torch.no_grad():
        values += 0.5
    assert not torch.equal(model(**batch).logits, before)


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_are_independent(how: str) -> None:
    model, selection = _selected()
    sparseft.sparsify(model, selection)
    other = copy.deepcopy(model) if how == "deepcopy" else pickle.loads(pickle.dumps(model))
    before = bits(model)
    assert same_bits(bits(other), before)
    assert [type(m) for m in other.modules()] == [type(m) for m in model.modules()]
    train(other)
    assert same_bits(bits(model), before) and not same_bits(bits(other), before)
    assert len(trained_modules(other)) == len(trained_modules(model)) > len(sparse_modules(other))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_compiled_model_trains_the_same(family: str) -> None:
    torch.compiler.reset()
    model, selection = _selected(family)
    sparseft.sparsify(model, selection)
    other = copy.deepcopy(model)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    losses = []
    for each, forward in ((model, model), (other, compiled)):
        optimizer = sparseft.optim.SparseAdamW(sparseft.trainable(each), lr=1e-2)
        batch = tiny_batch(each, 4, 7, seed=5)
        found = []
        for _ in range(3):
            loss = forward(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            found.append(loss.detach())
        losses.append(torch.stack(found))
    torch.testing.assert_close(losses[1], losses[0])
    assert losses[0][-1] < losses[0][0]
    torch.compiler.reset()


class TestFiles:
    """A file is of the lowest version that can hold it; what does not fit is refused."""

    def test_versions(self, tmp_path: Path) -> None:
        model, selection = _selected()
        plain = replace(selection, vectors=())
        assert plain.to_dict()["version"] == 1 and "vectors" not in plain.to_dict()
        assert selection.to_dict()["version"] == 2
        content = json.loads(selection.save(tmp_path / "s.json").read_text())
        assert Selection.load(tmp_path / "s.json").vectors == selection.vectors
        with pytest.raises(SelectionError, match="version 1 or 2"):
            Selection.from_dict({**content, "version": 3})
        del content["vectors"][0]["size"]
        with pytest.raises(SelectionError, match="damaged"):
            Selection.from_dict(content)
        sparseft.sparsify(model, selection)
        sparseft.save_delta(model, tmp_path / "d")
        assert json.loads((tmp_path / "d" / "config.json").read_text())["version"] == 2
        count = sum(vector.trained for vector in selection.vectors)
        assert f"{count:,} numbers of biases and norms" in (tmp_path / "d/README.md").read_text()

    def test_a_delta_without_a_vector(self, tmp_path: Path) -> None:
        model, selection = _selected()
        sparseft.sparsify(model, selection)
        sparseft.save_delta(model, tmp_path / "d")
        delta = sparseft.read_delta(tmp_path / "d")
        name = f"{next(iter(_names(selection)))}.vector"
        tensors = {key: tensor for key, tensor in delta.tensors.items() if key != name}
        target = tiny("bert")
        before = bits(target)
        with pytest.raises(DeltaError, match=name.replace(".", r"\.")):
            sparseft.load_delta(target, replace(delta, tensors=tensors))
        assert same_bits(bits(target), before)

    @pytest.mark.parametrize(
        "vector",
        [
            VectorSelection("backbone.nowhere", ("bias",), 16),
            VectorSelection("backbone.embeddings.LayerNorm", ("bias",), 8),
            VectorSelection("backbone.encoder.layer.1.output.dense", ("weight",), 16),
        ],
    )
    def test_vectors_of_another_model(self, vector: VectorSelection) -> None:
        model, selection = analysed(depth=0.5)
        before = bits(model)
        with pytest.raises(SelectionError, match="belongs to another model"):
            sparseft.sparsify(model, replace(selection, vectors=(vector,)))
        assert same_bits(bits(model), before) and not trained_modules(model)

    def test_a_bias_cannot_be_selected_twice(self) -> None:
        model, selection = analysed(depth=0.5)
        chosen = next(m for m in selection.modules if m.bias)
        vector = VectorSelection(chosen.module, ("bias",), chosen.shape[0])
        with pytest.raises(SelectionError, match="by rows and whole"):
            sparseft.sparsify(model, replace(selection, vectors=(vector,)))

    def test_damaged_vectors(self) -> None:
        with pytest.raises(SelectionError, match="weight, bias or both"):
            VectorSelection("m", ("gain",), 4)
        with pytest.raises(SelectionError, match="above 0"):
            VectorSelection("m", ("bias",), 0)


def test_the_lowest_layer_bounds_them() -> None:
    for depth in (0.3, 0.7, 1.0):
        _, selection = _selected(depth=depth)
        layers = {int(n.split("layer.")[1].split(".")[0]) for n in _names(selection)}
        assert layers == set(range(selection.lowest_layer, LAYERS))
