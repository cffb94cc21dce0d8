"""case.json: every number of a case study, for whoever wants to compute with them."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseft.case_study.effects import ClassEffect
from sparseft.case_study.settings import CaseSettings
from sparseft.case_study.study import CaseStudy

__all__ = ["record_of"]


def record_of(study: CaseStudy, settings: CaseSettings) -> dict[str, Any]:
    """The study as JSON-able values; what was not measured is null."""
    names, placement = study.label_names, study.placement
    return {
        "data": study.name,
        "run": study.run,
        "model": study.model,
        "method": study.method,
        "seed": study.seed,
        "settings": asdict(settings),
        "environment": dict(study.where),
        "labels": list(names),
        "shown": [names[c] for c in study.shown],
        "rows": {
            "train": study.train_rows,
            "test": study.test_rows,
            "scored": len(study.scored.gold),
        },
        "accuracy": study.scored.accuracy,
        "recall": _by_label(study.scored.recall(), names),
        "selection": dict(study.selection),
        "constructs": {
            names[c]: [
                {k: v for k, v in asdict(entry).items() if k != "examples"}
                for entry in study.constructs.of_label(names[c])[: settings.constructs]
            ]
            for c in study.shown
        },
        "words": {
            names[c]: [asdict(word) for word in words]
            for c, words in zip(study.shown, study.words, strict=True)
        },
        "texts": [asdict(entry) for entry in study.texts],
        "placement": {
            "layers": list(placement.layers),
            "kinds": list(placement.kinds),
            **{
                name: getattr(placement, name).tolist()
                for name in ("units", "selected", "expected", "low", "high")
            },
        },
        "ablations": [_effect(effect, names) for effect in study.effects],
    }


def _effect(effect: ClassEffect, names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "units_of": names[effect.label],
        "rows": effect.rows,
        "units": effect.units,
        "layers": {str(layer): count for layer, count in effect.layers.items()},
        "change": _by_label(effect.change, names),
        "others": _known(effect.others),
        "probability": effect.probability,
        "random": {
            "own": effect.random_own.tolist(),
            "others": [_known(value) for value in effect.random_others.tolist()],
            "probability": effect.random_probability.tolist(),
        },
        "beyond_chance": effect.beyond_chance,
        "less_probable": effect.less_probable,
    }


def _by_label(values: NDArray[np.float64], names: tuple[str, ...]) -> dict[str, float | None]:
    return {name: _known(value) for name, value in zip(names, values.tolist(), strict=True)}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
