"""The losses of similarity: what their definitions give, pair by pair."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sparseft.errors import ConfigError
from sparseft.models.similarity import SimilarityModel, similarity_loss
from tests.tiny import tiny, tiny_batch

_NAN = float("nan")


def _drawn(seed: int = 0, texts: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(texts, 4, generator=generator), dim=1)
    wanted = torch.randint(0, 4, (texts, texts), generator=generator) / 3
    wanted = torch.triu(wanted, 1) + torch.triu(wanted, 1).T
    wanted[0, 1] = wanted[1, 0] = _NAN
    wanted.fill_diagonal_(_NAN)
    return vectors @ vectors.T, wanted


def _pairs(cosines: torch.Tensor, wanted: torch.Tensor) -> list[tuple[float, float]]:
    every = itertools.combinations(range(len(wanted)), 2)
    found = [(float(cosines[i, j]), float(wanted[i, j])) for i, j in every]
    return [(c, t) for c, t in found if not math.isnan(t)]


def test_cosent_counts_pairs_in_the_wrong_order() -> None:
    cosines, wanted = _drawn()
    pairs = _pairs(cosines, wanted)
    terms = [math.exp(20 * (c - d)) for (c, t), (d, u) in itertools.product(pairs, pairs) if t < u]
    expected = math.log(1 + sum(terms))
    assert float(similarity_loss(cosines, wanted, "cosent", 20.0)) == pytest.approx(expected, 1e-4)


def test_regression_is_the_mean_square() -> None:
    cosines, wanted = _drawn()
    pairs = _pairs(cosines, wanted)
    expected = sum((c - t) ** 2 for c, t in pairs) / len(pairs)
    found = similarity_loss(cosines, wanted, "regression", 20.0)
    assert float(found) == pytest.approx(expected, 1e-4)


def test_contrastive_is_a_cross_entropy_of_each_text() -> None:
    cosines, wanted = _drawn()
    rows = []
    for i in range(len(wanted)):
        known = [j for j in range(len(wanted)) if not math.isnan(float(wanted[i, j]))]
        total = sum(float(wanted[i, j]) for j in known)
        if total == 0:
            continue
        norm = math.log(sum(math.exp(20 * float(cosines[i, j])) for j in known))
        rows.append(
            -sum(float(wanted[i, j]) / total * (20 * float(cosines[i, j]) - norm) for j in known)
        )
    expected = sum(rows) / len(rows)
    found = similarity_loss(cosines, wanted, "contrastive", 20.0)
    assert float(found) == pytest.approx(expected, 1e-4)


@pytest.mark.parametrize("loss", ["cosent", "contrastive", "regression"])
def test_pairs_that_say_nothing_cost_nothing(loss: str) -> None:
    cosines = torch.eye(3, requires_grad=True)
    value = similarity_loss(cosines, torch.full((3, 3), _NAN), loss, 20.0)
    value.backward()
    assert float(value.detach()) == 0 and cosines.grad is not None
    assert bool((cosines.grad == 0).all())


@pytest.mark.parametrize("loss", ["cosent", "contrastive", "regression"])
def test_the_model_gives_cosines_and_finite_gradients(loss: str) -> None:
    classifier = tiny("bert")
    model = SimilarityModel(classifier.backbone, loss)
    batch = tiny_batch(classifier)
    wanted = _drawn(1, 4)[1]
    output = model(batch["input_ids"], batch["attention_mask"], wanted)
    torch.testing.assert_close(output.logits.diagonal(), torch.ones(4), atol=1e-5, rtol=0)
    output.loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(bool(g.isfinite().all()) for g in gradients)
    assert model(batch["input_ids"], batch["attention_mask"]).loss is None


def test_wrong_settings_are_refused() -> None:
    backbone = tiny("bert").backbone
    with pytest.raises(ConfigError, match="cosent, contrastive, regression"):
        SimilarityModel(backbone, "triplet")
    with pytest.raises(ConfigError, match="above 0"):
        SimilarityModel(backbone, scale=0)
