"""Flat units leave, those that the loss asks for come; budget, structure and depth stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import sparseft
from sparseft.errors import ConfigError, SelectionError
from sparseft.models import FrozenPrefix
from sparseft.selection import Selection, layout_of
from sparseft.selection.units import unit_groups
from sparseft.selection.vectors import with_vectors
from sparseft.sparse.apply import selection_of, sparse_modules
from sparseft.sparse.flatness import flatness
from sparseft.sparse.refresh import RefreshOptions, exchange, refresh
from tests.sparse.helpers import bits, same_bits, train
from tests.tiny import tiny, tiny_batch


def _analysed(
    family: str = "bert", units: Sequence[str] = ("neuron", "head"), **options: Any
) -> tuple[nn.Module, Selection]:
    model = tiny(family)
    batches = [tiny_batch(model, 8, 7, seed=seed) for seed in range(2)]
    settings = {"depth": 0.7, "block_edge": 8, **options}
    budget = sparseft.Budget(density=0.15)
    return model, sparseft.analyze(model, batches, budget=budget, units=units, **settings)


def _trained(
    family: str = "bert", steps: int = 3, **options: Any
) -> tuple[nn.Module, torch.optim.Optimizer]:
    model, selection = _analysed(family, **options)
    sparseft.sparsify(model, selection)
    optimizer = sparseft.optim.SparseAdamW(sparseft.trainable(model), lr=1e-2, weight_decay=0.0)
    _steps(model, optimizer, steps)
    return model, optimizer


def _steps(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    model.train()
    for seed in range(steps):
        model(**tiny_batch(model, 6, 7, seed=seed)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def _batches(model: nn.Module) -> list[dict[str, Tensor]]:
    return [tiny_batch(model, 8, 7, seed=50)]


def _shape(selection: Selection) -> tuple[object, ...]:
    units = [(c.kind, c.layer, c.label, c.units.size) for c in selection.choices]
    modules = [(m.module, m.structure, m.index.size, m.bias) for m in selection.modules]
    return units, modules, selection.trained, selection.lowest_layer, selection.base_hash


class TestExchange:
    """Which units of a group leave and come."""

    chosen = np.array([0, 2, 4, 6])
    flat = np.array([5.0, 0, 1.0, 0, 7.0, 0, 3.0, 0])
    scores = np.array([0.1, 4.0, 3.5, 2.0, 0.2, 3.0, 0.3, 1.0])

    def _units(self, share: float, **options: bool) -> list[int]:
        return exchange(self.chosen, self.flat, self.scores, share, **options).tolist()

    def test_the_flattest_give_place_to_the_highest(self) -> None:
        assert self._units(0.25) == [0, 1, 4, 6]  # 2 is flattest, 1 highest
        # The second pair is 6 and 5.
        assert self._units(0.5) == [0, 1, 4, 5]

    def test_the_share_is_rounded_down(self) -> None:
        assert self._units(0.24) == [0, 2, 4, 6]
        assert self._units(0.74) == self._units(0.5)

    def test_a_worse_newcomer_does_not_come(self) -> None:
        scores = np.where(np.arange(8) == 1, 3.4, self.scores)  # now 2 is better than 1
        assert exchange(self.chosen, self.flat, scores, 0.25).tolist() == [0, 2, 4, 6]
        assert exchange(self.chosen, self.flat, scores, 0.25, guard=False).tolist() == [0, 1, 4, 6]

    def test_no_more_than_there_are(self) -> None:
        all_but_one = np.arange(7)
        assert exchange(all_but_one, self.flat, self.scores, 1.0, guard=False).size == 7
        everything = np.arange(8)
        assert exchange(everything, self.flat, self.scores, 1.0).tolist() == everything.tolist()


@pytest.mark.parametrize("by", ["moments", "movement"])
@pytest.mark.parametrize(
    "units",
    [("neuron", "head"), ("row",), ("column",), ("block",), ("element",), ("embedding",)],
)
def test_flatness_is_the_sum_over_the_units_own_numbers(units: tuple[str, ...], by: str) -> None:
    depth = 1.0 if units == ("embedding",) else 0.7
    model, optimizer = _trained(units=units, depth=depth)
    selection = selection_of(model)
    known = {(g.kind, g.label): g for g in unit_groups(layout_of(model), units, block_edge=8)}
    groups = [known[c.kind, c.label] for c in selection.choices]
    found = flatness(model, groups, optimizer, by)  # type: ignore[arg-type]
    modules = sparse_modules(model)

    def dense(name: str) -> tuple[Tensor, Tensor | None]:
        """Of every entry of the weight and its bias, 0 where nothing is trained."""
        module = modules[name]

        def number(values: Tensor, base: Tensor) -> Tensor:
            if by == "movement":
                return (values.detach() - base).abs()
            state = optimizer.state[values]
            mean = state["exp_avg"] / (1 - 0.9**3)
            return mean**2 / (state["exp_avg_sq"] / (1 - 0.999**3)).sqrt().clamp(min=1e-12)

        weight = torch.zeros(module.weight.shape)
        module.sparse_plan.write(weight, number(module.sparse_values, module.sparse_base[0]))
        if module.sparse_bias is None:
            return weight, None
        bias = torch.zeros(module.weight.shape[0])
        bias[module.sparse_plan.index.long()] = number(module.sparse_bias, module.sparse_base[1])
        return weight, bias

    for choice, group, scores in zip(selection.choices, groups, found, strict=True):
        assert scores.shape == (group.count,)
        expected = np.zeros(group.count)
        for piece in group.pieces:
            weight, bias = dense(piece.module)
            rows, columns = weight.shape
            for unit in choice.units.tolist():
                own = [unit] if piece.index is None else piece.index[unit].tolist()
                for entry in own:
                    if piece.structure in ("rows", "embedding"):
                        expected[unit] += float(weight[entry].sum())
                        expected[unit] += 0.0 if bias is None else float(bias[entry])
                    elif piece.structure == "columns":
                        expected[unit] += float(weight[:, entry].sum())
                    elif piece.structure == "elements":
                        expected[unit] += float(weight.reshape(-1)[entry])
                    else:
                        r, c = divmod(entry, columns // 8)
                        expected[unit] += float(weight[8 * r : 8 * r + 8, 8 * c : 8 * c + 8].sum())
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-9)
        assert (scores[choice.units] > 0).any()
        assert rows > 0


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_a_refresh_keeps_the_shape_and_stays_exact(
    family: str, vectors: bool, tmp_path: Path
) -> None:
    model, selection = _analysed(family)
    if vectors:
        selection = with_vectors(selection, model, biases=True, norms=True)
    sparseft.sparsify(model, selection)
    optimizer = sparseft.optim.SparseAdamW(sparseft.trainable(model), lr=1e-2)
    parameters = list(model.parameters())
    total = 0
    for count in range(1, 4):
        _steps(model, optimizer, 2)
        before = selection_of(model)
        flags = [(p.requires_grad, p.grad) for p in model.parameters()]
        done = refresh(model, optimizer, _batches(model), RefreshOptions(share=0.3))
        assert flags == [(p.requires_grad, p.grad) for p in model.parameters()] and model.training
        assert selection_of(model) is done.selection
        assert _shape(done.selection) == _shape(selection)
        came = [
            np.setdiff1d(new.units, old.units).size
            for new, old in zip(done.selection.choices, before.choices, strict=True)
        ]
        assert sum(came) == done.exchanged
        assert all(n <= 0.3 * c.units.size for n, c in zip(came, before.choices, strict=True))
        total += done.exchanged
        assert done.selection.info["refresh"] == {"times": count, "exchanged_units": total}
    assert total > 0
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert FrozenPrefix(model).layers == selection.lowest_layer
    # No weight outside the present selection differs from the base.
    base = bits(tiny(family), ("head.",))
    for module in selection_of(model).modules:
        outside = torch.ones(module.shape)
        sparse_modules(model)[module.module].sparse_plan.write(
            outside, torch.zeros_like(sparse_modules(model)[module.module].sparse_values)
        )
        weight = model.get_submodule(module.module).weight
        was = base[f"{module.module}.weight"]
        assert torch.equal(weight[outside.bool()], was[outside.bool()])
    _steps(model, optimizer, 2)

    sparseft.save_delta(model.eval(), tmp_path / "delta")
    trained = bits(model)
    loaded = sparseft.load_delta(tiny(family), tmp_path / "delta")
    assert same_bits(bits(loaded), trained)
    with sparseft.disabled(model):
        assert same_bits(bits(model, ("head.",)), base)
    assert same_bits(bits(model), trained)
    sparseft.merge(model)
    assert same_bits(bits(model), trained)
    train(loaded)
    assert same_bits(bits(sparseft.unload(loaded), ("head.",)), base)


def test_the_delta_is_as_large_as_without() -> None:
    model, optimizer = _trained()
    size = sum(p.numel() for p in sparseft.trainable(model))
    refresh(model, optimizer, _batches(model), RefreshOptions(share=0.5))
    assert sum(p.numel() for p in sparseft.trainable(model)) == size


def test_units_without_use_leave_and_sensitive_ones_come() -> None:
    model, optimizer = _trained(units=("neuron",), score="fisher", saliency="uniform")
    choice = selection_of(model).choices[0]
    # One unit that no gradient has reached.
    dead = int(choice.units[1])
    for module in sparse_modules(model).values():
        plan = module.sparse_plan
        for parameter in (module.sparse_values, module.sparse_bias):
            if parameter is None or choice.label.split(".ffn")[0] not in _name_of(model, module):
                continue
            place = int((plan.index == dead).nonzero())
            state = optimizer.state[parameter]["exp_avg"]
            state.select(
                1 if plan.structure == "columns" and state.dim() == 2 else 0, place
            ).zero_()
    measured = sparseft.saliency.unit_sensitivities(
        model,
        layout_of(model),
        [g for g in unit_groups(layout_of(model), ("neuron",)) if g.label == choice.label],
        _batches(model),
        saliencies=("uniform",),
        lowest_layer=selection_of(model).lowest_layer,
    ).by_saliency["uniform"][0]
    rest = np.setdiff1d(np.arange(measured.size), choice.units)
    best = int(rest[np.argmax(measured[rest])])
    share = 1.01 / choice.units.size
    # The guard compares with what leaves; a dead unit may still be asked for by the loss.
    assert measured[best] > measured[dead]
    refresh(model, optimizer, _batches(model), RefreshOptions(share=share))
    after = selection_of(model).choices[0].units.tolist()
    assert dead not in after and best in after


def _name_of(model: nn.Module, module: nn.Module) -> str:
    return next(name for name, other in model.named_modules() if other is module)


def test_the_random_control_draws_and_the_unweighted_one_scores_by_fisher() -> None:
    def units(control: str, seed: int) -> list[NDArray[np.int64]]:
        model, optimizer = _trained(control=control)
        done = refresh(model, optimizer, _batches(model), RefreshOptions(share=0.5), seed=seed)
        assert done.exchanged > 0
        return [choice.units for choice in done.selection.choices]

    def same(a: list[NDArray[np.int64]], b: list[NDArray[np.int64]]) -> bool:
        return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))

    assert same(units("random", 1), units("random", 1))
    assert not same(units("random", 1), units("random", 2))
    assert same(units("unweighted", 1), units("unweighted", 2))


class TestRefusals:
    """Each says what to do."""

    def test_magnitude(self) -> None:
        model, optimizer = _trained(control="magnitude")
        with pytest.raises(SelectionError, match="by magnitude"):
            refresh(model, optimizer, _batches(model), RefreshOptions())

    def test_an_optimizer_without_moments(self) -> None:
        model, selection = _analysed()
        sparseft.sparsify(model, selection)
        optimizer = sparseft.optim.SparseSGD(sparseft.trainable(model), lr=0.1, momentum=0.9)
        _steps(model, optimizer, 1)
        before = bits(model)
        with pytest.raises(SelectionError, match="refresh by movement"):
            refresh(model, optimizer, _batches(model), RefreshOptions())
        assert same_bits(bits(model), before)
        done = refresh(
            model, optimizer, _batches(model), RefreshOptions(share=0.5, flat_by="movement")
        )
        assert done.exchanged > 0

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"every": 0}, r"refresh\.every"),
            ({"every": 1.5}, r"refresh\.every"),
            ({"share": 0}, r"refresh\.share"),
            ({"until": 1.5}, r"refresh\.until"),
            ({"counted_in": "days"}, r"refresh\.counted_in to be one of epochs, steps"),
            ({"flat_by": "looks"}, r"refresh\.flat_by"),
            ({"second_moment": 1}, r"refresh\.second_moment"),
            ({"often": 1}, r"refresh\.often; choose from: batches, counted_in"),
        ],
    )
    def test_options(self, options: dict[str, Any], match: str) -> None:
        with pytest.raises(ConfigError, match=match):
            RefreshOptions.from_mapping(options)


def test_when_it_is_due() -> None:
    steps = RefreshOptions(every=3, counted_in="steps", until=0.7)
    assert [s for s in range(1, 21) if steps.due(s, 20, 0, False)] == [3, 6, 9, 12]
    # Five epochs of four steps.
    epochs = RefreshOptions(every=2, until=1.0)
    ends = [s for s in range(1, 21) if epochs.due(s, 20, s // 4, s % 4 == 0)]
    assert ends == [8, 16]
    assert not RefreshOptions(every=5, until=1.0).due(20, 20, 5, True)
