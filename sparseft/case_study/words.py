"""The words of texts with the saliency of their tokens, and the most salient words of a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparseft.case_study.scoring import class_membership
from sparseft.data import BatchLoader, Split
from sparseft.reporting.predictor import Predictor
from sparseft.reporting.words import words_of
from sparseft.saliency import token_saliency

__all__ = ["SalientWord", "WeightedText", "salient_words", "weighted_texts"]


@dataclass(frozen=True)
class WeightedText:
    """A text's words as they stand in it, each with the sum of its tokens' saliency.

    A token's mean is 1; a text without tokens has no words.
    """

    text: str
    words: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class SalientWord:
    """A word of a class's texts.

    Attributes:
        word: lower-case.
        weight: its mean saliency over the class's texts that hold it, drawn towards 1 (the mean
            token) as if it had stood in a few more texts with that weight.
        texts: of the class that hold it.
        elsewhere: its plain mean over texts of other classes; None where it never occurs there.
    """

    word: str
    weight: float
    texts: int
    elsewhere: float | None


def weighted_texts(predictor: Predictor, split: Split, batch_size: int) -> list[WeightedText]:
    """The split's texts with the saliency of their words for the split's own labels.

    One forward and one backward of the activations for each batch.

    Args:
        predictor: the model and its tokenizer.
        split: texts with the labels whose loss is explained.
        batch_size: rows of a batch.
    """
    model, tokenizer = predictor.model, predictor.tokenizer
    device = next(model.parameters()).device
    encodings = tokenizer(
        list(split.texts),
        truncation=True,
        max_length=predictor.max_length,
        padding=False,
        return_token_type_ids=False,
    ).encodings
    found = [WeightedText(text) for text in split.texts]
    loader = BatchLoader(
        split, tokenizer, batch_size, predictor.max_length, shuffle=False, device=device
    )
    for batch in loader:
        weights = token_saliency(model, batch).cpu()  # [B, S]
        real = batch["attention_mask"].bool().cpu()
        for place, row, keep in zip(batch["indices"].tolist(), weights, real, strict=True):
            encoding = encodings[place]
            if not encoding.ids:  # read as one padding token
                continue
            words, sums = words_of(
                split.texts[place], encoding.offsets, encoding.word_ids, row[keep].tolist()
            )
            found[place] = WeightedText(split.texts[place], tuple(words), tuple(sums))
    return found


def salient_words(
    found: Sequence[WeightedText],
    labels: np.ndarray,
    classes: int,
    *,
    count: int,
    least_texts: int,
) -> list[tuple[SalientWord, ...]]:
    """For each class its `count` most salient words, the weightiest first.

    Words are compared in lower case and count once a text, with the mean of their places there.
    One text with a large weight does not lead: fewer than `least_texts` texts are left out, and
    each mean is drawn towards 1 by `least_texts` imagined texts.

    Args:
        found: of `weighted_texts`.
        labels: of the same texts, int [N] or 0/1 [N, C].
        classes: C.
        count: words of a class at most.
        least_texts: see above.
    """
    sums: list[dict[str, float]] = [{} for _ in range(classes)]
    texts: list[dict[str, int]] = [{} for _ in range(classes)]
    all_sums: dict[str, float] = {}
    all_texts: dict[str, int] = {}
    for entry, member in zip(found, class_membership(labels, classes), strict=True):
        for word, weight in _means(entry).items():
            all_sums[word] = all_sums.get(word, 0.0) + weight
            all_texts[word] = all_texts.get(word, 0) + 1
            for label in np.flatnonzero(member).tolist():
                sums[label][word] = sums[label].get(word, 0.0) + weight
                texts[label][word] = texts[label].get(word, 0) + 1
    listed = []
    for label in range(classes):
        words = []
        for word, held in texts[label].items():
            if held < least_texts:
                continue
            total, rest = sums[label][word], all_texts[word] - held
            elsewhere = (all_sums[word] - total) / rest if rest else None
            shrunk = (total + least_texts) / (held + least_texts)
            words.append(SalientWord(word, shrunk, held, elsewhere))
        words.sort(key=lambda entry: (-entry.weight, entry.word))
        listed.append(tuple(words[:count]))
    return listed


def _means(entry: WeightedText) -> dict[str, float]:
    places: dict[str, list[float]] = {}
    for word, weight in zip(entry.words, entry.weights, strict=True):
        places.setdefault(word.lower(), []).append(weight)
    return {word: sum(weights) / len(weights) for word, weights in places.items()}
