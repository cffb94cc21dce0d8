"""How much selections agree: the Jaccard index of their units, against random ones.

J(A, B) = |A and B| / |A or B|. Random selections of the same structure (as many units in every
group) share units too; what they share is what an agreement has to beat.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseft.errors import SelectionError
from sparseft.selection.selection import Choice, ModuleSelection, Selection

__all__ = ["Agreement", "Overlap", "agreement"]

_DRAWS = 1000
# Coupled units: their columns stand in a matrix of their own.
_COUPLED = ("neuron", "head")

_Label = tuple[str, int, str]  # kind, layer, label of a group


@dataclass(frozen=True)
class Overlap:
    """Over all pairs of selections.

    Attributes:
        jaccard: mean of |A and B| / |A or B|.
        lowest, highest: of the pairs.
        expected: mean of it for random selections of the same structure.
        expected_sd: its standard deviation over draws of all selections at random.
        units: mean number of units of a selection.
    """

    jaccard: float
    lowest: float
    highest: float
    expected: float
    expected_sd: float
    units: float


@dataclass(frozen=True)
class Agreement:
    """Overlaps of all units, by kind, and by layer (-1: embedding rows)."""

    selections: int
    overall: Overlap
    by_kind: dict[str, Overlap] = field(default_factory=dict)
    by_layer: dict[int, Overlap] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a file; layers are keys of text there."""
        content = asdict(self)
        content["by_layer"] = {str(k): v for k, v in content["by_layer"].items()}
        return content


def agreement(selections: Iterable[Selection], *, seed: int = 0, draws: int = _DRAWS) -> Agreement:
    """Compare the units of selections that were made for one model, such as those of several seeds.

    Args:
        selections: at least two.
        seed: of the random selections that are drawn for the expected overlap.
        draws: how many times; 1000 give the mean to within 3% of its standard deviation.

    Raises:
        SelectionError: fewer than two, models of different shapes, or a damaged selection.
    """
    given = list(selections)
    if len(given) < 2:
        raise SelectionError(f"expected at least two selections, got {len(given)}; pass more.")
    if draws < 2:
        raise SelectionError(f"expected at least two draws, got {draws}; pass 100 or more.")
    for other in given[1:]:
        if other.layer_names != given[0].layer_names:
            raise SelectionError(
                "expected selections for one model, got one with layers "
                f"{given[0].layer_names[:1]}… and one with {other.layer_names[:1]}… "
                f"({given[0].num_layers} and {other.num_layers}); compare those of one model."
            )
    counts: dict[_Label, int] = {}
    for selection in given:
        for label, count in _counts(selection).items():
            if counts.setdefault(label, count) != count:
                raise SelectionError(
                    f"expected {counts[label]} units in {label[2]}, got {count}; compare "
                    "selections of one model and one block edge."
                )
    chosen: list[dict[_Label, NDArray[np.int64]]] = [
        {(c.kind, c.layer, c.label): np.asarray(c.units) for c in selection.choices}
        for selection in given
    ]
    labels = sorted(counts)
    generator = np.random.default_rng(seed)
    table = _Table(chosen, labels, [counts[label] for label in labels], generator, draws)
    kinds = sorted({kind for kind, _, _ in labels})
    layers = sorted({layer for _, layer, _ in labels})
    return Agreement(
        selections=len(given),
        overall=table.overlap(lambda _: True),
        by_kind={kind: table.overlap(lambda g, k=kind: g[0] == k) for kind in kinds},  # type: ignore[misc]
        by_layer={layer: table.overlap(lambda g, n=layer: g[1] == n) for layer in layers},  # type: ignore[misc]
    )


class _Table:
    """Sizes, shared units and random shared units of every pair and group."""

    def __init__(
        self,
        chosen: Sequence[dict[_Label, NDArray[np.int64]]],
        labels: Sequence[_Label],
        counts: Sequence[int],
        generator: np.random.Generator,
        draws: int,
    ) -> None:
        self._labels = labels
        self._sizes = np.array(
            [[one[label].size if label in one else 0 for label in labels] for one in chosen]
        )  # [selections, groups]
        pairs = list(itertools.combinations(range(len(chosen)), 2))
        self._both = np.array([[
            np.intersect1d(chosen[a][label], chosen[b][label], assume_unique=True).size
            if label in chosen[a] and label in chosen[b] else 0
            for label in labels
        ] for a, b in pairs])  # fmt: skip  # [pairs, groups]
        first, second = (np.array(side) for side in zip(*pairs, strict=True))
        a, b = self._sizes[first], self._sizes[second]
        self._sum = a + b  # [pairs, groups]
        # Pairs share selections, but their random overlaps are independent two by two; the mean
        # over pairs has the standard deviation that independent draws give.
        self._random = generator.hypergeometric(
            a, np.array(counts)[None, :] - a, b, size=(draws, *a.shape)
        )  # [draws, pairs, groups]

    def overlap(self, wanted: Callable[[_Label], bool]) -> Overlap:
        """Of the groups whose label is wanted."""
        groups = np.array([wanted(label) for label in self._labels])
        total = self._sum[:, groups].sum(axis=1)
        found = _jaccard(self._both[:, groups].sum(axis=1), total)
        random = _jaccard(self._random[:, :, groups].sum(axis=2), total).mean(axis=1)
        return Overlap(
            jaccard=float(found.mean()),
            lowest=float(found.min()),
            highest=float(found.max()),
            expected=float(random.mean()),
            expected_sd=float(random.std(ddof=1)),
            units=float(self._sizes[:, groups].sum(axis=1).mean()),
        )


def _jaccard(both: NDArray[Any], total: NDArray[Any]) -> NDArray[np.float64]:
    """|A and B| / |A or B|; two empty sets agree."""
    either = total - both
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))


def _counts(selection: Selection) -> dict[_Label, int]:
    """How many units each group with a choice has, chosen or not.

    The file does not hold it; the shape of the group's weight and the entries of a unit do.
    """
    found: dict[_Label, int] = {}
    coupled: dict[int, list[Choice]] = {}
    by_name = {module.module: module for module in selection.modules}
    for choice in selection.choices:
        label = (choice.kind, choice.layer, choice.label)
        if choice.kind in _COUPLED:
            coupled.setdefault(choice.layer, []).append(choice)
        elif choice.label in by_name:
            found[label] = _places(by_name[choice.label])
        else:
            raise _damaged(choice)
    for layer, choices in coupled.items():
        start = f"{selection.layer_names[layer]}."
        columns = [
            module
            for module in selection.modules
            if module.structure == "columns" and module.module.startswith(start)
        ]
        # Groups and their weights are in the same order.
        if len(columns) != len(choices):
            raise _damaged(choices[0])
        for choice, module in zip(choices, columns, strict=True):
            width, rest = divmod(module.index.size, choice.units.size)
            if rest or width == 0:
                raise _damaged(choice)
            found[choice.kind, choice.layer, choice.label] = _places(module) // width
    return found


def _places(module: ModuleSelection) -> int:
    rows, columns = module.shape
    if module.structure in ("rows", "embedding"):
        return rows
    if module.structure == "columns":
        return columns
    if module.structure == "elements":
        return rows * columns
    return (rows // module.edge) * (columns // module.edge)


def _damaged(choice: Choice) -> SelectionError:
    return SelectionError(
        f"expected entries of {choice.label} for its {choice.units.size} units, got others; "
        "the selection is damaged, make it again."
    )
