"""Words from word pieces, with tokenizers of three kinds."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from sparseft.reporting.words import words_of


def test_pieces_of_a_word_are_joined_and_special_tokens_left_out() -> None:
    text = "unhelpful reply!"
    words, weights = words_of(
        text,
        offsets=[(0, 0), (0, 2), (2, 9), (10, 15), (15, 16), (0, 0)],
        word_ids=[None, 0, 0, 1, 2, None],
        weights=[9.0, 0.5, 1.5, 0.25, 0.75, 9.0],
    )
    assert words == ["unhelpful", "reply", "!"]
    assert weights == [2.0, 0.25, 0.75]


def test_a_space_within_a_piece_begins_a_word_where_all_share_one_number() -> None:
    text = "my order"
    words, weights = words_of(text, [(0, 2), (2, 5), (5, 8)], [0, 0, 0], [1.0, 0.25, 0.5])
    assert words == ["my", "order"]
    assert weights == [1.0, 0.75]


def test_bytes_of_one_sign_are_one_word_and_bare_space_is_none() -> None:
    text = "🙂 ok"
    words, weights = words_of(
        text, [(0, 1), (0, 1), (1, 2), (2, 4)], [0, 0, 1, 2], [1.0, 2.0, 5.0, 0.5]
    )
    assert words == ["🙂", "ok"]
    assert weights == [3.0, 0.5]


def test_a_byte_level_tokenizer_gives_whole_words() -> None:
    alphabet = {sign: number for number, sign in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    text = "cancel my café order"
    encoding = tokenizer.encode(text)
    words, weights = words_of(text, encoding.offsets, encoding.word_ids, [1.0] * len(encoding.ids))
    assert words == ["cancel", "my", "café", "order"]
    assert sum(weights) == pytest.approx(len(encoding.ids))
