"""Batches: contents, padding, order as a function of (seed, epoch), truncation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparseft.data import BatchLoader, Split
from sparseft.errors import ConfigError, ModelError
from tests.data.helpers import word_tokenizer

WORDS = [f"w{i}" for i in range(50)]
TOKENIZER = word_tokenizer(WORDS)
LEFT = word_tokenizer(WORDS, special=False, side="left")


def split_of(lengths: list[int], labels: np.ndarray | None = None) -> Split:
    texts = tuple(
        " ".join(WORDS[(row + i) % len(WORDS)] for i in range(n)) for row, n in enumerate(lengths)
    )
    numbers = np.arange(len(lengths)) if labels is None else labels
    return Split(texts, numbers, np.arange(len(lengths)))


def loader(lengths: list[int], batch_size: int = 4, **settings: Any) -> BatchLoader:
    settings = {"max_length": 64, "seed": 0, "shuffle": True, **settings}
    tokenizer = settings.pop("tokenizer", TOKENIZER)
    return BatchLoader(split_of(lengths), tokenizer, batch_size, **settings)


def orders(batches: BatchLoader) -> list[list[int]]:
    return [batch["indices"].tolist() for batch in batches]


lengths_strategy = st.lists(st.integers(1, 20), min_size=1, max_size=40)


@given(lengths_strategy, st.integers(1, 9), st.booleans(), st.integers(1, 24), st.booleans())
def test_batches_hold_every_row_once_and_as_the_tokenizer_reads_it(
    lengths: list[int], batch_size: int, shuffle: bool, max_length: int, left: bool
) -> None:
    tokenizer = LEFT if left else TOKENIZER
    max_length = max(max_length, 3)  # room for the two special tokens
    split = split_of(lengths)
    batches = BatchLoader(split, tokenizer, batch_size, max_length, seed=1, shuffle=shuffle)
    seen = []
    for batch in batches:
        rows = batch["indices"].tolist()
        seen += rows
        expected = tokenizer(
            [split.texts[i] for i in rows],
            truncation=True,
            max_length=max_length,
            padding=True,
            return_tensors="pt",
        )
        assert torch.equal(batch["input_ids"], expected["input_ids"])
        assert torch.equal(batch["attention_mask"], expected["attention_mask"])
        assert batch["labels"].tolist() == rows
        assert {batch[key].dtype for key in batch} == {torch.int64}
    assert sorted(seen) == list(range(len(lengths)))
    assert len(batches) == len(batches.order()) == -(-len(lengths) // batch_size)
    assert batches.truncated == sum(n + (0 if left else 2) > max_length for n in lengths)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    lengths = [1 + i % 7 for i in range(40)]
    first = loader(lengths)
    epochs = []
    for epoch in range(3):
        first.set_epoch(epoch)
        epochs.append(orders(first))
    assert epochs[0] != epochs[1] != epochs[2]
    resumed = loader(lengths)
    torch.rand(3), np.random.rand(3)  # global generators are not involved
    resumed.set_epoch(2)
    assert orders(resumed) == epochs[2]
    assert orders(resumed) == epochs[2]
    assert orders(loader(lengths, seed=1)) != epochs[0]


def test_an_epoch_can_be_resumed_in_its_middle() -> None:
    batches = loader([1 + i % 5 for i in range(23)])
    batches.set_epoch(4)
    whole = list(batches)
    rest = list(batches.batches(start=3))
    assert len(rest) == len(whole) - 3
    for ours, theirs in zip(rest, whole[3:], strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_rows_of_a_batch_are_of_like_length() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 60, 400).tolist()
    padded = sum(batch["input_ids"].numel() for batch in loader(lengths, batch_size=8))
    real = sum(n + 2 for n in lengths)
    assert padded < 1.1 * real
    # ... and yet the batches come in no order of length.
    widths = [batch["input_ids"].shape[1] for batch in loader(lengths, batch_size=8)]
    assert widths != sorted(widths) and widths != sorted(widths, reverse=True)


def test_without_shuffling_the_longest_come_first_in_every_epoch() -> None:
    batches = loader([3, 9, 1, 9, 5], batch_size=2, shuffle=False, seed=None)
    assert orders(batches) == [[1, 3], [4, 0], [2]]
    batches.set_epoch(7)
    assert orders(batches) == [[1, 3], [4, 0], [2]]


def test_labels_of_several_classes_are_floats() -> None:
    hot = np.array([[1, 0, 1], [0, 0, 0]], np.uint8)
    batches = BatchLoader(split_of([2, 1], hot), TOKENIZER, 2, 8, shuffle=False)
    (batch,) = batches
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


def test_a_text_without_tokens_is_one_attended_padding_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    split = Split(("w1 w2", " "), np.array([0, 1]), np.arange(2))
    (batch,) = BatchLoader(split, LEFT, 2, 8, shuffle=False)
    assert batch["input_ids"].tolist() == [[5, 6], [0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1], [0, 1]]
    assert "1 texts have no tokens" in caplog.text


def test_an_empty_split_has_no_batches() -> None:
    batches = loader([])
    assert len(batches) == 0
    assert list(batches) == []


@pytest.mark.gpu
def test_on_cuda_the_width_is_a_multiple_of_8_within_the_limit() -> None:
    for lengths, max_length, width in (([3, 7], 64, 16), ([40], 20, 20)):
        (batch,) = loader(lengths, max_length=max_length, device="cuda")
        assert batch["input_ids"].shape[1] == width
        assert batch["input_ids"].device.type == "cuda"
        assert batch["indices"].device.type == "cpu"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size of 1 or more, got 0"),
        ({"max_length": 0}, "max_length of 1 or more, got 0"),
        ({"seed": None}, "seed of 0 or greater to shuffle by, got None"),
        ({"seed": -1}, "seed of 0 or greater to shuffle by, got -1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loader([1, 2], **settings)


def test_a_tokenizer_without_padding() -> None:
    tokenizer = word_tokenizer(WORDS)
    tokenizer.pad_token = None
    with pytest.raises(ModelError, match="pad_token_id=None; load it through"):
        loader([1, 2], tokenizer=tokenizer)


def test_a_split_of_unequal_columns() -> None:
    with pytest.raises(ValueError, match="2 texts, 1 labels and 2 ids"):
        Split(("a", "b"), np.zeros(1, np.int64), np.arange(2))
