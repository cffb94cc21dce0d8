"""`analyze`: from a model and some labelled batches to a Selection under a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from sparseft.errors import SelectionError
from sparseft.saliency.capture import loss_of
from sparseft.saliency.sensitivity import Sensitivities, magnitudes, unit_sensitivities
from sparseft.saliency.tokens import ConstructWeights
from sparseft.selection.budget import Budget, lowest_layer_of_depth, solve
from sparseft.selection.build import module_selections
from sparseft.selection.calibration.record import Calibration
from sparseft.selection.cost import step_cost
from sparseft.selection.layout import ModelLayout, head_names, layout_of
from sparseft.selection.selection import Choice, Selection
from sparseft.selection.units import EMBEDDING_LAYER, UnitGroup, unit_groups
from sparseft.sparse.fingerprint import base_hash

__all__ = ["Control", "analyze", "layer_sensitivities"]

Control = Literal["none", "random", "magnitude", "unweighted"]


def analyze(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    budget: Budget,
    units: Sequence[str] = ("neuron", "head"),
    saliency: str = "gradient_x_input",
    score: str = "fisher",
    allocation: str = "score",
    control: str = "none",
    depth: float | str = "auto",
    depth_rule: str | None = None,
    cost: Calibration | None = None,
    prefix_cache: bool = False,
    block_edge: int = 32,
    head: Sequence[str] | None = None,
    seed: int = 0,
    loss_fn: Callable[[nn.Module, Mapping[str, Tensor]], Tensor] = loss_of,
    constructs: ConstructWeights | None = None,
    info: Mapping[str, Any] | None = None,
) -> Selection:
    """Choose the units that the batches' own tokens make sensitive, under a budget.

    Args:
        model: a plain model of a known family that returns an object with `.loss`; unchanged.
        batches: labelled batches (input_ids, attention_mask [B, S], labels); a few suffice.
        budget: density, or share of full finetuning's step time.
        units: kinds, see `sparseft.selection.units`; kinds may not share a weight.
        saliency: token weights, see `sparseft.saliency.tokens`.
        score: what a unit is worth, see `sparseft.saliency.scores`. A unit of negative score is
            taken only where the control or the budget leaves nothing else.
        allocation: how many units each layer and kind gets: by the "score" itself, or by the
            plain "fisher", the score then saying only which ones. Scores that estimate a mean
            gradient are noisier over layers than within one.
        control: "none" keeps the token-weighted choice. The others keep its structure (the same
            number of units in every group) but choose them at random, by magnitude, or by the
            Fisher without token weights: what a fair comparison needs.
        depth: share of upper layers that may be trained, or "auto" to let the budget decide.
        depth_rule: how "auto" decides, see `sparseft.selection.budget.solve`.
        cost: measured on this machine, see `sparseft.selection.calibration`; else FLOPs count.
        prefix_cache: the frozen layers will be replaced by stored outputs and cost nothing.
        head: root modules that are the task head; found by name when None.
        seed: of the random control and of sketches.
        constructs: raw token weights [B, S] from (input_ids, attention_mask, labels), for the
            saliency "constructs": such as one around `sparseft.constructs.construct_saliency`.
        info: facts to keep in the selection, such as the data set's name and hash.

    Raises:
        SelectionError: a budget too small for one unit, unknown kinds, depth, or control, or a
            cost of another machine, model or length of texts.
        ModelError: the model's shape is not known.
    """
    if control not in get_args(Control):
        raise SelectionError(
            f"expected a control of {', '.join(get_args(Control))}, got {control!r}."
        )
    if allocation not in ("score", "fisher"):
        raise SelectionError(f"expected an allocation of score or fisher, got {allocation!r}.")
    started = time.perf_counter()
    if cost is not None:
        cost.check(model)
    layout = layout_of(model)
    heads = head_names(model) if head is None else tuple(head)
    lowest_layers = _candidates(depth, len(layout.layers), units)
    groups = _reachable(unit_groups(layout, units, block_edge=block_edge), min(lowest_layers))
    measured = unit_sensitivities(
        model,
        layout,
        groups,
        batches,
        saliencies=(saliency,),
        score=score,
        plain_fisher=allocation == "fisher" or control == "unweighted",
        lowest_layer=min(lowest_layers),
        block_edge=block_edge,
        seed=seed,
        constructs=constructs,
        loss_fn=loss_fn,
    )
    if cost is not None:
        cost.check(model, measured.mean_length)
    parameters = _backbone_parameters(model, heads)
    packing = solve(
        groups,
        measured.plain_fisher if allocation == "fisher" else measured.by_saliency[saliency],
        budget,
        backbone_parameters=parameters,
        cost=step_cost(layout, measured.mean_length, prefix_cache=prefix_cache)
        if cost is None
        else cost.step_cost(layout, groups, prefix_cache=prefix_cache),
        lowest_layers=lowest_layers,
        depth_rule=depth_rule,
    )
    scores = measured.by_saliency[saliency]
    chosen = packing.chosen
    if control != "none":
        scores = _control_scores(control, layout, groups, measured, block_edge, seed)
    if control != "none" or allocation == "fisher":
        chosen = tuple(
            np.sort(np.argsort(-score, kind="stable")[: units_.size])
            for score, units_ in zip(scores, chosen, strict=True)
        )
    facts = {
        **(info or {}),
        "budget": {"density": budget.density, "step_time": budget.step_time},
        "units": list(units),
        "saliency": saliency,
        "score": score,
        "allocation": allocation,
        "control": control,
        "depth": depth,
        "seed": seed,
        "examples": measured.examples,
        "tokens": measured.tokens,
        "predicted_step_share": round(packing.step_share, 6),
        "optimality_gap": round(packing.gap, 6),
        "cost": "flops" if cost is None else "calibrated",
        "prefix_cache": prefix_cache,
    }
    selection = Selection(
        modules=module_selections(layout, groups, chosen, block_edge),
        choices=_choices(groups, chosen, scores),
        num_layers=len(layout.layers),
        lowest_layer=_lowest(groups, chosen),
        backbone_parameters=parameters,
        base_hash=base_hash(model, heads),
        head=heads,
        layer_names=tuple(layer.module_name for layer in layout.layers),
        info={**facts, "analysis_seconds": round(time.perf_counter() - started, 4)},
    )
    if cost is not None:
        # The knapsack takes the lowest layer for touched in all its stages; here it is known.
        share = cost.predict(model, selection, prefix_cache=prefix_cache) / cost.full_ms
        info = {**selection.info, "predicted_step_share": round(share, 6)}
        selection = replace(selection, info=info)
    return selection


def layer_sensitivities(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    saliency: str = "uniform",
    loss_fn: Callable[[nn.Module, Mapping[str, Tensor]], Tensor] = loss_of,
) -> list[float]:
    """Empirical Fisher of each whole layer (sum over the entries of its linears).

    Returns:
        One number per layer, lowest layer first.
    """
    layout = layout_of(model)
    groups = unit_groups(layout, ("row",))
    measured = unit_sensitivities(
        model, layout, groups, batches, saliencies=(saliency,), loss_fn=loss_fn
    )
    totals = [0.0] * len(layout.layers)
    for group, score in zip(groups, measured.by_saliency[saliency], strict=True):
        totals[group.layer] += float(score.sum())
    return totals


def _candidates(depth: float | str, num_layers: int, units: Sequence[str]) -> list[int]:
    if isinstance(depth, str):
        if depth != "auto":
            raise SelectionError(f"expected depth in (0, 1] or 'auto', got {depth!r}.")
        return list(range(num_layers))
    lowest = lowest_layer_of_depth(depth, num_layers)
    if "embedding" in units and lowest > 0:
        raise SelectionError(
            f"expected depth 1.0 with embedding units, got {depth}: a trained embedding row "
            "needs the backward pass of every layer; raise depth or drop 'embedding'."
        )
    return [lowest]


def _reachable(groups: Sequence[UnitGroup], lowest_layer: int) -> tuple[UnitGroup, ...]:
    floor = EMBEDDING_LAYER if lowest_layer == 0 else lowest_layer
    return tuple(group for group in groups if group.layer >= floor)


def _backbone_parameters(model: nn.Module, heads: Sequence[str]) -> int:
    return sum(p.numel() for n, p in model.named_parameters() if n.split(".")[0] not in heads)


def _control_scores(
    control: str,
    layout: ModelLayout,
    groups: Sequence[UnitGroup],
    measured: Sensitivities,
    edge: int,
    seed: int,
) -> tuple[NDArray[np.float64], ...]:
    if control == "unweighted":
        return measured.plain_fisher
    if control == "magnitude":
        return tuple(magnitudes(layout, groups, edge))
    generator = np.random.default_rng(seed)
    return tuple(generator.random(group.count) for group in groups)


def _lowest(groups: Sequence[UnitGroup], chosen: Sequence[NDArray[np.int64]]) -> int:
    return min(g.layer for g, units in zip(groups, chosen, strict=True) if units.size)


def _choices(
    groups: Sequence[UnitGroup],
    chosen: Sequence[NDArray[np.int64]],
    scores: Sequence[NDArray[np.float64]],
) -> tuple[Choice, ...]:
    return tuple(
        Choice(group.kind, group.layer, group.label, units, score[units])
        for group, units, score in zip(groups, chosen, scores, strict=True)
        if units.size
    )
