"""A few texts with what the model says of them and which tokens it listens to, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparseft import files
from sparseft.data import Split
from sparseft.models import TextClassifier
from sparseft.reporting.predictor import Prediction, Predictor

__all__ = ["write_examples"]

_LOOKED_AT = 96  # texts that the examples are chosen from


def write_examples(
    model: TextClassifier,
    tokenizer: Any,
    split: Split,
    label_names: Sequence[str],
    path: str | Path,
    count: int = 8,
    seed: int = 0,
    max_length: int = 128,
) -> Path:
    """Write `count` texts of `split` with token saliency, as a JSON list.

    The texts are drawn by `seed`, with different labels before the same ones again; up to a
    quarter of them are mistakes, where the model makes any among the texts looked at.

    Each entry holds text, tokens (words as they stand in the text), saliency (one weight for each;
    a token's mean is 1), label, prediction, probability. Where a text may have several labels,
    label and prediction are joined by " + " ("none" for none), and probability is the least of
    those predicted.

    Raises:
        SparseftError: the file cannot be written.
    """
    order = np.random.default_rng(seed).permutation(len(split))[:_LOOKED_AT].tolist()
    predictor = Predictor(model, tokenizer, label_names, max_length)
    answers = predictor.predict([split.texts[i] for i in order])
    truths = [_truth(split.labels[i], label_names) for i in order]
    wrong = [k for k, answer in enumerate(answers) if set(answer.labels) != set(truths[k])]
    right = [k for k in range(len(order)) if k not in wrong]
    mistakes = _varied(wrong, truths, max(count // 4, count - len(right)))[:count]
    chosen = sorted(mistakes + _varied(right, truths, count - len(mistakes)))
    texts = [split.texts[order[k]] for k in chosen]
    explained = predictor.predict(texts, saliency=True)
    entries = [
        _entry(text, truths[k], answer)
        for k, text, answer in zip(chosen, texts, explained, strict=True)
    ]
    return files.write_json(path, entries)


def _truth(labels: Any, names: Sequence[str]) -> tuple[str, ...]:
    if np.ndim(labels) == 0:
        return (names[int(labels)],)
    return tuple(names[c] for c in np.flatnonzero(labels).tolist())


def _varied(places: list[int], truths: list[tuple[str, ...]], count: int) -> list[int]:
    """`count` of `places`: the first of each label, then the second of each, and so on."""
    seen: dict[tuple[str, ...], int] = {}
    ranked = []
    for k in places:
        seen[truths[k]] = seen.get(truths[k], 0) + 1
        ranked.append((seen[truths[k]], k))
    return [k for _, k in sorted(ranked)[:count]]


def _entry(text: str, truth: tuple[str, ...], answer: Prediction) -> dict[str, Any]:
    return {
        "text": text,
        "tokens": list(answer.words),
        "saliency": [round(weight, 4) for weight in answer.saliency],
        "label": " + ".join(truth) or "none",
        "prediction": " + ".join(answer.labels) or "none",
        "probability": round(min(answer.probabilities, default=0.0), 4),
    }
