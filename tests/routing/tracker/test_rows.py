"""Turns as batches: what is right, what is kept, where candidates stand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparseft.errors import ConfigError
from sparseft.routing.tracker import Vocabulary
from sparseft.routing.tracker.rows import TurnBatches, TurnEncoder
from sparseft.routing.turns import Context
from tests.tiny import tiny_byte_tokenizer

VOCABULARY = Vocabulary(
    {"hotel-area": ("dontcare", "north"), "hotel-name": ("dontcare",)},
    {"": {"north": "north"}, "hotel-area": {"north": "north"}},
)


def context(user: str, system: str = "", previous: dict[str, str] | None = None) -> Context:
    return Context("d", 0, system, user, previous or {})


def encoder(length: int = 400) -> TurnEncoder:
    return TurnEncoder(tiny_byte_tokenizer(), VOCABULARY, length, "|")


def test_a_candidates_tokens_say_what_it_says() -> None:
    tokenizer = tiny_byte_tokenizer()
    row = encoder().encode(
        context("in the north, Ashley Hotel", "Cheap?", {"hotel-name": "acorn house"})
    )
    texts = [tokenizer.decode(row.ids[a:b]).strip() for a, b in row.spans.tolist()]
    assert texts == [value.strip() for value in row.values]
    assert {"acorn house", "Cheap", "north", "Ashley Hotel"} <= set(texts)


def test_every_way_to_say_a_value_is_right() -> None:
    row = encoder().encode(
        context("the North or acorn house"), {"hotel-area": "north|east", "hotel-name": "oak"}
    )
    assert row.choices == (1,)  # north, of dontcare, north, dontcare
    assert [(row.values[k], slot) for k, slot in row.right] == [("North", 0)]
    assert row.changed == (0, 1)


def test_of_a_long_turn_the_user_and_the_state_are_kept() -> None:
    tokenizer = tiny_byte_tokenizer()
    long = context("the north", "system " * 100, {"hotel-name": "acorn"})
    row = encoder(60).encode(long)
    text = tokenizer.decode(row.ids)
    assert len(row.ids) <= 60 and row.cut > 0
    assert "the north" in text and "hotel name acorn" in text and "system" in text
    assert all(b <= len(row.ids) for _, b in row.spans.tolist())


def test_batches_carry_flags_of_their_own_turns() -> None:
    contexts = [context("north"), context("nothing at all, thank you very much"), context("acorn")]
    deltas: list[dict[str, str]] = [{"hotel-area": "north"}, {}, {"hotel-name": "acorn"}]
    rows = TurnBatches(contexts, deltas, encoder(), 2, seed=0)
    batch = rows.collate(np.array([2, 0]))
    labels = batch["labels"]
    assert len(labels) == 2 and batch["indices"].tolist() == [2, 0]
    assert labels.spans[:, 0].tolist() == [0, 1]
    assert labels.candidates.tolist() == [[False, True], [True, False]]
    assert labels.choices.tolist() == [[False, False, False], [False, True, False]]
    assert labels.unchanged.tolist() == [[True, False], [False, True]]
    lengths = torch.tensor([len(rows.encoded[k].ids) for k in (2, 0)])
    assert torch.equal(batch["attention_mask"].sum(1), lengths)


def test_too_short_turns_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.max_length=12"):
        encoder(12)
    with pytest.raises(ConfigError, match="batch_size"):
        TurnBatches([], [], encoder(), 0)
