"""Three test texts: surely right, barely right, and wrong, each with its salient words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparseft.case_study.scoring import Scored
from sparseft.case_study.words import WeightedText, weighted_texts
from sparseft.data import Split
from sparseft.reporting.predictor import Predictor

__all__ = ["CaseText", "chosen_rows", "three_texts"]

_KINDS = ("right and sure", "right and unsure", "wrong")


@dataclass(frozen=True)
class CaseText:
    """A test text with what the model says of it.

    Attributes:
        kind: which of the three it is.
        gold, predicted: names of the classes; several are joined by " + ", "none" for none.
        probability: of the prediction; of several labels the least certain one's.
        gold_probability: of the gold class (of several labels the least likely one's).
        for_predicted: words with their saliency for the predicted label.
        for_gold: the same for the gold label; None where the two are equal.
    """

    kind: str
    gold: str
    predicted: str
    probability: float
    gold_probability: float
    for_predicted: WeightedText
    for_gold: WeightedText | None


def chosen_rows(scored: Scored) -> list[tuple[str, int]]:
    """The kind and the row of each text: the surest and the least sure right one, the surest wrong.

    A kind is missing where no row is of it; of equals the earliest row is taken.
    """
    right = (scored.gold == scored.predicted).all(axis=1)
    certainty = scored.certainty()
    wanted = ((right, 1.0), (right, -1.0), (~right, 1.0))
    rows: list[tuple[str, int]] = []
    for kind, (among, sign) in zip(_KINDS, wanted, strict=True):
        if not among.any():
            continue
        row = int(np.where(among, sign * certainty, -np.inf).argmax())
        if all(row != other for _, other in rows):
            rows.append((kind, row))
    return rows


def three_texts(predictor: Predictor, split: Split, scored: Scored) -> tuple[CaseText, ...]:
    """The texts of `chosen_rows` with their salient words for the predicted and the gold label."""
    chosen = chosen_rows(scored)
    rows = np.array([row for _, row in chosen], np.int64)
    if not len(rows):
        return ()
    predicted, gold = scored.predicted[rows], scored.gold[rows]
    texts = split.take(rows)
    by_prediction = _explained(predictor, texts, predicted, scored.multi_label)
    by_gold = _explained(predictor, texts, gold, scored.multi_label)
    certainty = scored.certainty()[rows]
    probability = scored.probability[rows]
    return tuple(
        CaseText(
            kind=kind,
            gold=_named(gold[place], predictor.label_names),
            predicted=_named(predicted[place], predictor.label_names),
            probability=float(certainty[place]),
            gold_probability=float(probability[place][gold[place]].min(initial=1.0)),
            for_predicted=by_prediction[place],
            for_gold=None if kind != "wrong" else by_gold[place],
        )
        for place, (kind, _) in enumerate(chosen)
    )


def _explained(
    predictor: Predictor, texts: Split, classes: np.ndarray, multi_label: bool
) -> list[WeightedText]:
    labels = classes.astype(np.uint8) if multi_label else classes.argmax(axis=1)
    return weighted_texts(predictor, Split(texts.texts, labels, texts.ids), len(texts))


def _named(member: np.ndarray, names: Sequence[str]) -> str:
    return " + ".join(names[c] for c in np.flatnonzero(member).tolist()) or "none"
