"""What a case study says in words and cells, for the page and its Markdown twin alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from sparseft.case_study.effects import ClassEffect
from sparseft.case_study.settings import CaseSettings
from sparseft.case_study.study import CaseStudy
from sparseft.reporting.formats import MISSING, count_text, join_words, percent, points, share_text
from sparseft.reporting.tables import Table

__all__ = [
    "WORDS_TEXT",
    "effects_table",
    "finding",
    "how_to_read",
    "labels_of",
    "place_of",
    "points_or_missing",
    "scope",
    "shown_text",
]

WORDS_TEXT = (
    "Mean saliency of a word for its class, in multiples of the mean token, over the training "
    "texts of the class that hold it, with their number."
)


def labels_of(studies: Sequence[CaseStudy]) -> list[str]:
    """A distinct name for each study: the data set's, with method, seed and run where needed."""
    labels = [study.name for study in studies]
    for more in (
        lambda study: f" · {study.method}, seed {study.seed}",
        lambda study: f" · {study.run}",
    ):
        counts = Counter(labels)
        labels = [
            label + (more(study) if counts[label] > 1 else "")
            for label, study in zip(labels, studies, strict=True)
        ]
    return labels


def scope(study: CaseStudy) -> str:
    """The run in one line: model, method, rows, accuracy, units."""
    kinds = [count_text(n, kind) for kind, n in study.selection["units_by_kind"].items()]
    rows = f"{len(study.scored.gold):,} of {study.test_rows:,}"
    return (
        f"{study.model} · {study.method}, seed {study.seed} · {study.train_rows:,} training rows · "
        f"{percent(study.scored.accuracy)}% right on {rows} test rows · "
        f"{share_text(study.selection['density'])} of the weights trained: {join_words(kinds)}"
    )


def shown_text(study: CaseStudy) -> str:
    """Which classes are shown, where that is not all of them; else nothing."""
    if len(study.shown) == len(study.label_names):
        return ""
    return (
        f"{len(study.shown)} of {len(study.label_names)} classes are shown, those with the most "
        "scored test rows; all of them count for the others' recall."
    )


def finding(study: CaseStudy, settings: CaseSettings) -> str:
    """What the ablations show, in numbers."""
    effects = study.effects
    if not effects:
        return "No shown class has both training rows and scored test rows, so none was ablated."
    beyond = sum(effect.beyond_chance for effect in effects)
    improbable = sum(effect.less_probable for effect in effects)
    # Were a class's units like any others, each of 1 + draws would be the lowest equally often.
    chance = len(effects) / (settings.draws + 1)
    own = points(float(np.mean([effect.own for effect in effects])))
    others = points(float(np.mean([effect.others for effect in effects])))
    random = points(float(np.mean([effect.random_own.mean() for effect in effects])))
    return (
        f"Put back to the base model's values, the {share_text(settings.share)} of the selected "
        f"units that a class is most sensitive to change its recall by {own} points on average and "
        f"that of the other classes by {others}; as many random selected units change it by "
        f"{random}. In {beyond} of {count_text(len(effects), 'class', 'classes')} the loss of "
        f"recall, and in {improbable} that of the class's mean probability, is larger than in each "
        f"of {count_text(settings.draws, 'random draw')}; chance alone would give {chance:.1f}."
    )


def points_or_missing(change: float) -> str:
    """A change in points, or a dash for a class without rows."""
    return MISSING if math.isnan(change) else points(change)


def effects_table(study: CaseStudy) -> Table:
    """One row for each ablated class."""
    head = (
        "Units of",
        "Test rows",
        "Recall, %",
        "Own class",
        "Other classes",
        "Own class, random units",
        "Other classes, random units",
        "Probability of the class",
        "Probability, random units",
        "Units",
        "Layers",
    )
    recall = study.scored.recall()
    rows = []
    for effect in study.effects:
        rows.append(
            (
                study.label_names[effect.label],
                f"{effect.rows:,}",
                percent(float(recall[effect.label])),
                points(effect.own),
                points_or_missing(effect.others),
                _spread(effect.random_own),
                _spread(effect.random_others),
                points(effect.probability),
                _spread(effect.random_probability),
                _counts(effect),
                ", ".join(f"{layer}: {count}" for layer, count in effect.layers.items()),
            )
        )
    return Table(head, tuple(rows))


def _counts(effect: ClassEffect) -> str:
    return ", ".join(count_text(count, kind) for kind, count in effect.units.items())


def _spread(values: np.ndarray) -> str:
    if np.isnan(values).any():
        return MISSING
    low, high = points(float(values.min())), points(float(values.max()))
    return f"{points(float(values.mean()))} [{low}, {high}]"


def how_to_read(settings: CaseSettings) -> list[str]:
    """One paragraph for each part."""
    return [
        "Constructs are token groups of the training texts that point to a class: Fisher's exact "
        "test for every group and class, the false discovery rate held at 5%, ranked by log-odds "
        "(a z-score). Stability is the share of bootstrap resamples of the texts in which a group "
        f"is still significant. At most {settings.mined_rows:,} training rows are mined.",
        "Saliency of a token is |gradient × input| of the loss of a label, with mean 1 over the "
        "tokens of a text. Words of a class: for their gold label, in at most "
        f"{settings.saliency_rows:,} training rows, in {count_text(settings.least_texts, 'text')} "
        "of the class or more, and every mean drawn towards 1 by as many imagined texts, so that "
        "one accident does not lead.",
        "Where units lie: a random selection of as many weights in the layers that could be "
        "chosen, every unit equally likely, gives the expected counts and, in brackets, the middle "
        "95% of them. ▲ and ▼ are above and below it.",
        "Ablation puts units back to the base model's values and then restores the trained ones "
        f"bit for bit. The {share_text(settings.share)} of the selected units with the highest "
        "token-weighted Fisher information per weight are taken, measured on at most "
        f"{count_text(settings.class_rows, 'training row')} of the class alone. Random units: "
        f"{count_text(settings.draws, 'draw')} of as many selected units of each kind, with mean "
        "and [lowest, highest]. Changes are points of recall on the scored test rows; a class with "
        "few rows moves in large steps.",
    ]


def place_of(study: CaseStudy) -> str:
    """Device and versions in one line."""
    where = study.where
    changes = " with changes" if where["dirty"] else ""
    parts = [f"{where['device']}", count_text(int(where["threads"]), "thread")]
    parts += [f"{name} {where[name]}" for name in ("torch", "transformers") if where[name]]
    return ", ".join([*parts, f"sparseft at commit {str(where['commit'])[:12]}{changes}"])
