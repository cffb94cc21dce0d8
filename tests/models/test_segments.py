"""Readers of segments: the losses against enumeration, and windows read in parts."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from sparseft.errors import ModelError
from sparseft.models.segments import (
    Places,
    SegmentLabels,
    SegmentLayout,
    SegmentModel,
    SegmentScores,
    Tagged,
    Targets,
    pool,
    segment_loss,
    with_neighbours,
)
from tests.tiny import tiny

_LAYOUT = SegmentLayout({"steps": 3}, {"also": 2}, {"flow": 4}, ("amount",))


def _places(owner: list[int], candidates: list[int] | None = None) -> Places:
    """Segments of two tokens each in one window per text, the first of each text its summary."""
    spans, seen = [], dict.fromkeys(owner, 0)
    for text in owner:
        spans.append((text, 2 * seen[text], 2 * seen[text] + 2))
        seen[text] += 1
    shows = [k > 0 and owner[k - 1] == owner[k] for k in range(len(owner))]
    own = candidates or []
    return Places(
        max(owner) + 1,
        torch.tensor(spans),
        torch.tensor(owner),
        torch.tensor(shows),
        {"amount": torch.tensor([(text, 1, 3) for text in own]).reshape(-1, 3)},
        {"amount": torch.tensor(own, dtype=torch.long)},
    )


def _scores(tags: Tensor, places: Places) -> SegmentScores:
    also = torch.randn(len(tags), 2)
    return SegmentScores(
        {"steps": tags.log_softmax(dim=1)},
        {"also": also},
        {"also": pool(also, places.owner, places.texts)},
        {},
        {"amount": torch.randn(len(places.owners["amount"]))},
        {"amount": torch.tensor(0.3)},
    )


def _targets(places: Places, **parts: object) -> Targets:
    empty: dict[str, object] = {
        "tags": {}, "labels": {}, "shown": {}, "known": {}, "choices": {}, "right": {},
        "absent": {},
    }  # fmt: skip
    return Targets(**{**empty, **parts})  # type: ignore[arg-type]


def test_the_pool_is_a_log_sum_exp_of_each_text() -> None:
    torch.manual_seed(0)
    scores, owner = torch.randn(5, 3) * 30, torch.tensor([0, 0, 1, 1, 1])
    found = pool(scores, owner, 2)
    torch.testing.assert_close(found[0], scores[:2].logsumexp(dim=0))
    torch.testing.assert_close(found[1], scores[2:].logsumexp(dim=0))


def test_a_list_with_known_places_is_shown_once_by_each_and_by_nothing_else() -> None:
    torch.manual_seed(1)
    places = _places([0, 0, 0, 0, 0])
    scores = _scores(torch.randn(5, 4), places)
    tagged = Tagged((2, 1), ((1, 2), (4,)))
    loss = segment_loss(scores, places, _targets(places, tags={"steps": (tagged,)}))
    p = scores.tags["steps"].exp()
    either = p[1, 2] * p[2, 0] + p[1, 0] * p[2, 2]
    torch.testing.assert_close(loss, -0.5 * (either * p[3, 0] * p[4, 1]).log())


def test_a_list_without_places_sums_over_all_ways_to_say_it() -> None:
    torch.manual_seed(2)
    places = _places([0, 0, 0, 0])
    scores = _scores(torch.randn(4, 4), places)
    targets = _targets(places, tags={"steps": (Tagged((3, 1)),)})
    p = scores.tags["steps"].exp()[1:]
    total = torch.zeros(())
    for path in itertools.product(range(4), repeat=3):
        said = [tag for k, tag in enumerate(path) if tag and (k == 0 or path[k - 1] != tag)]
        if said == [3, 1]:
            total = total + torch.stack([p[k, tag] for k, tag in enumerate(path)]).prod()
    torch.testing.assert_close(segment_loss(scores, places, targets), -0.5 * total.log())


def test_pointers_learn_nothing_of_a_text_whose_truth_stands_nowhere() -> None:
    torch.manual_seed(3)
    places = _places([0, 0, 1, 1], candidates=[0, 0, 1])
    scores = _scores(torch.randn(4, 4), places)
    right = torch.tensor([False, True, False])
    absent = torch.tensor([False, False])
    found = segment_loss(
        scores, places, _targets(places, right={"amount": right}, absent={"amount": absent})
    )
    own = torch.cat([scores.pointers["amount"][:2], scores.nothing["amount"][None]])
    torch.testing.assert_close(found, -own.log_softmax(dim=0)[1] / 2)


def test_known_segments_of_a_label_are_raised_and_the_others_lowered() -> None:
    places = _places([0, 0, 0])
    also = torch.zeros(3, 2, requires_grad=True)
    scores = SegmentScores({}, {"also": also}, {"also": pool(also, places.owner, 1)}, {}, {}, {})
    shown = torch.tensor([[False, False], [True, False], [False, False]])
    targets = _targets(
        places,
        labels={"also": torch.tensor([[1.0, 0.0]])},
        shown={"also": shown},
        known={"also": torch.tensor([[True, True]])},
    )
    segment_loss(scores, places, targets).backward()
    assert also.grad is not None
    assert also.grad[1, 0] < 0 and (also.grad[[0, 2], 0] > 0).all() and (also.grad[:, 1] > 0).all()


def _model() -> SegmentModel:
    return SegmentModel(tiny("bert").backbone, _LAYOUT, seed=1).eval()


def test_a_segment_sees_the_two_beside_it_in_its_own_text() -> None:
    vectors = torch.arange(1.0, 6.0)[:, None]
    found = with_neighbours(vectors, torch.tensor([0, 0, 0, 1, 1]))
    assert found.tolist() == [[1, 0, 2], [2, 1, 3], [3, 2, 0], [4, 0, 5], [5, 4, 0]]


def test_windows_in_parts_give_the_same_vectors() -> None:
    torch.manual_seed(4)
    model, ids = _model(), torch.randint(5, 50, (3, 8))
    places = _places([0, 0, 0, 1, 1, 2], candidates=[0, 2])
    mask = torch.ones_like(ids)
    whole, more = model.vectors(ids, mask, places)
    parts, others = model.vectors(ids, mask, places, most_tokens=8)
    torch.testing.assert_close(whole, parts)
    torch.testing.assert_close(more["amount"], others["amount"])


def test_a_segment_is_the_mean_of_its_tokens() -> None:
    model, ids = _model(), torch.arange(5, 13)[None]
    mask = torch.ones_like(ids)
    hidden = model.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    found, _ = model.vectors(ids, mask, _places([0, 0, 0], candidates=[0]))
    torch.testing.assert_close(found[1], hidden[0, 2:4].mean(dim=0), atol=1e-5, rtol=1e-5)


def test_the_loss_reaches_the_backbone_and_every_part_of_the_head() -> None:
    torch.manual_seed(5)
    model, ids = _model(), torch.randint(5, 50, (2, 8))
    places = _places([0, 0, 0, 1, 1], candidates=[0, 1])
    targets = Targets(
        {"steps": (Tagged((1,), ((1,),)), Tagged((2,)))},
        {"also": torch.tensor([[1.0, 0.0], [0.0, 1.0]])},
        {"also": torch.zeros(5, 2, dtype=torch.bool)},
        {"also": torch.zeros(2, 2, dtype=torch.bool)},
        {"flow": torch.tensor([3, 0])},
        {"amount": torch.tensor([True, False])},
        {"amount": torch.tensor([False, True])},
    )
    labels = SegmentLabels(places, targets)
    output = model(ids, torch.ones_like(ids), labels)
    assert output.loss is not None
    output.loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.head.parameters())
    assert any(p.grad is not None for p in model.backbone.parameters())
    assert len(labels) == 2


def test_a_backbone_without_a_hidden_size_is_refused() -> None:
    with pytest.raises(ModelError, match="hidden_size"):
        SegmentModel(torch.nn.Linear(2, 2), _LAYOUT)
