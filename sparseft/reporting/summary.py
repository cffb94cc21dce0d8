"""From runs to tables: choose the learning rate, average over seeds, compare with the reference."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sparseft.errors import ConfigError, ResultError
from sparseft.reporting.collect import Collection, Run
from sparseft.reporting.naming import (
    canonical,
    distinct_labels,
    method_options,
    study_settings,
)
from sparseft.reporting.protocol import environments, protocol_notes, provenance_notes
from sparseft.reporting.statistics import Comparison, RowScores, compare_all, mean_and_sd

__all__ = ["MethodSummary", "Spread", "Study", "Summary", "Tried", "summarise"]

FULL = "full"


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and its sample standard deviation (None for one seed)."""

    mean: float
    sd: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None where there are no values."""
        return cls(*mean_and_sd(values)) if values else None


@dataclass(frozen=True)
class Tried:
    """One learning rate of one method, as the validation data saw it."""

    lr: float
    lr_scale: float
    validation: Spread
    seeds: int
    chosen: bool


@dataclass(frozen=True)
class MethodSummary:
    """One row of a table.

    Attributes:
        label: the method's name, and its options where namesakes exist.
        method: the method's name.
        runs: of the chosen learning rate, by seed.
        tried: every learning rate.
        score: the leading test metric.
        step_ratio: step time relative to full finetuning of the same seed and device.
        comparison: against the reference; None for the reference itself and without predictions.
    """

    label: str
    method: str
    runs: tuple[Run, ...]
    tried: tuple[Tried, ...]
    score: Spread
    macro_f1: Spread | None
    step_ms: Spread
    step_ratio: Spread | None
    comparison: Comparison | None
    is_reference: bool = False

    @property
    def lr(self) -> float:
        """The chosen learning rate."""
        return next(entry.lr for entry in self.tried if entry.chosen)

    def scores(self, metric: str) -> dict[int, float]:
        """The test metric of each seed."""
        return {run.result.seed: run.result.metrics[metric] for run in self.runs}

    def mean_of(self, read: Callable[[Run], float | None]) -> float | None:
        """The mean over seeds of something that may not have been measured."""
        values = [value for run in self.runs if (value := read(run)) is not None]
        return statistics.fmean(values) if values else None

    def cost(self, key: str) -> float | None:
        """The mean over seeds of one entry of `cost`."""
        return self.mean_of(lambda run: run.result.cost.get(key))

    @property
    def trainable_share(self) -> float | None:
        """Trained parameters as a share of all parameters."""
        trained, total = self.cost("trainable_parameters"), self.cost("total_parameters")
        return trained / total if trained is not None and total else None

    @property
    def seconds_to_best(self) -> float:
        """Mean seconds to the best validation score, analysis and head warm-up included."""
        return statistics.fmean(run.result.seconds_to_best for run in self.runs)

    @property
    def heat_map(self) -> dict[str, Any] | None:
        """Where the selection lies, averaged over the seeds; None without a selection."""
        maps = [
            run.result.selection["heat_map"]
            for run in self.runs
            if run.result.selection and run.result.selection.get("heat_map")
        ]
        if not maps or any(found["modules"] != maps[0]["modules"] for found in maps):
            return None
        share = np.mean([np.asarray(found["share"], dtype=np.float64) for found in maps], axis=0)
        return {**maps[0], "share": share.tolist()}


@dataclass(frozen=True)
class Study:
    """One data set under one protocol: the methods that may be compared with each other."""

    label: str
    data: str
    model: str
    metric: str
    methods: tuple[MethodSummary, ...]
    notes: tuple[str, ...]
    test_rows: int | None

    @property
    def reference(self) -> MethodSummary | None:
        """The method that the others are compared with; None where it did not run."""
        return next((entry for entry in self.methods if entry.is_reference), None)

    @property
    def examples(self) -> list[dict[str, Any]]:
        """Texts with token saliency, of the reference's first run that wrote some."""
        runs = self.reference.runs if self.reference else ()
        return next((run.examples for run in runs if run.examples), [])

    @property
    def full(self) -> MethodSummary | None:
        """Full finetuning; None where it did not run."""
        return next((entry for entry in self.methods if entry.method == FULL), None)


@dataclass(frozen=True)
class Summary:
    """Everything that a report shows."""

    title: str
    reference: str
    studies: tuple[Study, ...]
    run_count: int
    damaged: tuple[str, ...]
    notes: tuple[str, ...]
    environments: tuple[str, ...]


def summarise(
    collection: Collection, reference: str = "sparse", resamples: int = 10_000, title: str = ""
) -> Summary:
    """Group, choose, average and compare.

    Runs are comparable where model, data, task and training settings are equal. For each method,
    the learning rate with the best mean validation score is chosen; test scores play no part.

    Args:
        collection: the runs.
        reference: the label (or name, where it is unique) of the method to compare with.
        resamples: of the bootstrap.
        title: of the report; made from the experiments' names where empty.

    Raises:
        ResultError: the same run occurs twice, or methods were tested on different rows.
        ConfigError: no data set has the reference.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in collection.runs:
        groups[canonical(study_settings(run.result.config))].append(run)
    ordered = sorted(groups.values(), key=lambda runs: (runs[0].result.data["name"], runs[0].path))
    labels = distinct_labels(
        [(runs[0].result.data["name"], study_settings(runs[0].result.config)) for runs in ordered]
    )
    studies = tuple(
        _study(runs, label, reference, resamples)
        for runs, label in zip(ordered, labels, strict=True)
    )
    if not any(study.reference for study in studies):
        known = sorted({entry.label for study in studies for entry in study.methods})
        raise ConfigError(
            f"expected the reference method {reference!r} among the results, got: "
            f"{', '.join(known)}; choose one of them with --reference."
        )
    experiments = sorted({run.result.experiment for run in collection.runs})
    return Summary(
        title=title or " + ".join(experiments),
        reference=reference,
        studies=studies,
        run_count=len(collection.runs),
        damaged=collection.damaged,
        notes=provenance_notes(collection.runs),
        environments=environments(collection.runs),
    )


def _study(runs: list[Run], label: str, reference: str, resamples: int) -> Study:
    variants: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        key = canonical({"": run.result.method, **method_options(run.result.config)})
        variants[key].append(run)
    groups = list(variants.values())
    labels = distinct_labels(
        [(group[0].result.method, method_options(group[0].result.config)) for group in groups]
    )
    metric = _leading_metric(runs)
    methods = [_method(group, name, metric) for group, name in zip(groups, labels, strict=True)]
    place = _reference_place(methods, reference)
    full = next((entry for entry in methods if entry.method == FULL), None)
    methods = [
        replace(entry, step_ratio=_step_ratio(entry, full), is_reference=number == place)
        for number, entry in enumerate(methods)
    ]
    notes = protocol_notes(methods)
    if place is None:
        notes.append(f"No method named “{reference}” ran here, so nothing is compared.")
    else:
        compared, without = _comparisons(methods, place, resamples)
        methods = [replace(entry, comparison=compared.get(entry.label)) for entry in methods]
        if without:
            notes.append(
                f"No predictions in common with {methods[place].label}, so no interval: "
                + ", ".join(without)
                + "."
            )
    methods.sort(key=lambda entry: (-entry.score.mean, entry.label))
    tested = {len(run.scores.ids) for run in runs if run.scores}
    return Study(
        label=label,
        data=runs[0].result.data["name"],
        model=runs[0].result.model,
        metric=metric,
        methods=tuple(methods),
        notes=tuple(notes),
        test_rows=tested.pop() if len(tested) == 1 else None,
    )


def _leading_metric(runs: list[Run]) -> str:
    """micro_f1 where texts may have several labels, else accuracy: what the bootstrap compares."""
    multi_label = any(run.result.data.get("multi_label") for run in runs)
    # Records without that flag: micro-F1 is only reported where it is not the accuracy.
    flagged = all("multi_label" in run.result.data for run in runs)
    if not flagged:
        multi_label = all("micro_f1" in run.result.metrics for run in runs)
    metric = "micro_f1" if multi_label else "accuracy"
    for run in runs:
        if metric not in run.result.metrics:
            raise ResultError(
                f"expected metrics.{metric} in {run.path}, got "
                f"{', '.join(sorted(run.result.metrics))}; remove it and run again."
            )
    return metric


def _method(runs: list[Run], label: str, metric: str) -> MethodSummary:
    by_lr: dict[tuple[float, float], dict[int, Run]] = defaultdict(dict)
    for run in runs:
        tuning = run.result.tuning
        same = by_lr[tuning["lr"], tuning["lr_scale"]]
        if run.result.seed in same:
            raise ResultError(
                f"expected one result for {label}, learning rate {tuning['lr']:g}, seed "
                f"{run.result.seed}, got {same[run.result.seed].path} and {run.path}; remove one."
            )
        same[run.result.seed] = run
    most = max(len(seeds) for seeds in by_lr.values())
    spreads = {
        key: Spread(*mean_and_sd([seeds[s].result.validation for s in sorted(seeds)]))
        for key, seeds in by_lr.items()
    }
    # A rate with fewer seeds may have been lucky; equals: the one nearest the default.
    chosen = min(
        (key for key in by_lr if len(by_lr[key]) == most),
        key=lambda key: (-spreads[key].mean, abs(math.log(key[1])), key),
    )
    best = tuple(by_lr[chosen][seed] for seed in sorted(by_lr[chosen]))
    tried = tuple(
        Tried(key[0], key[1], spreads[key], len(by_lr[key]), key == chosen) for key in sorted(by_lr)
    )
    score = Spread.of([run.result.metrics[metric] for run in best])
    step_ms = Spread.of([run.result.cost["step_ms_median"] for run in best])
    assert score is not None and step_ms is not None  # a method has at least one run
    return MethodSummary(
        label=label,
        method=runs[0].result.method,
        runs=best,
        tried=tried,
        score=score,
        macro_f1=Spread.of(
            [r.result.metrics["macro_f1"] for r in best if "macro_f1" in r.result.metrics]
        ),
        step_ms=step_ms,
        step_ratio=None,
        comparison=None,
    )


def _reference_place(methods: list[MethodSummary], reference: str) -> int | None:
    exact = [i for i, entry in enumerate(methods) if entry.label == reference]
    named = [i for i, entry in enumerate(methods) if entry.method == reference]
    if exact:
        return exact[0]
    if len(named) > 1:
        raise ConfigError(
            f"expected one reference method, got {len(named)} named {reference!r}; choose one with "
            "--reference: " + ", ".join(repr(methods[i].label) for i in named) + "."
        )
    return named[0] if named else None


def _step_ratio(entry: MethodSummary, full: MethodSummary | None) -> Spread | None:
    """Step time over that of full finetuning, seed by seed, on the same device and threads only."""
    if full is None:
        return None

    def place(run: Run) -> tuple[Any, Any, int]:
        return (
            run.result.environment["device"],
            run.result.environment["threads"],
            run.result.seed,
        )

    bases = {place(run): run.result.cost["step_ms_median"] for run in full.runs}
    return Spread.of(
        [
            run.result.cost["step_ms_median"] / bases[place(run)]
            for run in entry.runs
            if bases.get(place(run))
        ]
    )


def _comparisons(
    methods: list[MethodSummary], place: int, resamples: int
) -> tuple[dict[str, Comparison], list[str]]:
    """The comparisons by label, and the labels that have nothing in common with the reference."""

    def scores(entry: MethodSummary) -> dict[int, RowScores]:
        return {run.result.seed: run.scores for run in entry.runs if run.scores is not None}

    others = {e.label: scores(e) for number, e in enumerate(methods) if number != place}
    compared = compare_all(scores(methods[place]), others, resamples)
    return compared, [label for label in others if label not in compared]
