"""The tables of a report as plain cells, which Markdown, HTML and CSV each write in their way."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sparseft.reporting.formats import (
    METRIC_NAMES,
    MISSING,
    bytes_text,
    difference_text,
    p_text,
    percent,
    percent_spread,
    ratio_spread,
    seconds_text,
    share_text,
)
from sparseft.reporting.summary import MethodSummary, Spread, Study, Summary

__all__ = ["Column", "Table", "columns", "overview", "summary_csv", "tuning_table"]


@dataclass(frozen=True)
class Column:
    """One column of a study's table.

    Attributes:
        key: a stable name.
        title: the heading.
        hint: what is measured, in one sentence.
        text: the cell of a method.
        value: what the cell is sorted by; None sorts last.
        is_cost: it belongs to the table of costs, not to that of scores.
    """

    key: str
    title: str
    hint: str
    text: Callable[[MethodSummary], str]
    value: Callable[[MethodSummary], float | None]
    is_cost: bool = False


@dataclass(frozen=True)
class Table:
    """Headings and rows of text; the first column names the row."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def columns(study: Study) -> list[Column]:
    """The columns of a study's two tables, without those that nothing was measured for."""
    metric = METRIC_NAMES[study.metric]
    reference = study.reference.label if study.reference else ""
    listed = [
        Column("seeds", "Seeds", "Runs at the chosen learning rate.", _seeds, _seed_count),
        Column(
            "lr",
            "lr",
            "The body's learning rate, chosen by the mean validation score, never by test scores.",
            lambda entry: f"{entry.lr:.3g}",
            lambda entry: entry.lr,
        ),
        Column(
            "score",
            f"{metric}, %",
            "On the test rows: mean ± standard deviation over seeds.",
            lambda entry: percent_spread(entry.score),
            lambda entry: entry.score.mean,
        ),
        Column(
            "macro_f1",
            "Macro-F1, %",
            "Mean of the classes' F1 on the test rows ± standard deviation over seeds.",
            lambda entry: percent_spread(entry.macro_f1),
            lambda entry: None if entry.macro_f1 is None else entry.macro_f1.mean,
        ),
        *[
            _metric_column(key, title, hint)
            for key, title, hint in _EXTRA_METRICS
            if all(key in run.result.metrics for entry in study.methods for run in entry.runs)
        ],
        Column(
            "difference",
            f"Difference to {reference}, points",
            "With its 95% interval from a paired bootstrap over seeds and test rows.",
            lambda entry: "reference" if entry.is_reference else difference_text(entry.comparison),
            lambda entry: (
                0.0
                if entry.is_reference
                else None
                if entry.comparison is None
                else entry.comparison.difference
            ),
        ),
        Column(
            "p",
            "p (Holm)",
            "Two-sided, of that bootstrap, corrected over the methods of this table.",
            lambda entry: p_text(None if entry.comparison is None else entry.comparison.p_holm),
            lambda entry: None if entry.comparison is None else entry.comparison.p_holm,
        ),
        Column(
            "step_ratio",
            "Step / full",
            "Median step time relative to full finetuning, seed by seed.",
            lambda entry: ratio_spread(entry.step_ratio),
            lambda entry: None if entry.step_ratio is None else entry.step_ratio.mean,
        ),
        Column(
            "step_ms",
            "Step, ms",
            "Median time of forward, backward and optimizer, after warm-up.",
            lambda entry: seconds_text(entry.step_ms.mean),
            lambda entry: entry.step_ms.mean,
            True,
        ),
        _cost_column("train_seconds", "Train, s", "Seconds of training.", seconds_text),
        Column(
            "seconds_to_best",
            "To best, s",
            "Seconds to the best validation score: head warm-up, analysis, steps, evaluations.",
            lambda entry: seconds_text(entry.seconds_to_best),
            lambda entry: entry.seconds_to_best,
            True,
        ),
        _cost_column(
            "analysis_seconds", "Analysis, s", "Seconds to choose what is trained.", seconds_text
        ),
        _cost_column("peak_memory_bytes", "Peak memory", "Of the training process.", bytes_text),
        Column(
            "trainable_share",
            "Trained",
            "Trained parameters as a share of all parameters, head included.",
            lambda entry: share_text(entry.trainable_share),
            lambda entry: entry.trainable_share,
            True,
        ),
        _cost_column("delta_bytes", "File", "Size of what a run saves.", bytes_text),
    ]
    return [
        column
        for column in listed
        if any(column.text(entry) not in (MISSING, "reference") for entry in study.methods)
    ]


_EXTRA_METRICS = (
    ("in_scope_accuracy", "In scope, %", "Accuracy on the test rows that belong to a class."),
    (
        "out_of_scope_recall",
        "Out of scope, %",
        "Share of the out-of-scope test rows that were recognised.",
    ),
)


def _seeds(entry: MethodSummary) -> str:
    return str(len(entry.runs))


def _seed_count(entry: MethodSummary) -> float:
    return float(len(entry.runs))


def _metric_column(key: str, title: str, hint: str) -> Column:
    def spread(entry: MethodSummary) -> Spread | None:
        return Spread.of(list(entry.scores(key).values()))

    def value(entry: MethodSummary) -> float | None:
        found = spread(entry)
        return None if found is None else found.mean

    return Column(key, title, hint, lambda entry: percent_spread(spread(entry)), value)


def _cost_column(key: str, title: str, hint: str, write: Callable[[float | None], str]) -> Column:
    return Column(
        key,
        title,
        f"{hint} Mean over seeds.",
        lambda entry: write(entry.cost(key)),
        lambda entry: entry.cost(key),
        True,
    )


def overview(summary: Summary) -> Table | None:
    """Scores of each method on each data set; None for a single data set."""
    if len(summary.studies) < 2:
        return None
    found: dict[str, dict[str, MethodSummary]] = {}
    for study in summary.studies:
        for entry in study.methods:
            found.setdefault(entry.label, {})[study.label] = entry

    def mean(label: str) -> tuple[int, float]:
        # Methods that ran everywhere first; a mean over fewer data sets is no fair order.
        entries = found[label].values()
        return len(entries), sum(entry.score.mean for entry in entries) / len(entries)

    rows = []
    for label in sorted(found, key=mean, reverse=True):
        entries = [found[label].get(study.label) for study in summary.studies]
        scores = [percent_spread(None if e is None else e.score) for e in entries]
        average = percent(mean(label)[1]) if None not in entries else MISSING
        rows.append((label, *scores, average))
    titles = [f"{study.label}, {METRIC_NAMES[study.metric].lower()} %" for study in summary.studies]
    return Table(("Method", *titles, "Mean"), tuple(rows))


def tuning_table(study: Study) -> Table:
    """Mean validation score of each method at each learning-rate scale, the chosen one marked."""
    scales = sorted({tried.lr_scale for entry in study.methods for tried in entry.tried})

    def cell(entry: MethodSummary, scale: float) -> str:
        at_scale = [tried for tried in entry.tried if tried.lr_scale == scale]
        if not at_scale:
            return MISSING
        # Two base rates at one scale would need two cells; the better one is the one that counts.
        best = max(at_scale, key=lambda tried: (tried.chosen, tried.validation.mean))
        mark = " ✓" if best.chosen else ""
        return f"{percent(best.validation.mean)} at {best.lr:.3g}{mark}"

    rows = [(entry.label, *[cell(entry, scale) for scale in scales]) for entry in study.methods]
    return Table(("Method", *[f"× {scale:g}" for scale in scales]), tuple(rows))


_CSV_COSTS = (
    "step_ms_median",
    "train_seconds",
    "evaluation_seconds",
    "analysis_seconds",
    "head_warmup_seconds",
    "flops_per_step",
    "peak_memory_bytes",
    "trainable_parameters",
    "total_parameters",
    "optimizer_state_bytes",
    "delta_bytes",
)


def summary_csv(summary: Summary) -> str:
    """One row per data set and method with unrounded numbers; empty where nothing was measured."""
    metrics = sorted(
        {
            name
            for study in summary.studies
            for entry in study.methods
            for run in entry.runs
            for name in run.result.metrics
        }
    )
    rows = [_csv_row(study, entry, metrics) for study in summary.studies for entry in study.methods]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _csv_row(
    study: Study, entry: MethodSummary, metrics: list[str]
) -> Mapping[str, str | float | int | None]:
    row: dict[str, str | float | int | None] = {
        "data": study.label,
        "model": study.model,
        "method": entry.label,
        "reference": int(entry.is_reference),
        "seeds": len(entry.runs),
        "lr": entry.lr,
        "learning_rates_tried": len(entry.tried),
        "leading_metric": study.metric,
        "validation_mean": next(t.validation.mean for t in entry.tried if t.chosen),
    }
    for name in metrics:
        values = [r.result.metrics[name] for r in entry.runs if name in r.result.metrics]
        spread = Spread.of(values)
        row[f"{name}_mean"] = None if spread is None else spread.mean
        row[f"{name}_sd"] = None if spread is None else spread.sd
    for key in ("difference", "low", "high", "p", "p_holm"):
        row[key] = None if entry.comparison is None else getattr(entry.comparison, key)
    ratio = entry.step_ratio
    row["step_ratio_mean"] = None if ratio is None else ratio.mean
    row["step_ratio_sd"] = None if ratio is None else ratio.sd
    row["seconds_to_best"] = entry.seconds_to_best
    row["trainable_share"] = entry.trainable_share
    for key in _CSV_COSTS:
        row[key] = entry.cost(key)
    return row
