"""Notes on where a comparison is less even than it looks, and where the runs took place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparseft.reporting.collect import Run

if TYPE_CHECKING:
    from sparseft.reporting.summary import MethodSummary

__all__ = ["environments", "protocol_notes", "provenance_notes"]

_ENOUGH_SEEDS = 5


def protocol_notes(methods: Sequence[MethodSummary]) -> list[str]:
    """What differs between the methods of one table beside the method."""
    notes = []
    rates = {entry.label: len(entry.tried) for entry in methods}
    if len(set(rates.values())) > 1:
        listed = ", ".join(f"{label} {count}" for label, count in rates.items())
        notes.append(f"Not the same number of learning rates was tried: {listed}.")
    seeds = {entry.label: tuple(run.result.seed for run in entry.runs) for entry in methods}
    if len(set(seeds.values())) > 1:
        listed = ", ".join(f"{label} {len(found)}" for label, found in seeds.items())
        notes.append(f"Not the same seeds ran for all methods: {listed}.")
    partial = [e.label for e in methods if len({tried.seeds for tried in e.tried}) > 1]
    if partial:
        notes.append(
            "Learning rates with fewer seeds than others of the same method were not eligible: "
            + ", ".join(partial)
            + "."
        )
    edge = [
        entry.label
        for entry in methods
        if len(entry.tried) > 1 and (entry.tried[0].chosen or entry.tried[-1].chosen)
    ]
    if edge:
        notes.append(
            "The chosen learning rate is the lowest or highest that was tried, so a better one may "
            "lie beyond: " + ", ".join(edge) + "."
        )
    if max(len(found) for found in seeds.values()) < _ENOUGH_SEEDS:
        notes.append(
            "Fewer than five seeds: a bootstrap over so few understates how much seeds differ."
        )
    return notes


def provenance_notes(runs: Sequence[Run]) -> tuple[str, ...]:
    """What differs between the runs beside their settings."""
    notes = []
    commits = {run.result.environment["commit"] for run in runs}
    if len(commits) > 1:
        notes.append(f"The runs come from {len(commits)} commits.")
    dirty = sum(bool(run.result.environment["dirty"]) for run in runs)
    if dirty:
        notes.append(f"{dirty} of {len(runs)} runs had uncommitted changes.")
    machines = {(r.result.environment["device"], r.result.environment["threads"]) for r in runs}
    if len(machines) > 1:
        notes.append(
            f"The runs took place on {len(machines)} kinds of device or thread count; step times "
            "are compared only within one."
        )
    return tuple(notes)


def environments(runs: Sequence[Run]) -> tuple[str, ...]:
    """Device, versions and commit of the runs, each combination once."""
    described = set()
    for run in runs:
        where = run.result.environment
        threads = where["threads"]
        described.add(
            f"{where['device']}, {threads} thread{'' if threads == 1 else 's'}; "
            f"Python {where['python']}, torch {where['torch']}, "
            f"transformers {where['transformers']}; commit {str(where['commit'])[:12]}"
        )
    return tuple(sorted(described))
