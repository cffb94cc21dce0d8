"""The tracker's loss against probabilities that are added up by hand."""

from __future__ import annotations

import math

import pytest
import torch

from sparseft.models.tracker import (
    TrackerLabels,
    TrackerLayout,
    TrackerModel,
    TrackerScores,
    tracker_loss,
)
from tests.tiny import tiny

LAYOUT = TrackerLayout({"a": ("x", "y"), "b": (), "c": ("x",)})


def labels(spans: torch.Tensor, **right: torch.Tensor) -> TrackerLabels:
    choices = right.get("choices", torch.zeros(2, 3, dtype=torch.bool))
    candidates = right.get("candidates", torch.zeros(len(spans), 3, dtype=torch.bool))
    unchanged = right.get("unchanged", torch.ones(2, 3, dtype=torch.bool))
    return TrackerLabels(2, spans, choices, candidates, unchanged)


def test_the_loss_is_that_of_all_ways_to_say_the_value() -> None:
    torch.manual_seed(0)
    spans = torch.tensor([[0, 0, 1], [0, 1, 2], [1, 0, 2]])
    scores = TrackerScores(torch.randn(2, 3), torch.randn(3, 3))
    choices = torch.tensor([[0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    candidates = torch.tensor([[1, 0, 0], [0, 0, 0], [0, 1, 0]], dtype=torch.bool)
    # Turn 0 changes a (a choice and a candidate); turn 1 changes b (a candidate) and c (neither).
    unchanged = torch.tensor([[0, 1, 1], [1, 0, 0]], dtype=torch.bool)
    truth = labels(spans, choices=choices, candidates=candidates, unchanged=unchanged)
    c, m = scores.choices.exp().tolist(), scores.candidates.exp().tolist()
    whole = [
        [1 + c[0][0] + c[0][1] + m[0][0] + m[1][0], 1 + m[0][1] + m[1][1],
         1 + c[0][2] + m[0][2] + m[1][2]],
        [1 + c[1][0] + c[1][1] + m[2][0], 1 + m[2][1], 1 + c[1][2] + m[2][2]],
    ]  # fmt: skip
    right = [
        [c[0][1] + m[0][0], 1.0, 1.0],
        [1.0, m[2][1], whole[1][2] - 1],  # any change is as good as another there
    ]
    wanted = -sum(math.log(right[t][s] / whole[t][s]) for t in (0, 1) for s in (0, 1, 2)) / 2
    assert float(tracker_loss(scores, truth, LAYOUT)) == pytest.approx(wanted, rel=1e-5)


def test_turns_without_candidates_have_finite_gradients() -> None:
    model = TrackerModel(tiny("bert").backbone, LAYOUT)
    ids = torch.randint(5, 60, (2, 7))
    choices = torch.tensor([[1, 0, 0], [0, 0, 1]], dtype=torch.bool)
    unchanged = torch.tensor([[0, 0, 1], [1, 1, 0]], dtype=torch.bool)
    truth = labels(torch.zeros(0, 3, dtype=torch.long), choices=choices, unchanged=unchanged)
    output = model(ids, torch.ones_like(ids), truth)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads and all(torch.isfinite(grad).all() for grad in grads)


def test_padding_changes_nothing() -> None:
    model = TrackerModel(tiny("bert").backbone, LAYOUT).eval()
    ids = torch.randint(5, 60, (1, 6))
    spans = torch.tensor([[0, 1, 3], [0, 4, 5]])
    short = model.scores(ids, torch.ones_like(ids), spans)
    padded = torch.cat([ids, torch.zeros(1, 4, dtype=torch.long)], dim=1)
    mask = (torch.arange(10) < 6).long()[None]
    long = model.scores(padded, mask, spans)
    torch.testing.assert_close(short.choices, long.choices, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(short.candidates, long.candidates, atol=1e-5, rtol=1e-5)


def test_it_learns_to_point_and_to_choose() -> None:
    torch.manual_seed(0)
    model = TrackerModel(tiny("bert").backbone, LAYOUT)
    # Token 10 is a value of slot b wherever it stands; token 11 means the choice y of slot a.
    ids = torch.randint(20, 60, (2, 6))
    ids[0, 3], ids[1, 2] = 10, 11
    spans = torch.tensor([[t, k, k + 1] for t in (0, 1) for k in range(6)])
    candidates = torch.zeros(12, 3, dtype=torch.bool)
    candidates[3, 1] = True
    choices = torch.tensor([[0, 0, 0], [0, 1, 0]], dtype=torch.bool)
    unchanged = torch.tensor([[1, 0, 1], [0, 1, 1]], dtype=torch.bool)
    truth = labels(spans, choices=choices, candidates=candidates, unchanged=unchanged)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(ids, torch.ones_like(ids), truth).loss.backward()
        optimizer.step()
    scores = model.scores(ids, torch.ones_like(ids), spans)
    assert int(scores.candidates[:6, 1].argmax()) == 3
    assert float(scores.candidates[3, 1].detach()) > 2
    assert float(scores.choices[1, 1].detach()) > 2 > 0 > float(scores.choices[0].max().detach())
