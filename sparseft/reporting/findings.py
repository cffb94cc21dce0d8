"""What a study shows, in sentences that claim no more than its intervals allow."""

from __future__ import annotations

from sparseft.reporting.formats import (
    METRIC_NAMES,
    count_text,
    difference_text,
    p_text,
    percent_spread,
)
from sparseft.reporting.statistics import Comparison
from sparseft.reporting.summary import MethodSummary, Study, Summary

__all__ = ["METHOD_TEXT", "finding", "scope"]

METHOD_TEXT = (
    "Learning rates were chosen by the mean validation score over seeds; test scores played no "
    "part. Scores are means over seeds with the sample standard deviation. Differences are those "
    "of the method minus the reference on the same seeds and test rows; their 95% intervals and "
    "p values come from a paired bootstrap that draws seeds and test rows anew ({resamples:,} "
    "resamples), and p is corrected by Holm over the methods of a table. Step times are medians "
    "after warm-up; ratios compare the same seed on the same device. Times of runs that did not "
    "alternate on an idle machine carry that machine's noise."
)


def scope(summary: Summary) -> str:
    """How much went into the report: "84 runs · 2 data sets · 14 methods"."""
    methods = {entry.label for study in summary.studies for entry in study.methods}
    seeds = {run.result.seed for s in summary.studies for e in s.methods for run in e.runs}
    parts = [
        count_text(summary.run_count, "run"),
        count_text(len(summary.studies), "data set"),
        count_text(len(methods), "method"),
        count_text(len(seeds), "seed"),
    ]
    if summary.damaged:
        parts.append(f"{count_text(len(summary.damaged), 'damaged record')} left out")
    return " · ".join(parts)


def finding(study: Study) -> str:
    """The reference method against full finetuning and its best rival at no more cost."""
    reference = study.reference
    metric = METRIC_NAMES[study.metric].lower()
    if reference is None:
        best = study.methods[0]
        return f"{best.label} has the highest {metric}: {percent_spread(best.score)}%."
    first = f"{reference.label} reaches {percent_spread(reference.score)}% {metric}"
    full = study.full
    if full is not None and full is not reference:
        if reference.step_ratio is not None:
            first += f" at {reference.step_ratio.mean:.2f} of full finetuning's step time"
        first += f"; {full.label} reaches {percent_spread(full.score)}%{_against(full.comparison)}"
    sentences = [f"{first}."]
    rival = _rival(study, reference)
    if rival is not None:
        sentences.append(
            f"The best other method that costs no more per step is {rival.label} with "
            f"{percent_spread(rival.score)}%{_against(rival.comparison)}."
        )
    controls = [
        f"{entry.label} {percent_spread(entry.score)}%{_against(entry.comparison)}"
        for entry in study.methods
        if entry.method.startswith(f"{reference.method}_")
    ]
    if controls:
        sentences.append(f"Its controls and variants: {'; '.join(controls)}.")
    return " ".join(sentences)


def _rival(study: Study, reference: MethodSummary) -> MethodSummary | None:
    allowed = 1.02 * reference.step_ms.mean
    rivals = [
        entry
        for entry in study.methods
        if entry is not reference
        and not entry.method.startswith(reference.method)  # its own controls are no rivals
        and entry.step_ms.mean <= allowed
    ]
    return rivals[0] if rivals else None  # methods are sorted by score


def _against(found: Comparison | None) -> str:
    """The method's difference to the reference in brackets, as in the table."""
    return "" if found is None else f" ({difference_text(found)} points, p {p_text(found.p_holm)})"
