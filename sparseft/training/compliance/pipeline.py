"""The way of one run: corpus, reader, method, training in one or two rounds, calibration, test."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sparseft import files, methods, models
from sparseft.compliance import Example, Record, Schema, load_schema
from sparseft.compliance.corpora import load_corpus, variants_of
from sparseft.compliance.corpus import Corpus
from sparseft.compliance.evaluator import Evaluator, import_rules
from sparseft.compliance.loading import SETTINGS_FILE
from sparseft.compliance.rules import check_rules
from sparseft.compliance.scores import check_scorers, score
from sparseft.config import ComplianceConfig, RunConfig
from sparseft.errors import ConfigError
from sparseft.methods import Prepared
from sparseft.results import environment
from sparseft.training.compliance.decoder_side import DecoderSide
from sparseft.training.compliance.encoder_side import EncoderSide
from sparseft.training.compliance.metrics import main_metrics
from sparseft.training.compliance.side import Rows, Side
from sparseft.training.compliance.targeting import Target, draw_variants, targets
from sparseft.training.devices import device_name, resolve_device
from sparseft.training.folder import RunOutcome, finished_result, run_folder, tracker_of_run
from sparseft.training.loop import train
from sparseft.training.prefix_cache import CacheOfRun, build_for_run
from sparseft.training.preparing import prepare_task
from sparseft.training.progress import TrainOutcome
from sparseft.training.record import MetricsLog
from sparseft.training.recording import result_of_task, save_task_delta

__all__ = ["EvaluatedRun", "execute_compliance"]

_log = logging.getLogger(__name__)

_METRIC = "field_accuracy"


@dataclass(frozen=True)
class EvaluatedRun:
    """What a run holds at its end, for whoever wants to look at it."""

    config: RunConfig
    corpus: Corpus
    evaluator: Evaluator
    records: list[Record]
    metrics: dict[str, float]
    folder: Path


def execute_compliance(
    config: RunConfig, look: Callable[[EvaluatedRun], object] | None = None
) -> RunOutcome:
    """Do one run, or find it done: same configuration and same commit.

    Written to the run's folder: config.json, metrics.jsonl, result.json, records.jsonl (the test
    records with their gold), and for the sparse method `delta/`, which `load_evaluator` reads.

    Args:
        config: the run's settings; `config.task.compliance` is set.
        look: called once with the evaluated run, before result.json is written.

    Raises:
        SparseftError: any of its kinds; result.json exists only after a run that ended well.
    """
    settings = config.task.compliance
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
    method = methods.get(str(config.method["name"]))
    _check(config)
    import_rules(settings.rules)
    schema = load_schema(settings.schema)
    if settings.owner == "model":
        schema = schema.with_all_by_model()
    check_rules(schema)
    check_scorers(schema)
    corpus = load_corpus(config.data, schema, config.seed)
    side = _side(config, settings, corpus, device)
    run = _Run(config, settings, corpus, side)
    prepared = run.prepare(method)
    files.write_json(folder / "config.json", mapping)
    tracker = tracker_of_run(config, folder, mapping)
    summary: dict[str, Any] = {}
    try:
        with MetricsLog(folder / "metrics.jsonl", tracker, after_step=0) as log:
            outcome, cache, notes = run.train(prepared, log)
        evaluator, calibration = run.evaluator()
        records, seconds = run.records(evaluator)
        metrics, scores = run.scores(records, seconds)
        delta_bytes = run.save(folder, prepared, evaluator, metrics)
        _write_records(folder / "records.jsonl", corpus.test, records)
        # Not sorted: the fields' order is part of the schema.
        files.write_json(folder / "scores.json", scores, sort_keys=False)
        if look is not None:
            look(EvaluatedRun(config, corpus, evaluator, records, metrics, folder))
        result = result_of_task(
            config,
            prepared,
            outcome,
            cache,
            metric=_METRIC,
            metrics=metrics,
            data={"name": corpus.name, "sha256": corpus.sha256, **corpus.report},
            head_seconds=run.head_seconds,
            total_parameters=run.total_parameters,
            delta_bytes=delta_bytes,
            environment=where,
            notes={**notes, "calibration": calibration},
        )
        result.save(folder / "result.json")
        summary = {f"test/{name}": value for name, value in metrics.items()}
    finally:
        if tracker is not None:
            tracker.finish(summary)
    return RunOutcome(result, folder)


def _check(config: RunConfig) -> None:
    settings = config.task.compliance
    assert settings is not None
    if config.constructs.mine:
        raise ConfigError(
            "expected constructs=none with task=compliance, got mined ones: they are of labelled "
            "texts; leave constructs out."
        )
    if settings.hard_negatives in (0, "auto"):
        return
    if settings.hard_negative_epochs >= config.training.epochs:
        raise ConfigError(
            "expected task.compliance.hard_negative_epochs below training.epochs "
            f"({config.training.epochs}), got {settings.hard_negative_epochs}; change one of them."
        )
    if variants_of(config.data) is None:
        raise ConfigError(
            f"expected data that hard negatives can be made of (data=service), got "
            f"{config.data.name}; set task.compliance.hard_negatives=0."
        )


def _side(
    config: RunConfig, settings: ComplianceConfig, corpus: Corpus, device: torch.device
) -> Side:
    """The kind of reader that is asked for, or that the model is made for."""
    kind = settings.reader
    if kind == "auto":
        kind = "encoder" if models.is_encoder(config.model) else "decoder"
    return (EncoderSide if kind == "encoder" else DecoderSide)(config, corpus, device)


class _Run:
    """The loaded parts of one run."""

    def __init__(
        self, config: RunConfig, settings: ComplianceConfig, corpus: Corpus, side: Side
    ) -> None:
        self.config = config
        self.settings = settings
        self.corpus = corpus
        self.side = side
        self.schema: Schema = corpus.schema
        self.total_parameters = sum(p.numel() for p in side.model.parameters())
        self.train_batches = side.batches(corpus.train, seed=config.seed)
        self.validation = side.batches(corpus.validation)
        self.head_seconds = 0.0

    def prepare(self, method: methods.Method) -> Prepared:
        """The model made ready by the method."""
        warm = self.side.warm_up(self.train_batches)
        self.head_seconds = 0.0 if warm is None else warm.seconds
        held_out = None if warm is None else warm.held_out
        return prepare_task(
            self.config,
            method,
            self.side.model,
            self.train_batches,
            held_out,
            self.settings.analysis_batches,
        )

    def train(
        self, prepared: Prepared, log: MetricsLog
    ) -> tuple[TrainOutcome, CacheOfRun, dict[str, Any]]:
        """Both rounds, or the one where no hard negatives are asked for."""
        training = self.config.training
        count, extra = self.second_round()
        first = replace(training, epochs=training.epochs - extra)
        outcome, cache = self.round(prepared, self.train_batches, first, log)
        if not count:
            return outcome, cache, {}
        aims = self.aims()
        made = variants_of(self.config.data)
        assert made is not None
        added = draw_variants(self.corpus.train, made[1], aims, count, self.config.seed)
        rows = self.side.batches([*self.corpus.train, *added], seed=self.config.seed + 1)
        second = replace(training, epochs=extra)
        log.shift = int(outcome.cost["steps"])
        later, more = self.round(prepared, rows, second, log)
        notes = {
            "hard_negatives": {
                "rows": len(added),
                "by_kind": {aim.kind: [aim.rows, aim.wrong] for aim in aims},
                "first_round": {"validation": outcome.score, "steps": outcome.cost["steps"]},
            }
        }
        seconds = outcome.cost["train_seconds"] + outcome.cost["evaluation_seconds"]
        return _both(outcome, later, seconds), _both_caches(cache, more), notes

    def second_round(self) -> tuple[int, int]:
        """How many hard negatives are wanted, and for how many epochs."""
        count, epochs = self.settings.hard_negatives, self.settings.hard_negative_epochs
        if count == "auto":
            epochs = min(epochs, self.config.training.epochs - 1)
            made = variants_of(self.config.data) is not None
            count = len(self.corpus.train) if made and epochs else 0
        return (count, epochs) if count else (0, 0)

    def round(
        self, prepared: Prepared, rows: Rows, training: Any, log: MetricsLog
    ) -> tuple[TrainOutcome, CacheOfRun]:
        """One training, from the values as they are."""
        cache = build_for_run(prepared.model, (rows, self.validation), training)
        outcome = train(
            prepared,
            rows,
            lambda: self.side.validate(self.validation, cache.cache),
            training,
            lr=self.config.lr * prepared.lr_factor,
            metric=_METRIC,
            seed=self.config.seed,
            log=log,
            cache=cache.cache,
        )
        return outcome, cache

    def aims(self) -> list[Target]:
        """What the model confuses among the hard negatives of validation examples."""
        made = variants_of(self.config.data)
        assert made is not None
        kinds, variants = made
        right: dict[str, list[bool]] = {}
        for kind in kinds:
            rows = [
                variant
                for example in self.corpus.validation
                for variant in variants(example, (kind,), self.config.seed)
            ]
            if rows:
                right[kind] = self.side.judged(rows)
        return targets(kinds, right)

    def evaluator(self) -> tuple[Evaluator, dict[str, Any]]:
        """The trained model with rules and thresholds, calibrated on the validation examples."""
        evaluator = Evaluator(self.side.reader())
        calibration = evaluator.calibrate(
            self.corpus.train,
            self.corpus.validation,
            self.settings.recall_margin,
            self.settings.alarm_precision,
        )
        return evaluator, calibration

    def records(self, evaluator: Evaluator) -> tuple[list[Record], list[float]]:
        """The test records, and the seconds of each, one transcript at a time."""
        records, seconds = [], []
        for example in self.corpus.test:
            started = time.perf_counter()
            records.extend(evaluator.evaluate([example.transcript]))
            seconds.append(time.perf_counter() - started)
        return records, seconds

    def scores(
        self, records: list[Record], seconds: list[float]
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """The record's metrics, and all scores with their intervals."""
        scores = score(
            self.corpus.test, records, self.schema, train=self.corpus.train, seed=self.config.seed
        )
        return main_metrics(scores, seconds, self.settings), scores

    def save(
        self, folder: Path, prepared: Prepared, evaluator: Evaluator, metrics: dict[str, float]
    ) -> int:
        """Write the delta with all that an evaluation needs; returns the bytes of its values."""
        return save_task_delta(
            self.config,
            prepared,
            folder,
            data={"name": self.corpus.name, "sha256": self.corpus.sha256},
            metrics=metrics,
            # Not sorted: the order of fields and values is part of a schema.
            beside={SETTINGS_FILE: json.dumps(evaluator.settings(), indent=2)},
        )


def _both(first: TrainOutcome, later: TrainOutcome, seconds: float) -> TrainOutcome:
    """Two rounds as one: the later one's values are kept, the times of both are paid."""
    summed = ("steps", "train_seconds", "evaluation_seconds", "refresh_seconds")
    cost = {**later.cost, **{name: first.cost[name] + later.cost[name] for name in summed}}
    peaks = [outcome.cost["peak_memory_bytes"] for outcome in (first, later)]
    cost["peak_memory_bytes"] = None if None in peaks else max(peaks)
    return replace(later, cost=cost, seconds_to_best=seconds + later.seconds_to_best)


def _both_caches(first: CacheOfRun, later: CacheOfRun) -> CacheOfRun:
    return replace(later, seconds=first.seconds + later.seconds)


def _write_records(path: Path, examples: Sequence[Example], records: Sequence[Record]) -> None:
    lines = [
        json.dumps(
            {**record.to_json(), "gold": dict(example.gold), "tags": list(example.tags)},
            ensure_ascii=False,
        )
        for example, record in zip(examples, records, strict=True)
    ]
    files.write_text(path, "\n".join(lines) + "\n")
