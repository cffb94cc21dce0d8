"""A short calibration: what each part of a training step takes on this machine."""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from sparseft.errors import SelectionError
from sparseft.saliency.capture import loss_of
from sparseft.selection.calibration import cases as timed
from sparseft.selection.calibration import parts
from sparseft.selection.calibration.fit import fit_parts, steady_medians
from sparseft.selection.calibration.record import Calibration, key_of
from sparseft.selection.layout import layout_of

__all__ = ["Setting", "calibrate", "calibration_batch", "settings_of"]

_log = logging.getLogger(__name__)

Batch = Mapping[str, Tensor]
Loss = Callable[[nn.Module, Batch], Tensor]

_LEAST_ROUNDS, _MOST_ROUNDS = 3, 30
_WIDTHS = (0.05, 0.15, 0.4)
# Of single elements or blocks so many are never trained, and their gradients are slow.
_SCALE = {"element": 0.05, "block": 0.25, "embedding": 0.1}


@dataclass(frozen=True)
class Setting:
    """A sparse step: `share` of every group's units from layer `cut` upwards."""

    cut: int
    share: float
    kinds: tuple[str, ...]
    prefix_cache: bool = False
    held_out: bool = False

    @property
    def name(self) -> str:
        """For records."""
        cached = ", prefix cached" if self.prefix_cache else ""
        return f"{'+'.join(self.kinds)} {self.share:g} from layer {self.cut}{cached}"


@dataclass(frozen=True)
class _Case:
    """A case and the amounts of each of its stretches; none of full finetuning's."""

    name: str
    run: timed.Measured
    amounts: tuple[Mapping[str, float], ...]
    held_out: bool = False


def calibrate(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    units: Sequence[str] = ("neuron", "head"),
    block_edge: int = 32,
    seconds: float = 10.0,
    seed: int = 0,
    loss_fn: Loss = loss_of,
) -> Calibration:
    """Measure what the parts of a step take here, and fit a linear model with no negative part.

    Timed in turns, in an order that is shuffled in every round: full finetuning's step, a forward
    pass, steps of random selections of several depths and widths with and without their lower
    layers, and compact gradients alone. A round's speed is divided out of it. Steps that are not
    fitted give `held_out_error`.

    The model is not touched: its modules are copied, weights included, and torch's random state is
    put back. Memory: that of full finetuning and twice the weights. One thread on a CPU is timed by
    the time that it ran, so that a shared machine does not spoil the result.

    Args:
        model: a plain model of a known family, on its device, that returns an object with `.loss`.
        batches: labelled batches as in training (input_ids, attention_mask [B, S], labels); the
            one of the most usual size is measured.
        units: kinds, see `sparseft.selection.units`; only their structures are priced.
        block_edge: of block units.
        seconds: about how long; at least three rounds are taken.
        seed: of the random selections.
        loss_fn: the loss of a batch.

    Raises:
        SelectionError: no batches, unknown kinds, or a model that carries a selection.
        ModelError: the model's shape is not known.
    """
    started = time.perf_counter()
    batch = calibration_batch(batches)
    with _no_trace(batch["input_ids"].device):
        cases = _cases(model, batch, tuple(units), block_edge, seed, loss_fn)
        rounds = list(_turns(cases, started + seconds))
    rows, length = batch["input_ids"].shape
    milliseconds = 1e3 * steady_medians(np.array(rounds))
    calibration = _fitted(cases, milliseconds, key_of(model), (rows, length), len(rounds), started)
    _log.info(
        "calibrated in %.1f s: full step %.1f ms, held-out error %.1f%%",
        calibration.seconds,
        calibration.full_ms,
        100.0 * calibration.held_out_error,
    )
    return calibration


def calibration_batch(batches: Iterable[Batch]) -> Batch:
    """Of the batches the one whose padded size is next to their mean.

    Raises:
        SelectionError: there is none.
    """
    kept = list(batches)
    if not kept:
        raise SelectionError("expected at least one batch, got none; pass training batches.")
    sizes = [batch["input_ids"].numel() for batch in kept]
    mean = sum(sizes) / len(sizes)
    # By whole batches: the last of an epoch is often short.
    return kept[min(range(len(kept)), key=lambda i: (abs(sizes[i] - mean), i))]


def settings_of(num_layers: int, units: Sequence[str]) -> list[Setting]:
    """The sparse steps of a calibration: those that are fitted, then those held out."""
    kinds, top = tuple(units), num_layers - 1
    half, quarter, high = num_layers // 2, num_layers // 4, min(top, (3 * num_layers) // 4)
    fitted = [
        Setting(0, 0.05, kinds),
        Setting(0, 0.4, kinds),
        Setting(half, 0.15, kinds),
        Setting(top, 0.4, kinds),
        Setting(half, 0.3, kinds, prefix_cache=True),
        Setting(top, 0.05, kinds, prefix_cache=True),
    ]
    held_out = [
        Setting(quarter, 0.25, kinds, held_out=True),
        Setting(high, 0.1, kinds, held_out=True),
        Setting(high, 0.25, kinds, prefix_cache=True, held_out=True),
        Setting(half, 0.1, kinds[:1], held_out=True),
    ]
    settings: dict[str, Setting] = {}
    for setting in (*fitted, *held_out):
        if setting.cut > 0 or not setting.prefix_cache:
            scaled = replace(setting, share=setting.share * _scale(kinds))
            settings.setdefault(scaled.name, scaled)
    # Embedding rows alone need the cut 0.
    return [s for s in settings.values() if s.cut == 0 or s.kinds != ("embedding",)]


def _cases(
    model: nn.Module, batch: Batch, units: tuple[str, ...], edge: int, seed: int, loss_fn: Loss
) -> list[_Case]:
    layout, length = layout_of(model), batch["input_ids"].shape[1]
    base = timed.private_copy(model)
    cases = []
    for setting in settings_of(len(layout.layers), units):
        selection = timed.random_selection(
            model, setting.kinds, setting.share, setting.cut, edge, seed
        )
        own = timed.private_copy(model, base)
        if setting.prefix_cache:
            timed.without_prefix(own, layout, setting.cut, batch)
        modules = selection.modules
        touched = {module.module for module in modules}
        graph = {
            **parts.cut_part(layout, length, selection.lowest_layer, touched, setting.prefix_cache),
            **parts.compact_part(modules),
        }
        update = parts.update_part(len(modules), sum(module.trained for module in modules))
        run = timed.sparse_step(own, selection, batch, loss_fn)
        cases.append(_Case(setting.name, run, (graph, update), setting.held_out))
    dtype = layout.linear(next(iter(layout.layers[0].linears.values()))).weight.dtype
    for width in _WIDTHS:
        selection = timed.random_selection(model, units, width * _scale(units), 0, edge, seed)
        for name, amounts, run in timed.gradient_calls(selection, batch, dtype, seed):
            cases.append(_Case(f"gradient of {name}", run, (amounts,)))
    forward = timed.forward_pass(timed.private_copy(model, base), batch, loss_fn)
    cases.append(_Case("forward", forward, (parts.backbone_part(layout, length),)))
    # Last, since it may turn the private weights into float32 ones of its own.
    full = timed.full_step(timed.private_copy(model, base), batch, loss_fn)
    cases.append(_Case("full", full, ({},)))
    return cases


def _scale(units: Sequence[str]) -> float:
    return min((_SCALE.get(kind, 1.0) for kind in units), default=1.0)


def _turns(cases: Sequence[_Case], deadline: float) -> Iterator[list[float]]:
    """Seconds of every stretch of every case, one list per round; the first round is not kept."""
    with _no_garbage_collection():
        for round_ in range(_MOST_ROUNDS + 1):
            if round_ > _LEAST_ROUNDS and time.perf_counter() > deadline:
                return
            order = list(range(len(cases)))
            random.Random(round_).shuffle(order)
            taken: dict[int, tuple[float, ...]] = {}
            for number in order:
                taken[number] = cases[number].run()
            if round_ > 0:
                yield [second for number in range(len(cases)) for second in taken[number]]
            gc.collect(0)  # what this round made


def _fitted(
    cases: Sequence[_Case],
    milliseconds: np.ndarray,
    key: Mapping[str, object],
    shape: tuple[int, int],
    rounds: int,
    started: float,
) -> Calibration:
    """The calibration from one time per stretch, in the order of the cases."""
    names = [(case.name, i) for case in cases for i in range(len(case.amounts))]
    times = dict(zip(names, milliseconds, strict=True))
    learnt = [
        (amounts, times[case.name, i])
        for case in cases
        if not case.held_out
        for i, amounts in enumerate(case.amounts)
        if amounts
    ]
    found = fit_parts([a for a, _ in learnt], [t for _, t in learnt], parts.PARTS)
    records = []
    for case in cases:
        if case.name == "full":
            continue
        predicted = sum(
            found[p] * amount for a in case.amounts for p, amount in a.items() if amount
        )
        measured = sum(times[case.name, i] for i in range(len(case.amounts)))
        records.append({
            "name": case.name,
            "held_out": case.held_out,
            "measured_ms": float(measured),
            "predicted_ms": float(predicted),
        })  # fmt: skip
    return Calibration(
        key=key,
        rows=shape[0],
        length=shape[1],
        full_ms=float(times["full", 0]),
        forward_ms=float(times["forward", 0]),
        parts_ms=found,
        cases=records,
        rounds=rounds,
        seconds=time.perf_counter() - started,
    )


@contextlib.contextmanager
def _no_trace(device: torch.device) -> Iterator[None]:
    """Gradients on, and torch's random state put back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        yield


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """None inside a step: it would fall on one case alone."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
