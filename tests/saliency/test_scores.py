"""Every score equals its definition, computed from whole gradients of single examples."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparseft.errors import SelectionError
from sparseft.saliency import unit_sensitivities
from sparseft.saliency.scores import make_score
from sparseft.selection import layout_of, unit_groups
from sparseft.selection.units import Piece, UnitGroup
from tests.tiny import tiny, tiny_batch

Batch = dict[str, Tensor]


def _example_gradients(model: nn.Module, batch: Batch) -> list[dict[str, Tensor]]:
    """The whole gradient of each example's own loss, by parameter name."""
    model.eval()
    found = []
    for row in range(len(batch["labels"])):
        model.zero_grad()
        model(**{name: tensor[row : row + 1] for name, tensor in batch.items()}).loss.backward()
        found.append(
            {n: p.grad.double().clone() for n, p in model.named_parameters() if p.grad is not None}
        )
    model.zero_grad()
    return found


def _of_unit(group: UnitGroup, unit: int, gradient: dict[str, Tensor]) -> Tensor:
    """The entries of a unit's weights (no biases) in a dense tensor by parameter, flat."""
    parts = []
    for piece in group.pieces:
        entries = piece.of(torch.tensor([unit]))
        dense = gradient[f"{piece.module}.weight"]
        parts.append(dense[entries] if piece.structure == "rows" else dense[:, entries])
    return torch.cat([part.reshape(-1) for part in parts])


def _measured(
    model: nn.Module, batches: list[Batch], score: str, units: tuple[str, ...]
) -> tuple[tuple[UnitGroup, ...], tuple[np.ndarray, ...]]:
    layout = layout_of(model)
    groups = unit_groups(layout, units)
    found = unit_sensitivities(model, layout, groups, batches, saliencies=("uniform",), score=score)
    return groups, found.by_saliency["uniform"]


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("units", [("neuron", "head"), ("row",), ("column",)])
@pytest.mark.parametrize("score", ["agreement", "class_agreement"])
def test_agreement_is_the_mean_inner_product_of_different_examples(
    family: str, units: tuple[str, ...], score: str
) -> None:
    model = tiny(family)
    batch = tiny_batch(model, 6, 5, seed=3)
    batch["labels"] = torch.tensor([0, 1, 0, 1, 1, 0])
    gradients = _example_gradients(model, batch)
    # Two batches of unequal sizes: the answer is one of examples, not of batches.
    batches = [{k: v[:4] for k, v in batch.items()}, {k: v[4:] for k, v in batch.items()}]
    groups, scores = _measured(model, batches, score, units)
    for group, measured in zip(groups, scores, strict=True):
        for unit in (0, group.count - 1):
            each = [_of_unit(group, unit, gradient) for gradient in gradients]
            products = [
                float(each[i] @ each[j])
                for i in range(6)
                for j in range(6)
                if i != j and (score == "agreement" or batch["labels"][i] == batch["labels"][j])
            ]
            expected = float(np.mean(products))
            scale = float(np.mean([float(g @ g) for g in each]))
            assert measured[unit] == pytest.approx(expected, rel=1e-3, abs=1e-5 * scale)


def test_first_order_is_the_change_of_the_loss_by_each_example() -> None:
    model = tiny("bert")
    batch = tiny_batch(model, 4, 5, seed=3)
    gradients = _example_gradients(model, batch)
    weights = {n: p.detach().double() for n, p in model.named_parameters()}
    groups, scores = _measured(model, [batch], "first_order", ("row",))
    for group, measured in zip(groups, scores, strict=True):
        expected = np.mean(
            [
                abs(float((_of_unit(group, 1, weights) * _of_unit(group, 1, gradient)).sum()))
                for gradient in gradients
            ]
        )
        assert measured[1] == pytest.approx(expected, rel=1e-3, abs=1e-9)


@dataclass
class _Linear:
    x: Tensor
    dY: Tensor
    weight: Tensor
    labels: Tensor | None = None


def _sample(examples: int, tokens: int, n: int, k: int, seed: int = 0) -> _Linear:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(examples * tokens, k, generator=generator)
    dY = torch.randn(examples * tokens, n, generator=generator)
    return _Linear(x, dY, torch.randn(n, k, generator=generator))


def test_scaled_fisher_weighs_each_entry_by_its_square() -> None:
    sample = _sample(3, 4, 5, 6)
    tokens = torch.rand(3, 4)
    energy = (
        torch.einsum("t,tn,tk->nk", tokens.reshape(-1), sample.dY.square(), sample.x.square())
        * sample.weight.square()
    )
    for structure, entries, dim in (("rows", 5, 1), ("columns", 6, 0)):
        score = make_score("scaled_fisher", edge=32, seed=0)
        piece = Piece("m", structure, entries)  # type: ignore[arg-type]
        score.add(piece, sample, tokens)
        expected = (energy.sum(dim) / 3).double()
        torch.testing.assert_close(score.entries(piece), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("structure", ["rows", "columns"])
def test_sketches_of_wide_matrices_are_right_on_average(structure: str) -> None:
    # A common part, so that the agreement is far from zero, and 200 entries on the sketched side.
    sample = _sample(8, 3, 200, 200)
    sample.x += 0.5
    sample.dY += 0.3
    entries = 200
    tokens = torch.ones(8, 3)
    each = torch.einsum("btn,btk->bnk", sample.dY.view(8, 3, -1), sample.x.view(8, 3, -1))
    dim = 1 if structure == "rows" else 0
    pairs = each.sum(0).square().sum(dim) - each.square().sum((0, dim + 1))
    expected = (pairs / 56).double()
    piece = Piece("m", structure, entries)  # type: ignore[arg-type]
    answers = []
    for seed in range(40):
        score = make_score("agreement", edge=32, seed=seed)
        score.add(piece, sample, tokens)
        answers.append(score.entries(piece))
    error = torch.stack(answers).mean(0) - expected
    single = (torch.stack(answers) - expected).std()
    assert error.abs().mean() < 0.25 * single  # 1 / sqrt(40) is 0.16
    assert torch.corrcoef(torch.stack([answers[0], expected]))[0, 1] > 0.75


def test_agreement_of_noise_is_nothing_where_fisher_sees_a_lot() -> None:
    sample = _sample(400, 1, 3, 8)
    tokens = torch.ones(400, 1)
    piece = Piece("m", "rows", 3)
    scores = {name: make_score(name, edge=32, seed=0) for name in ("agreement", "fisher")}
    for score in scores.values():
        score.add(piece, sample, tokens)
    fisher = scores["fisher"].entries(piece)
    assert (scores["agreement"].entries(piece).abs() < 0.05 * fisher).all()


def test_token_weights_remove_tokens() -> None:
    sample = _sample(4, 3, 5, 6)
    tokens = torch.ones(4, 3)
    tokens[:, 1:] = 0.0
    first = _Linear(sample.x.view(4, 3, -1)[:, 0], sample.dY.view(4, 3, -1)[:, 0], sample.weight)
    for name in ("agreement", "first_order", "scaled_fisher", "fisher"):
        piece = Piece("m", "rows", 5)
        weighted, alone = (make_score(name, edge=32, seed=0) for _ in range(2))
        weighted.add(piece, sample, tokens)
        alone.add(piece, first, torch.ones(4, 1))
        torch.testing.assert_close(
            weighted.entries(piece), alone.entries(piece), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("score", ["agreement", "class_agreement", "first_order", "scaled_fisher"])
def test_scores_that_do_not_fit_a_structure_say_so(score: str) -> None:
    model = tiny("bert")
    with pytest.raises(SelectionError, match=rf"score='{score}', got elements.*use score='fisher'"):
        _measured(model, [tiny_batch(model, 3, 4, seed=0)], score, ("element",))


def test_agreement_needs_a_pair() -> None:
    model = tiny("bert")
    batch = tiny_batch(model, 1, 4, seed=0)
    with pytest.raises(SelectionError, match="at least two examples to compare, got 1"):
        _measured(model, [batch], "agreement", ("neuron",))
    batch = tiny_batch(model, 2, 4, seed=0)
    batch["labels"] = torch.tensor([0, 1])
    with pytest.raises(SelectionError, match="at least two examples of one class"):
        _measured(model, [batch], "class_agreement", ("neuron",))


def test_an_unknown_score_is_named() -> None:
    with pytest.raises(SelectionError, match=r"a score of fisher, .*got 'guess'"):
        make_score("guess", edge=32, seed=0)
