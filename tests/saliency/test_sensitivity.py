"""Sensitivities equal the definition, and leave the model as it was."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sparseft
from sparseft.analysis import analyze, layer_sensitivities
from sparseft.errors import ConfigError, SelectionError
from sparseft.saliency import token_saliency, unit_sensitivities
from sparseft.saliency.capture import captured_backward, frozen
from sparseft.selection import layout_of, unit_groups
from tests.sparse.helpers import analysed
from tests.tiny import FAMILIES, tiny, tiny_batch


def _token_gradients(
    model: nn.Module, batch: dict[str, Tensor], name: str
) -> tuple[Tensor, Tensor]:
    """X and dY of a module by ordinary autograd hooks: [T, k], [T, n]."""
    kept: dict[str, Tensor] = {}
    module = model.get_submodule(name)
    handle = module.register_forward_hook(
        lambda _m, args, out: (kept.update(x=args[0].detach(), y=out), out.retain_grad())[0]
    )
    model.eval()
    model(**batch).loss.backward()
    handle.remove()
    model.zero_grad()
    x, dY = kept["x"], kept["y"].grad
    assert dY is not None
    return x.reshape(-1, x.shape[-1]), dY.reshape(-1, dY.shape[-1])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("units", [("neuron",), ("head",), ("row",), ("column",), ("element",)])
def test_unit_scores_are_the_weighted_token_fisher(family: str, units: tuple[str, ...]) -> None:
    model = tiny(family)
    batch = tiny_batch(model, 3, 6, seed=1)
    layout = layout_of(model)
    groups = unit_groups(layout, units)
    measured = unit_sensitivities(model, layout, groups, [batch])
    weights = token_saliency(model, batch).reshape(-1)
    for group, score in zip(groups, measured.by_saliency["gradient_x_input"], strict=True):
        for unit in (0, group.count - 1):
            expected = 0.0
            for piece in group.pieces:
                x, dY = _token_gradients(model, batch, piece.module)
                energy = torch.einsum("t,tn,tk->nk", weights, dY.square(), x.square())
                entries = piece.of(torch.tensor([unit]))
                picked = {
                    "rows": lambda e=energy, i=entries: e[i],
                    "columns": lambda e=energy, i=entries: e[:, i],
                    "elements": lambda e=energy, i=entries: e.reshape(-1)[i],
                }[piece.structure]()
                expected += float(picked.sum())
            # Loss is a mean over 3 examples: per-example gradients are 3 times larger.
            assert score[unit] == pytest.approx(expected * 9 / 3, rel=1e-3)


def test_embedding_scores_belong_to_the_tokens_that_occur() -> None:
    model = tiny("bert")
    batch = tiny_batch(model, 3, 6, seed=1)
    layout = layout_of(model)
    groups = unit_groups(layout, ("embedding",))
    (score,) = unit_sensitivities(model, layout, groups, [batch]).by_saliency["gradient_x_input"]
    used = set(batch["input_ids"][batch["attention_mask"].bool()].tolist())
    assert set(np.flatnonzero(score).tolist()) <= used
    assert (score > 0).sum() > len(used) // 2


@pytest.mark.parametrize("lowest", [0, 1, 2])
def test_a_cut_below_the_scored_layers_changes_no_unweighted_score(lowest: int) -> None:
    model = tiny("bert")
    batch = tiny_batch(model, 3, 6, seed=1)
    layout = layout_of(model)
    groups = [g for g in unit_groups(layout, ("neuron", "head")) if g.layer == 2]

    def scores(cut: int) -> tuple[np.ndarray, ...]:
        measured = unit_sensitivities(
            model, layout, groups, [batch], saliencies=("uniform",), lowest_layer=cut
        )
        return measured.by_saliency["uniform"]

    for first, second in zip(scores(0), scores(lowest), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_token_saliency_is_normalised_and_zero_at_padding(family: str) -> None:
    model = tiny(family)
    batch = tiny_batch(model, 4, 7, seed=2)
    batch["attention_mask"][0, 5:] = 0
    weights = token_saliency(model, batch)
    mask = batch["attention_mask"].bool()
    assert torch.all(weights[~mask] == 0) and torch.all(weights >= 0)
    torch.testing.assert_close(weights.sum(1), mask.sum(1).float())


def test_gradient_x_input_is_the_first_order_change_of_the_loss() -> None:
    model = tiny("bert").double()
    batch = tiny_batch(model, 1, 5, seed=3)
    layout = layout_of(model)

    def loss_fn(net: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        # In float64 throughout, which the classifier's own float32 head is not.
        hidden = net.backbone(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state  # type: ignore[operator]
        return hidden[..., 0].square().sum()  # type: ignore[no-any-return]

    with frozen(model):
        captured = captured_backward(model, layout, batch, lowest_layer=0, loss_fn=loss_fn)
        assert captured.entry is not None and captured.entry_gradient is not None
        raw = (captured.entry * captured.entry_gradient).sum(-1)[0]
        embedding = layout.modules[layout.embeddings]
        step = 1e-6
        for position in range(5):
            scale = torch.ones(1, 5, 1, dtype=torch.float64)
            scale[0, position] += step
            hook = embedding.register_forward_hook(lambda _m, _a, out, s=scale: out * s)
            moved = loss_fn(model, batch)
            hook.remove()
            slope = float(moved - loss_fn(model, batch)) / step
            assert slope == pytest.approx(float(raw[position]), rel=1e-3, abs=1e-7)


def test_the_model_is_left_as_it_was() -> None:
    model = tiny("bert")
    model.train()
    model.backbone.embeddings.requires_grad_(False)  # type: ignore[union-attr,operator]
    flags = [p.requires_grad for p in model.parameters()]
    before = [p.detach().clone() for p in model.parameters()]
    rng = torch.get_rng_state()
    analyze(model, [tiny_batch(model, 3, 6, seed=1)], budget=sparseft.Budget(density=0.1))
    assert model.training and all(m.training for m in model.modules())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert torch.equal(torch.get_rng_state(), rng)


def test_analysis_is_deterministic_and_controls_keep_the_structure() -> None:
    model = tiny("bert")
    batches = [tiny_batch(model, 3, 6, seed=s) for s in range(2)]
    budget = sparseft.Budget(density=0.1)

    def select(control: str, seed: int = 0) -> sparseft.Selection:
        return analyze(model, batches, budget=budget, depth=1.0, control=control, seed=seed)

    def structure(selection: sparseft.Selection) -> list[tuple[str, int, int]]:
        return [(c.kind, c.layer, c.units.size) for c in selection.choices]

    def units(selection: sparseft.Selection) -> list[list[int]]:
        return [c.units.tolist() for c in selection.choices]

    chosen = select("none")
    assert units(chosen) == units(select("none"))
    for control in ("random", "magnitude", "unweighted"):
        assert structure(select(control)) == structure(chosen)
    assert units(select("random")) != units(chosen)
    assert units(select("random", 1)) != units(select("random", 0))
    assert units(select("magnitude")) != units(chosen)


def test_layer_sensitivities_add_up_the_rows() -> None:
    model = tiny("bert")
    totals = layer_sensitivities(model, [tiny_batch(model, 3, 6, seed=1)])
    assert len(totals) == 3 and all(t > 0 for t in totals)


class TestRefusals:
    def test_no_batches(self) -> None:
        with pytest.raises(SelectionError, match="at least one labelled batch"):
            analyze(tiny("bert"), [], budget=sparseft.Budget(density=0.1))

    def test_no_labels(self) -> None:
        model = tiny("bert")
        batch = tiny_batch(model, 2, 5, seed=1)
        del batch["labels"]
        with pytest.raises(SelectionError, match="batch with labels"):
            analyze(model, [batch], budget=sparseft.Budget(density=0.1))

    def test_unknown_saliency_control_and_depth(self) -> None:
        model = tiny("bert")
        batches = [tiny_batch(model, 2, 5, seed=1)]
        budget = sparseft.Budget(density=0.1)
        with pytest.raises(ConfigError, match="got 'magic'"):
            analyze(model, batches, budget=budget, saliency="magic")
        with pytest.raises(SelectionError, match="expected a control"):
            analyze(model, batches, budget=budget, control="magic")
        with pytest.raises(SelectionError, match="depth"):
            analyze(model, batches, budget=budget, depth="half")
        with pytest.raises(SelectionError, match="trained embedding row"):
            analyze(model, batches, budget=budget, depth=0.5, units=("embedding",))

    def test_a_loss_that_is_not_finite(self) -> None:
        model = tiny("bert")
        with torch.no_grad():
            model.head.weight.fill_(float("nan"))  # type: ignore[union-attr,operator]
        with pytest.raises(SelectionError, match="finite loss"):
            analyze(model, [tiny_batch(model, 2, 5, seed=1)], budget=sparseft.Budget(density=0.1))

    def test_hooks_are_removed_after_a_failure(self) -> None:
        model, _ = analysed("bert")
        batch = tiny_batch(model, 2, 5, seed=1)
        batch["labels"] = batch["labels"] + 100
        with pytest.raises(IndexError):
            analyze(model, [batch], budget=sparseft.Budget(density=0.1))
        assert not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
