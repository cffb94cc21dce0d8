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

import numpy as np
import torch

from sparseft import files
from sparseft.config import DataConfig, RoutingConfig, RunConfig
from sparseft.errors import ConfigError
from sparseft.results import COST_KEYS, Result, config_hash, environment
from sparseft.routing.comparison import ENDS, Answers, Half, Metric, compare_half, routers_of
from sparseft.routing.costs import Costs, RouterCost
from sparseft.routing.dialogues import read_jsonl, recorded_turns
from sparseft.routing.experts.building import cost_of_expert, default_experts, expert_of
from sparseft.routing.experts.recorded import RecordedExpert
from sparseft.routing.experts.remembered import Remembered
from sparseft.routing.pools import Pool
from sparseft.routing.retriever import SentenceEncoder, load_encoder
from sparseft.routing.rollout import contexts_of
from sparseft.routing.router import Query, Router
from sparseft.routing.saved import KINDS, save_router
from sparseft.routing.scores import Measured, RouterFigures, figures_of, resample
from sparseft.routing.study import Split, halves, held_out_scores, thresholds
from sparseft.routing.texts import query_of
from sparseft.routing.tracker import load_dialogues
from sparseft.routing.turns import Turn, dialogues_of
from sparseft.training.devices import device_name, resolve_device
from sparseft.training.folder import RunOutcome, finished_result, run_folder, tracker_of_run
from sparseft.training.routing.record import content, main_metrics, side_by_side, turn_record

__all__ = ["CHOSEN", "RoutedRun", "execute_routing"]

CHOSEN = "chosen by the pool"
_TIMED = 40  # queries whose decision is timed, one at a time
_OPTIONS: Mapping[str, Callable[[RoutingConfig], dict[str, Any]]] = {
    "knn": lambda settings: {"k": settings.neighbours},
    "classifier": lambda settings: {"strength": 0.3},
}


@dataclass(frozen=True)
class RoutedRun:
    """What a run holds at its end, for whoever wants to look at it.

    Attributes:
        figures: of each router, `CHOSEN` first: in each half the router that was best on the
            other half's own dialogues.
        ends: small alone, large alone and the oracle.
        unit: of costs.
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


def execute_routing(
    config: RunConfig, look: Callable[[RoutedRun], object] | None = None
) -> RunOutcome:
    """Do one run, or find it done: same configuration and same commit.

    Written to the run's folder: config.json, result.json, routing.json (curves and figures of all
    routers), turns.jsonl (each turn under the chosen router), and `router/`, which
    `python -m sparseft.route` reads.

    Args:
        config: the run's settings; `config.task.routing` is set.
        look: called once with the run, before result.json is written.

    Raises:
        SparseftError: any of its kinds; result.json exists only after a run that ended well.
    """
    settings = config.task.routing
    assert settings is not None
    device = resolve_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    mapping = config.to_mapping()
    folder = run_folder(config)
    where = environment(device_name(device), torch.get_num_threads())
    done = finished_result(folder / "result.json", where, config.rerun)
    if done is not None:
        return RunOutcome(done, folder, skipped=True)
    started = time.perf_counter()
    run = _Run(config, settings, str(device))
    files.write_json(folder / "config.json", mapping)
    tracker = tracker_of_run(config, folder, mapping)
    summary: dict[str, Any] = {}
    try:
        parts = [run.half(split) for split in halves(run.dialogues, config.seed)]
        found = run.figures(parts)
        metrics = main_metrics(found.figures[0], found.ends)
        turns = run.turns(parts)
        router = run.save(folder / "router")
        routed = RoutedRun(
            config,
            (run.answers.small.name, run.answers.large.name),
            found.figures,
            found.ends,
            run.unit,
            run.latency(),
            turns,
            metrics,
            folder,
        )
        figures = content(
            routed.names,
            run.unit,
            found.figures,
            found.ends,
            routed.latency,
            settings,
            router,
            parts,
        )
        files.write_json(folder / "routing.json", figures)
        lines = [json.dumps(each, ensure_ascii=False) for each in turns]
        files.write_text(folder / "turns.jsonl", "\n".join(lines) + "\n")
        if look is not None:
            look(routed)
        seconds = time.perf_counter() - started
        result = run.result(metrics, seconds, where, mapping, router)
        result.save(folder / "result.json")
        summary = {f"test/{name}": value for name, value in metrics.items()}
        if tracker is not None:
            for number, point in enumerate(found.figures[0].points):
                tracker.log(
                    {"curve/share": point.share, "curve/quality": point.quality}, step=number
                )
    finally:
        if tracker is not None:
            tracker.finish(summary)
    return RunOutcome(result, folder)


@dataclass(frozen=True)
class _Found:
    figures: list[RouterFigures]
    ends: dict[str, Measured]


class _Run:
    """The loaded parts of one run."""

    def __init__(self, config: RunConfig, settings: RoutingConfig, device: str) -> None:
        self.config, self.settings = config, settings
        known = default_experts(config.data)
        small, large = settings.small, settings.large
        if known is not None:
            small, large = small or known[0], large or known[1]
        if small is None or large is None:
            raise ConfigError(
                f"expected a small and a large expert for data={config.data.name}, got "
                f"{'no small' if small is None else 'no large'} one; set task.routing.small and "
                "task.routing.large, such as {file: answers.jsonl}."
            )
        self.turns_of_data = _turns(config.data)
        self.dialogues = dialogues_of(self.turns_of_data)
        experts = [expert_of(each, config.data, device) for each in (small, large)]
        for expert in experts:
            if isinstance(expert, RecordedExpert):
                expert.check(turn.id for turn in self.turns_of_data)
        metric = Metric(settings.normalise, settings.separator)
        self.answers = Answers(Remembered(experts[0]), Remembered(experts[1]), metric)
        self._costs = cost_of_expert(small), cost_of_expert(large)
        counted = all(cost.parameters is not None for cost in self._costs)
        self.unit = "flops" if counted else "money"
        self.encoder: SentenceEncoder = load_encoder(config.model, delta=settings.retriever)
        self.encoder.backbone.to(device)
        # Embeddings are looked up: they cost no operations.
        weights = self.encoder.backbone.named_parameters()
        self._size = float(sum(p.numel() for name, p in weights if "embed" not in name))
        self.makers = routers_of(
            settings.routers,
            self.encoder,
            settings.neighbours,
            scored=self.answers.scored(self.dialogues),
        )
        self._budget = settings.rates.index(settings.budget)
        self._pool: Pool | None = None

    def half(self, split: Split) -> Half:
        """Every router on one half of the dialogues."""
        return compare_half(
            split, self.answers, self.makers, self.settings.rates, self.costs, seed=self.config.seed
        )

    def costs(self, router: Router, pool: Pool) -> Costs:
        """Of a router; tokens are taken to have four characters where answers do not say."""
        embeds = hasattr(router, "embedder")
        width = int(getattr(self.encoder.backbone.config, "hidden_size", 0))
        return Costs(
            *self._costs,
            RouterCost(self._size, len(pool), width) if embeds else RouterCost(),
            "flops" if self.unit == "flops" else "money",
            lambda text: max(1, round(len(text) / 4)),
        )

    def best(self, half: Half) -> str:
        """The router that was best at the budget on the pool's own dialogues."""
        return max(half.held_out, key=lambda name: half.held_out[name][self._budget])

    def figures(self, parts: Sequence[Half]) -> _Found:
        """Of all routers, both halves side by side."""
        curves = {
            CHOSEN: side_by_side([half.runs[self.best(half)] for half in parts]),
            **{name: side_by_side([half.runs[name] for half in parts]) for name in self.makers},
        }
        ends = {name: side_by_side([half.runs[name] for half in parts]) for name in ENDS}
        groups = [name for half in parts for name in half.runs[ENDS[0]][0].groups]
        weights = resample(groups, self.settings.resamples, seed=0)
        return _Found(figures_of(curves, ends, self._budget, weights), ends)

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

    def queries(self) -> list[Query]:
        """All turns as the small expert meets them alone, with its answers."""
        contexts = contexts_of(self.dialogues, self.answers.small)
        asked = self.answers.small.predict(contexts)
        return [query_of(context, own) for context, own in zip(contexts, asked, strict=True)]

    def latency(self) -> dict[str, tuple[float, float]]:
        """Milliseconds of a decision by router, median and 95th percentile, one at a time."""
        assert self._pool is not None
        drawn = np.random.default_rng(self.config.seed).permutation(len(self.turns_of_data))
        queries = [self.queries()[place] for place in drawn[:_TIMED].tolist()]
        found = {}
        for name, make in self.makers.items():
            router = make(self._pool)
            times = []
            for query in queries:
                self.encoder.forget()
                started = time.perf_counter()
                router.scores([query])
                times.append(1e3 * (time.perf_counter() - started))
            found[name] = (float(np.median(times)), float(np.quantile(times, 0.95)))
        return found

    def save(self, folder: Path) -> dict[str, Any]:
        """Build the router of all dialogues that is best on them held out, and write it.

        A router without a pool has nothing to write.
        """
        self._pool = self.answers.pool(self.dialogues)
        queries = self.queries()
        right = self.answers.right(self.dialogues)
        found: list[tuple[float, str, float]] = []
        for name, make in self.makers.items():
            router = make(self._pool)
            asked = queries if router.needs_confidence else [_bare(query) for query in queries]
            scores = held_out_scores(self._pool, make, asked, seed=self.config.seed)
            cut = thresholds(scores, [self.settings.budget])[0]
            found.append((float(np.where(scores >= cut, right[1], right[0]).mean()), name, cut))
        score, name, cut = max(found, key=lambda each: each[0])
        facts = {
            "router": name,
            "wanted_share": self.settings.budget,
            "held_out_turn_accuracy": round(score, 4),
            "experts": [self.answers.small.name, self.answers.large.name],
            "saved": False,
        }
        pool = self._pool.balanced(0) if name == "knn_balanced" else self._pool
        kind = "knn" if name == "knn_balanced" else name
        if kind in KINDS and np.isfinite(cut):
            options = _OPTIONS.get(kind, lambda _: {})(self.settings)
            delta = self.settings.retriever
            save_router(folder, kind, pool, self.config.model, cut, options, facts, delta)
            facts["saved"] = True
        return facts

    def result(
        self,
        metrics: dict[str, float],
        seconds: float,
        where: dict[str, Any],
        mapping: dict[str, Any],
        router: Mapping[str, Any],
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
            validation=float(router["held_out_turn_accuracy"]),
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
                "router": dict(router),
                "unit": self.unit,
                "small": self.answers.small.name,
                "large": self.answers.large.name,
            },
        )


def _turns(data: DataConfig) -> list[Turn]:
    """The dialogues that are routed: those of the test split."""
    if data.kind == "multiwoz":
        return recorded_turns(data.root)
    if data.kind == "turns":
        if data.test is None:
            raise ConfigError("expected a JSONL file in data.test, got none; set data.test.")
        return read_jsonl(Path(data.root or ".") / data.test)
    return list(load_dialogues(data, 0, 1).test)


def _bare(query: Query) -> Query:
    return Query(query.id, query.text, query.group)
