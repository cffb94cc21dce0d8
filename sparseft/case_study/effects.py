"""What ablating a class's most sensitive units does to it and to the others, against chance.

Legend: U selected units, C classes, D draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparseft.case_study.ablation import ablated
from sparseft.case_study.scoring import Scored, Scorer
from sparseft.case_study.units import SelectedUnits

__all__ = ["ClassEffect", "class_effect", "most_sensitive", "random_alike"]


@dataclass(frozen=True, eq=False)
class ClassEffect:
    """One class's units ablated. Changes are ablated minus trained, in shares (0.01 is a point).

    Attributes:
        label: number of the class.
        rows: test rows of the class that are scored.
        units: ablated units by kind.
        layers: ablated units by layer.
        change: float64 [C], of every class's recall; NaN where it has no scored row.
        others: of the recall over all rows of the other classes.
        probability: of the mean probability that the class's rows get for it.
        random_own: float64 [D], change of this class's recall without as many random units.
        random_others: float64 [D].
        random_probability: float64 [D].
    """

    label: int
    rows: int
    units: dict[str, int]
    layers: dict[int, int]
    change: NDArray[np.float64]
    others: float
    probability: float
    random_own: NDArray[np.float64]
    random_others: NDArray[np.float64]
    random_probability: NDArray[np.float64]

    @property
    def own(self) -> float:
        """Change of the class's own recall."""
        return float(self.change[self.label])

    @property
    def beyond_chance(self) -> bool:
        """Whether the class's recall falls below that of every random draw."""
        return bool(self.own < self.random_own.min())

    @property
    def less_probable(self) -> bool:
        """Whether the class's mean probability falls below that of every random draw."""
        return bool(self.probability < self.random_probability.min())


def most_sensitive(sensitivity: NDArray[np.float64], share: float) -> NDArray[np.int64]:
    """The places of the `share` of units with the highest scores (at least one), sorted."""
    count = max(1, round(share * len(sensitivity)))
    return np.sort(np.argsort(-sensitivity, kind="stable")[:count])


def random_alike(
    units: SelectedUnits, chosen: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """As many selected units of each kind as `chosen` holds, drawn evenly; sorted places."""
    kinds = units.kind
    drawn = [
        random.choice(np.flatnonzero(kinds == kind), int((kinds[chosen] == kind).sum()), False)
        for kind in dict.fromkeys(kinds[chosen].tolist())
    ]
    return np.sort(np.concatenate(drawn))


def class_effect(
    scorer: Scorer,
    base: Scored,
    units: SelectedUnits,
    sensitivity: NDArray[np.float64],
    label: int,
    *,
    share: float,
    draws: int,
    random: np.random.Generator,
    tick: Callable[[], object] = lambda: None,
) -> ClassEffect:
    """Ablate a class's most sensitive units, then as many random ones `draws` times.

    The model carries its trained values before and after, bit for bit.

    Args:
        scorer: of the test rows.
        base: their scores with all trained values.
        units: of `selected_units`.
        sensitivity: of the units for this class, [U].
        label: the class.
        share: of the units that is ablated.
        draws: D.
        random: of the draws.
        tick: called after each scoring.
    """
    chosen = most_sensitive(sensitivity, share)

    def without(places: NDArray[np.int64]) -> Scored:
        with ablated(scorer.model, units, places):
            scored = scorer.score()
        tick()
        return scored

    top = without(chosen)
    controls = [without(random_alike(units, chosen, random)) for _ in range(draws)]

    def change(of: Callable[[Scored], NDArray[np.float64]], scored: Scored) -> NDArray[np.float64]:
        return of(scored) - of(base)

    def own(of: Callable[[Scored], NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.array([change(of, scored)[label] for scored in controls])

    layers = np.array([group.layer for group in units.groups])[units.group[chosen]]
    kinds = units.kind[chosen]
    return ClassEffect(
        label=label,
        rows=int(base.rows[label]),
        units={str(kind): int((kinds == kind).sum()) for kind in np.unique(kinds)},
        layers={int(layer): int((layers == layer).sum()) for layer in np.unique(layers)},
        change=change(Scored.recall, top),
        others=float(change(Scored.recall_of_others, top)[label]),
        probability=float(change(Scored.gold_probability, top)[label]),
        random_own=own(Scored.recall),
        random_others=own(Scored.recall_of_others),
        random_probability=own(Scored.gold_probability),
    )
