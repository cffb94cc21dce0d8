"""From the weights of word pieces to the words of a text."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["words_of"]


def words_of(
    text: str,
    offsets: Sequence[tuple[int, int]],
    word_ids: Sequence[int | None],
    weights: Sequence[float],
) -> tuple[list[str], list[float]]:
    """Join the pieces of each word and add up their weights.

    Pieces belong together where they touch in the text, have the same word number, and the later
    one does not begin with white space (tokenizers without a pre-tokenizer give all pieces one
    number, and some count the space before a word to its first piece).

    Args:
        text: what was tokenised.
        offsets: of each token in `text`.
        word_ids: of each token; None for special tokens and padding, which are left out.
        weights: of each token.

    Returns:
        Words as they stand in the text, in its order, and a weight for each.
    """
    spans: list[tuple[int, int]] = []
    sums: list[float] = []
    last_word: int | None = None
    for (start, end), word, weight in zip(offsets, word_ids, weights, strict=True):
        if word is None or start >= end:
            continue
        joins = bool(spans) and word == last_word and start <= spans[-1][1]
        if joins and not text[start].isspace():
            # Pieces of one character (bytes of an emoji) share their offsets.
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
            sums[-1] += weight
        else:
            spans.append((start, end))
            sums.append(weight)
        last_word = word
    kept = [
        (text[start:end].strip(), weight)
        for (start, end), weight in zip(spans, sums, strict=True)
        if text[start:end].strip()
    ]
    return [word for word, _ in kept], [weight for _, weight in kept]
