"""A run of `task=routing`: routers between two models, compared and the best of the pool saved.

Nothing is trained but the routers themselves, which are built from exemplars.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparseft import files
from sparseft.config import RoutingConfig, RunConfig
from sparseft.errors import DataError
from sparseft.results import COST_KEYS, Result, config_hash, environment
from sparseft.routing.comparison import ENDS, Half, compare_half, routers_of
from sparseft.routing.costs import Costs, RouterCost
from sparseft.routing.pools import Pool
from sparseft.routing.retriever import SentenceEncoder, load_encoder
from sparseft.routing.router import Router
from sparseft.routing.scores import Measured, RouterFigures, figures_of, resample
from sparseft.routing.study import Split, halves
from sparseft.routing.turns import Turn, dialogues_of
from sparseft.tracking import NullTracker
from sparseft.training.devices import device_name, resolve_device
from sparseft.training.folder import RunOutcome, finished_result, run_folder, tracker_of_run
from sparseft.training.routing.loading import Pair, load_pair, load_turns
from sparseft.training.routing.record import (
    content,
    curve_points,
    main_metrics,
    side_by_side,
    turn_record,
)
from sparseft.training.routing.whole import Whole

__all__ = ["CHOSEN", "RoutedRun", "execute_routing"]

CHOSEN = "chosen by the pool"


@dataclass(frozen=True)
class RoutedRun:
    """What a run holds at its end, for whoever wants to look at it.

    Attributes:
        names: of the small and the large expert.
        figures: of each router, `CHOSEN` first: in each half the router that was best on the
            other half's own dialogues.
        ends: small alone, large alone and the oracle.
        unit: of costs.
        latency: milliseconds of a decision by router, median and 95th percentile.
        turns: of the chosen router at the budget, as written to turns.jsonl.
    """

    config: RunConfig
    names: tuple[str, str]
    figures: list[RouterFigures]
    ends: Mapping[str, Measured]
    unit: str
    latency: Mapping[str, tuple[float, float]]
    turns: list[dict[str, Any]]
    metrics: dict[str, float]
    folder: Path

    @property
    def settings(self) -> RoutingConfig:
        """Those of the task."""
        assert self.config.task.routing is not None
        return self.config.task.routing


Look = Callable[[RoutedRun], Sequence[Path] | None]


def execute_routing(config: RunConfig, look: Look | None = None) -> RunOutcome:
    """Do one run, or find it done: same configuration and same commit.

    Written to the run's folder: config.json, result.json, routing.json (curves and figures of all
    routers), turns.jsonl (each turn under the chosen router), and `router/`, which
    `python -m sparseft.route` reads. Nothing is written where settings or data are wrong.

    Args:
        config: the run's settings; `config.task.routing` is set.
        look: called once with the run, before result.json is written; the files that it returns
            are shown where the run is tracked.

    Raises:
        SparseftError: any of its kinds; result.json exists only after a run that ended well.
    """
    settings = config.task.routing
    assert settings is not None
    device = resolve_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    folder = run_folder(config)
    where = environment(device_name(device), torch.get_num_threads())
    done = finished_result(folder / "result.json", where, config.rerun)
    if done is not None:
        return RunOutcome(done, folder, skipped=True)
    started = time.perf_counter()
    turns = load_turns(config.data)
    with load_pair(settings, config.data, turns, str(device)) as pair:
        run = _Run(config, settings, turns, pair, str(device))
        result = _recorded(run, folder, where, look, started)
    return RunOutcome(result, folder)


def _recorded(
    run: _Run, folder: Path, where: dict[str, Any], look: Look | None, started: float
) -> Result:
    """Compare, and write all that a run's folder holds."""
    config, settings = run.config, run.settings
    mapping = config.to_mapping()
    files.write_json(folder / "config.json", mapping)
    tracker = tracker_of_run(config, folder, mapping) or NullTracker()
    summary: dict[str, Any] = {}
    try:
        parts = [run.half(split) for split in run.splits]
        figures, ends = run.figures(parts)
        whole = Whole(run.pair.answers, run.dialogues, run.makers, config.seed)
        saved = whole.save(folder / "router", config.model, settings)
        latency = whole.latency(run.encoder)
        metrics = main_metrics(figures[0], ends, latency[str(saved["router"])])
        names = run.pair.answers.small.name, run.pair.answers.large.name
        turns = run.turns(parts)
        routed = RoutedRun(
            config, names, figures, ends, run.pair.unit, latency, turns, metrics, folder
        )
        said = content(
            names, run.pair.unit, figures, ends, latency, settings, saved, parts, run.unanswered
        )
        files.write_json(folder / "routing.json", said)
        lines = [json.dumps(each, ensure_ascii=False) for each in turns]
        files.write_text(folder / "turns.jsonl", "\n".join(lines) + "\n")
        shown = look(routed) if look is not None else None
        seconds = time.perf_counter() - started
        result = run.result(metrics, seconds, where, mapping, saved)
        result.save(folder / "result.json")
        for number, values in enumerate(curve_points(figures, settings.rates)):
            tracker.log(values, step=number)
        tracker.show(shown or ())
        summary = {f"test/{name}": value for name, value in metrics.items()}
    finally:
        tracker.finish(summary)
    return result


class _Run:
    """The loaded parts of one run, checked as far as can be before anything is written."""

    def __init__(
        self,
        config: RunConfig,
        settings: RoutingConfig,
        turns: list[Turn],
        pair: Pair,
        device: str,
    ) -> None:
        self.config, self.settings, self.pair = config, settings, pair
        self.turns_of_data = turns
        self.dialogues = dialogues_of(turns)
        if len(self.dialogues) < 4:
            raise DataError(
                "expected four dialogues or more, two for each half's pool, got "
                f"{len(self.dialogues)}; give more."
            )
        self.splits = halves(self.dialogues, config.seed)
        for split in self.splits:
            _check(pair.answers.pool(split.pool), pair)
        self.encoder: SentenceEncoder = load_encoder(config.model, delta=settings.retriever)
        self.encoder.backbone.to(device)
        # Embeddings are looked up: they cost no operations.
        weights = self.encoder.backbone.named_parameters()
        self._size = float(sum(p.numel() for name, p in weights if "embed" not in name))
        self.makers = routers_of(
            settings.routers,
            self.encoder,
            settings.neighbours,
            scored=pair.answers.scored(self.dialogues),
        )
        self._budget = settings.rates.index(settings.budget)
        self.unanswered: dict[str, int] = {}

    def half(self, split: Split) -> Half:
        """Every router on one half of the dialogues."""
        found = compare_half(
            split,
            self.pair.answers,
            self.makers,
            self.settings.rates,
            self.costs,
            seed=self.config.seed,
        )
        for end in ENDS[:2]:
            silent = sum(bool(step.prediction.problem) for step in found.steps[end][0])
            side = end.split()[0]
            self.unanswered[side] = self.unanswered.get(side, 0) + silent
        return found

    def costs(self, router: Router, pool: Pool) -> Costs:
        """Of a router; tokens are taken to have four characters where answers do not say."""
        embeds = hasattr(router, "embedder")
        width = int(getattr(self.encoder.backbone.config, "hidden_size", 0))
        return Costs(
            *self.pair.costs,
            RouterCost(self._size, len(pool), width) if embeds else RouterCost(),
            self.pair.unit,
            lambda text: max(1, round(len(text) / 4)),
        )

    def best(self, half: Half) -> str:
        """The router that was best at the budget on the pool's own dialogues."""
        return max(half.held_out, key=lambda name: half.held_out[name][self._budget])

    def figures(self, parts: Sequence[Half]) -> tuple[list[RouterFigures], dict[str, Measured]]:
        """Of all routers and of the ends, both halves side by side."""
        curves = {
            CHOSEN: side_by_side([half.runs[self.best(half)] for half in parts]),
            **{name: side_by_side([half.runs[name] for half in parts]) for name in self.makers},
        }
        ends = {name: side_by_side([half.runs[name] for half in parts]) for name in ENDS}
        groups = [name for half in parts for name in half.runs[ENDS[0]][0].groups]
        weights = resample(groups, self.settings.resamples, seed=0)
        return figures_of(curves, ends, self._budget, weights), ends

    def turns(self, parts: Sequence[Half]) -> list[dict[str, Any]]:
        """Each turn under the chosen router at the budget."""
        found = []
        for half in parts:
            name = self.best(half)
            steps, judged = half.steps[name][self._budget], half.runs[name][self._budget]
            threshold = half.thresholds[name][self._budget]
            for place, step in enumerate(steps):
                found.append(turn_record(step, judged, place, name, threshold))
        return found

    def result(
        self,
        metrics: dict[str, float],
        seconds: float,
        where: dict[str, Any],
        mapping: dict[str, Any],
        saved: Mapping[str, Any],
    ) -> Result:
        """The record of the run."""
        config = self.config
        digest = hashlib.sha256()
        for turn in self.turns_of_data:
            own = [turn.dialogue, turn.number, turn.system, turn.user, dict(turn.delta)]
            digest.update(json.dumps(own, sort_keys=True).encode())
        return Result(
            experiment=config.experiment,
            task=config.task.name,
            method=str(config.method["name"]),
            model=config.model.name,
            seed=config.seed,
            metrics=metrics,
            validation=float(saved["held_out_turn_accuracy"]),
            seconds_to_best=seconds,
            cost={
                **dict.fromkeys(COST_KEYS, 0),
                "evaluation_seconds": seconds,
                "total_parameters": int(self._size),
                "flops_per_step": None,
                "peak_memory_bytes": None,
            },
            selection=None,
            data={
                "name": config.data.name,
                "sha256": digest.hexdigest(),
                "rows": {"test": len(self.turns_of_data)},
                "dialogues": len(self.dialogues),
                "test_texts_removed": 0,
            },
            tuning={"lr": 0.0, "lr_scale": config.lr_scale},
            environment=where,
            config=mapping,
            config_hash=config_hash(mapping),
            notes={
                "metric": "turn_accuracy on held-out pool dialogues",
                "router": dict(saved),
                "unit": self.pair.unit,
                "small": self.pair.answers.small.name,
                "large": self.pair.answers.large.name,
                "unanswered": self.unanswered,
            },
        )


def _check(pool: Pool, pair: Pair) -> None:
    """Refuse a pool that speaks for one model alone: nothing can be learned from it."""
    large = int(pool.large.sum())
    if 0 < large < len(pool):
        return
    side = "only the large one" if large == 0 else "the small one"
    name = (pair.answers.large if large == 0 else pair.answers.small).name
    raise DataError(
        f"expected turns that {side} gets right ({name}) in each half's pool, got none among "
        f"{pool.provenance['queries']} turns; see whether it answers at all, and whether small and "
        "large are two models."
    )
