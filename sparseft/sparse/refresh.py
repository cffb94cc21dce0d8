"""Exchange the units that training leaves alone for others that the loss asks for now.

The idea is RigL's (Evci et al. 2020, arXiv 1911.11134), with units for weights: within each group
(one kind in one layer) the flattest of the trained units go back to the base, and as many others
with the highest current sensitivity take their places. So the budget, the structure and the depth
never change, a prefix cache stays valid, and the delta stays as large as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from sparseft.errors import ConfigError, SelectionError
from sparseft.saliency.capture import loss_of
from sparseft.saliency.sensitivity import unit_sensitivities
from sparseft.saliency.tokens import ConstructWeights
from sparseft.selection.layout import layout_of
from sparseft.selection.selection import Choice, Selection
from sparseft.selection.units import UnitGroup, unit_groups
from sparseft.sparse.apply import selection_of
from sparseft.sparse.flatness import FlatnessScore, flatness
from sparseft.sparse.reselect import Move, SecondMoment, reselect

__all__ = ["RefreshOptions", "Refreshed", "exchange", "refresh"]


@dataclass(frozen=True)
class RefreshOptions:
    """When and how much is exchanged.

    Attributes:
        every: epochs or steps between two refreshes, as `counted_in` says.
        share: of each group's trained units, at most; rounded down.
        until: share of the training's steps after which nothing is exchanged any more.
        flat_by: see `flatness`.
        batches: training batches that the candidates are scored on.
        second_moment: see `reselect`.

    Raises:
        ConfigError: a value out of its range.
    """

    every: int = 1
    counted_in: Literal["epochs", "steps"] = "epochs"
    share: float = 0.1
    until: float = 0.5
    flat_by: FlatnessScore = "moments"
    batches: int = 8
    second_moment: SecondMoment = "zero"

    def __post_init__(self) -> None:
        choices = {
            "counted_in": ("epochs", "steps"),
            "flat_by": get_args(FlatnessScore),
            "second_moment": get_args(SecondMoment),
        }
        for name in ("every", "batches"):
            value = getattr(self, name)
            self._require(type(value) is int and value > 0, name, "a whole number above 0")
        for name in ("share", "until"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            self._require(number and 0 < value <= 1, name, "above 0 and at most 1")
        for name, known in choices.items():
            self._require(getattr(self, name) in known, name, "one of " + ", ".join(known))

    def _require(self, valid: bool, name: str, expected: str) -> None:
        if not valid:
            raise ConfigError(
                f"expected refresh.{name} to be {expected}, got {getattr(self, name)!r}; "
                f"change method.refresh.{name}."
            )

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> RefreshOptions:
        """The checked options.

        Raises:
            ConfigError: an unknown key, or a value out of its range.
        """
        known = cls.__dataclass_fields__
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise ConfigError(
                f"expected only known options of the refresh, got method.refresh.{unknown[0]}; "
                f"choose from: {', '.join(sorted(known))}."
            )
        return cls(**options)

    def due(self, step: int, steps: int, epoch: int, ended: bool) -> bool:
        """Whether to refresh after optimizer step `step` of `steps` (from 1).

        Args:
            step: done so far.
            steps: of the whole training.
            epoch: epochs done so far.
            ended: an epoch ended with this step.
        """
        if step >= steps or step > self.until * steps:
            return False
        if self.counted_in == "steps":
            return step % self.every == 0
        return ended and epoch % self.every == 0


@dataclass(frozen=True, eq=False)
class Refreshed:
    """What a refresh did: the selection from now on, how many units came, what moved."""

    selection: Selection
    exchanged: int
    moves: list[Move]


def refresh(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[Mapping[str, Tensor]],
    options: RefreshOptions,
    *,
    seed: int = 0,
    constructs: ConstructWeights | None = None,
    loss_fn: Callable[[nn.Module, Mapping[str, Tensor]], Tensor] = loss_of,
) -> Refreshed:
    """Exchange flat units once, in place.

    Candidates are scored as the selection was: by its score and token saliency, by the unweighted
    Fisher of that control, or at random for the random control (Mocanu et al. 2018).

    Args:
        model: after `sparsify`; between two optimizer steps, gradients dropped.
        optimizer: holds the compact values.
        batches: labelled training batches.
        options: how much.
        seed: of the random control, and of scores that draw.
        constructs: as the analysis had them, for the saliency "constructs".

    Raises:
        SelectionError: the selection is the magnitude control's, which never changes, holds no
            units, or the optimizer keeps no moments.
    """
    selection = selection_of(model)
    if not selection.choices or selection.info.get("control") == "magnitude":
        raise SelectionError(
            "expected a selection of units by sensitivity to refresh, got one "
            f"{'without units' if not selection.choices else 'by magnitude'}; switch it off."
        )
    layout = layout_of(model)
    groups = _groups(model, selection)
    flat = flatness(model, groups, optimizer, options.flat_by)
    control = selection.info.get("control", "none")
    if control == "random":
        generator = np.random.default_rng(seed)
        scores = tuple(generator.random(group.count) for group in groups)
    else:
        plain = control == "unweighted"
        saliency = "uniform" if plain else str(selection.info.get("saliency", "uniform"))
        measured = unit_sensitivities(
            model,
            layout,
            groups,
            batches,
            saliencies=(saliency,),
            score="fisher" if plain else str(selection.info.get("score", "fisher")),
            seed=seed,
            lowest_layer=max(selection.lowest_layer, 0),
            block_edge=_edge(selection),
            constructs=constructs,
            loss_fn=loss_fn,
        )
        scores = measured.by_saliency[saliency]
    chosen, came = [], 0
    for choice, still, score in zip(selection.choices, flat, scores, strict=True):
        units = exchange(choice.units, still, score, options.share, guard=control != "random")
        came += int(np.setdiff1d(units, choice.units, assume_unique=True).size)
        chosen.append(units)
    changed = _selection(selection, groups, chosen, scores, came)
    moves = reselect(model, changed, optimizer, second_moment=options.second_moment)
    return Refreshed(changed, came, moves)


def exchange(
    chosen: NDArray[np.int64],
    flat: NDArray[np.float64],
    scores: NDArray[np.float64],
    share: float,
    *,
    guard: bool = True,
) -> NDArray[np.int64]:
    """The units of one group that are trained after a refresh, sorted.

    Args:
        chosen: trained now.
        flat: how much training uses each unit of the group; the lowest of the chosen leave.
        scores: current sensitivity of each unit of the group; the highest others come.
        share: of the chosen that may leave, rounded down.
        guard: exchange the i-th pair (flattest first, highest first) only where the newcomer's
            score is the higher one.
    """
    rest = np.setdiff1d(np.arange(scores.size), chosen)
    count = min(int(share * chosen.size), rest.size)
    leaving = chosen[np.lexsort((chosen, flat[chosen]))][:count]
    coming = rest[np.lexsort((rest, -scores[rest]))][:count]
    if guard:
        better = scores[coming] > scores[leaving]
        leaving, coming = leaving[better], coming[better]
    return np.sort(np.concatenate([np.setdiff1d(chosen, leaving), coming])).astype(np.int64)


def _groups(model: nn.Module, selection: Selection) -> list[UnitGroup]:
    """The group of each choice, in the choices' order."""
    kinds = tuple(dict.fromkeys(choice.kind for choice in selection.choices))
    known = {
        (group.kind, group.label): group
        for group in unit_groups(layout_of(model), kinds, block_edge=_edge(selection))
    }
    return [known[choice.kind, choice.label] for choice in selection.choices]


def _edge(selection: Selection) -> int:
    return max((m.edge for m in selection.modules), default=0) or 32


def _selection(
    old: Selection,
    groups: Sequence[UnitGroup],
    chosen: Sequence[NDArray[np.int64]],
    scores: Sequence[NDArray[np.float64]],
    came: int,
) -> Selection:
    index = {
        piece.module: piece.of(torch.from_numpy(units)).numpy()
        for group, units in zip(groups, chosen, strict=True)
        for piece in group.pieces
    }
    so_far = old.info.get("refresh", {"times": 0, "exchanged_units": 0})
    return replace(
        old,
        modules=tuple(replace(m, index=index[m.module]) for m in old.modules),
        choices=tuple(
            Choice(choice.kind, choice.layer, choice.label, units, score[units])
            for choice, units, score in zip(old.choices, chosen, scores, strict=True)
        ),
        info={
            **old.info,
            "refresh": {
                "times": so_far["times"] + 1,
                "exchanged_units": so_far["exchanged_units"] + came,
            },
        },
    )
