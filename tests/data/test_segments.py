"""Windows: nothing is left out, nothing is longer than it may be, places are where they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparseft.data.segments import RowTargets, SegmentBatches, SegmentEncoder, SegmentRow
from sparseft.errors import ConfigError
from sparseft.models.segments import SegmentLayout
from tests.tiny import tiny_byte_tokenizer

_LAYOUT = SegmentLayout({"steps": 2}, {"also": 2}, {"flow": 3}, ("amount",))
_TOKENIZER = tiny_byte_tokenizer()
_CPU = torch.device("cpu")


def _row(*segments: str, **targets: object) -> SegmentRow:
    found = RowTargets(
        **{
            "tags": {"steps": ()}, "labels": {"also": ()}, "choices": {"flow": 0},
            "right": {"amount": ()}, **targets,
        }  # type: ignore[arg-type]
    )  # fmt: skip
    return SegmentRow(segments, {"amount": ()}, found)


@given(st.lists(st.text(st.characters(codec="ascii"), min_size=1, max_size=30), max_size=12))
def test_every_segment_is_read_wholly_in_some_window(texts: list[str]) -> None:
    encoder = SegmentEncoder(_TOKENIZER, _LAYOUT, 48)
    row = encoder.encode(SegmentRow(tuple(texts), {}))
    assert all(len(window) <= 48 for window in row.windows)
    assert len(row.segments) == len(texts) + 1
    for text, (window, start, end) in zip(texts, row.segments[1:], strict=True):
        assert _TOKENIZER.decode(row.windows[window][start:end]) == text


def test_a_later_window_repeats_what_stands_before_it() -> None:
    encoder = SegmentEncoder(_TOKENIZER, _LAYOUT, 42)
    row = encoder.encode(SegmentRow(("a" * 30, "b" * 30), {}))
    first, second = row.windows
    assert "b" not in _TOKENIZER.decode(first)
    assert _TOKENIZER.decode(second[row.segments[0][2] :]) == "a" * 10 + "b" * 30


def test_segments_apart_have_a_window_each() -> None:
    encoder = SegmentEncoder(_TOKENIZER, _LAYOUT, 42, apart=True)
    row = encoder.encode(SegmentRow(("ab", "c", "ab"), {}))
    assert len(row.windows) == 4
    assert row.windows[1] == row.windows[3] != row.windows[2]
    assert row.segments[:, 0].tolist() == [0, 1, 2, 3]


def test_candidates_keep_their_characters() -> None:
    encoder = SegmentEncoder(_TOKENIZER, _LAYOUT, 64)
    row = encoder.encode(SegmentRow(("pay $5 now", "or $17"), {"amount": ((0, 4, 6), (1, 3, 6))}))
    texts = [_TOKENIZER.decode(row.windows[w][a:b]) for w, a, b in row.candidates["amount"]]
    assert texts == ["$5", "$17"]


def test_numbers_of_segments_are_those_of_the_batch() -> None:
    encoder = SegmentEncoder(_TOKENIZER, _LAYOUT, 64)
    one = _row("x", "y", tags={"steps": (2,)}, where={"steps": ((1,),)})
    two = _row("z", tags={"steps": (1,)}, labels={"also": (1,)}, shown={"also": ((0,),)})
    batch = encoder.collate([encoder.encode(one), encoder.encode(two)], _CPU)
    places, targets = batch["labels"].places, batch["labels"].targets
    assert places.owner.tolist() == [0, 0, 0, 1, 1]
    assert places.shows.tolist() == [False, True, True, False, True]
    assert [each.where for each in targets.tags["steps"]] == [((2,),), None]
    assert targets.shown["also"].nonzero().tolist() == [[4, 1]]
    assert targets.known["also"].tolist() == [[False, False], [True, True]]


def test_a_truth_that_is_no_candidate_is_neither_right_nor_absent() -> None:
    encoder = SegmentEncoder(_TOKENIZER, _LAYOUT, 64)
    rows = [_row("x", right={"amount": truth}) for truth in ((), None)]
    targets = encoder.collate([encoder.encode(row) for row in rows], _CPU)["labels"].targets
    assert targets.absent["amount"].tolist() == [True, False]


def test_an_empty_text_has_its_summary_only() -> None:
    encoder = SegmentEncoder(_TOKENIZER, _LAYOUT, 64)
    batch = encoder.collate([encoder.encode(_row())], _CPU)
    assert len(batch["labels"].places.segments) == 1 and batch["input_ids"].shape[1] >= 1


def test_an_epoch_has_every_row_once_in_an_order_of_seed_and_epoch() -> None:
    encoder = SegmentEncoder(_TOKENIZER, _LAYOUT, 64)
    rows = [_row("x" * k) for k in range(1, 8)]
    one, two = (SegmentBatches(rows, encoder, 3, seed=5) for _ in range(2))
    orders = []
    for epoch in (0, 1):
        one.set_epoch(epoch)
        two.set_epoch(epoch)
        own = [batch["indices"].tolist() for batch in one]
        assert own == [batch["indices"].tolist() for batch in two]
        assert (
            sorted(row for rows_of in own for row in rows_of) == list(range(7))
            and len(own) == len(one) == 3
        )
        orders.append(own)
    assert orders[0] != orders[1]
    assert (np.diff([batch["input_ids"].shape[1] for batch in SegmentBatches(rows, encoder, 3)])
            <= 0).all()  # fmt: skip


def test_windows_without_room_and_empty_batches_are_refused() -> None:
    with pytest.raises(ConfigError, match="larger"):
        SegmentEncoder(_TOKENIZER, _LAYOUT, 12)
    with pytest.raises(ConfigError, match="batch_size"):
        SegmentBatches([], SegmentEncoder(_TOKENIZER, _LAYOUT, 64), 0)
