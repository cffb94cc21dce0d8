"""Tables from results/retrievers/: every retriever against the pretrained one.

python experiments/routing/retrievers_table.py [--readme]
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from retrievers import COMPARED, RATES, RESULTS, RETRIEVERS, _file
from table import _measured

from sparseft import files
from sparseft.routing.scores import Ends, Measured, aiq, points_of, resample

_HERE = Path(__file__).parent
_RESAMPLES = 1000
_SEEDS = (0, 1)
_HALF = RATES.index(0.5)
_MARKS = ("<!-- retrievers -->", "<!-- /retrievers -->")
_ROUTERS = ("knn", "weighted knn", "classifier")
FIGURES = ("auc", "aiq", "half")


@dataclass(frozen=True)
class Cell:
    """One pair and one retriever: a figure's value and its resamples [R], by router.

    Attributes:
        values: by (router, figure).
        drawn: likewise, [R], the same resamples of dialogues in every cell.
        share: of large calls at half, by router.
    """

    values: dict[tuple[str, str], float]
    drawn: dict[tuple[str, str], np.ndarray]
    share: dict[str, float]


def area(scores: np.ndarray, needed: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The area under the ROC curve of scores [N] for each row of weights [R, N], ties counted half.

    Returns:
        [R]
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    up = np.add.reduceat(weights[:, order] * needed[order], starts, axis=1)
    down = np.add.reduceat(weights[:, order] * ~needed[order], starts, axis=1)
    below = np.cumsum(down, axis=1) - down / 2
    found: np.ndarray = (up * below).sum(1) / (up.sum(1) * down.sum(1))
    return found


def load(pair: str, retriever: str) -> list[dict[str, Any]]:
    """The records of the seeds that have run."""
    paths = [RESULTS / f"{pair}.seed{seed}.{_file(retriever)}.json" for seed in _SEEDS]
    return [files.read_json(path) for path in paths if path.is_file()]


def cell(runs: Sequence[dict[str, Any]], ends: Sequence[dict[str, Any]]) -> Cell:
    """The figures of one pair and retriever.

    Args:
        runs: of the seeds.
        ends: the vanilla runs of the same seeds, which hold the models alone.
    """
    alone: dict[str, Measured] = {}
    for name in ("small alone", "large alone"):
        alone[name] = _joined([_measured(run["curves"][name], "state")[0] for run in ends])
    values: dict[tuple[str, str], float] = {}
    drawn: dict[tuple[str, str], np.ndarray] = {}
    share: dict[str, float] = {}
    for router in _ROUTERS:
        areas = _areas(runs, router)
        values[router, "auc"], drawn[router, "auc"] = float(areas[0]), areas[1:]
        if router not in runs[0]["curves"]:
            continue
        parts = [_measured(run["curves"][router], "state") for run in runs]
        measured = _joined([part for part, _ in parts])
        groups = [group for _, own in parts for group in own]
        rows = [None, *resample(groups, _RESAMPLES, seed=0)]
        own = np.array([_read(measured, alone, weights) for weights in rows])
        for place, figure in enumerate(("aiq", "half")):
            values[router, figure] = float(own[0, place])
            drawn[router, figure] = own[1:, place]
        share[router] = points_of(measured)[_HALF].share
    return Cell(values, drawn, share)


def _read(
    measured: Measured, alone: dict[str, Measured], weights: np.ndarray | None
) -> tuple[float, float]:
    points = points_of(measured, weights)
    small, large = (points_of(alone[name], weights)[0] for name in ("small alone", "large alone"))
    return aiq(points, Ends(small, large)), points[_HALF].quality


def _areas(runs: Sequence[dict[str, Any]], router: str) -> np.ndarray:
    """Of all turns (first) and of each resample, the mean over halves and seeds, [1 + R]."""
    groups = [group for run in runs for half in run["scores"]["groups"] for group in half]
    weights = np.vstack([np.ones(len(groups)), resample(groups, _RESAMPLES, seed=0)])
    found, start = [], 0
    for run in runs:
        scores = run["scores"]
        for own, needed in zip(scores[router], scores["needed"], strict=True):
            count = len(own)
            wanted = np.frombuffer(needed.encode(), dtype=np.uint8) == ord("1")
            part = weights[:, start : start + count]
            found.append(area(np.array(own), wanted, part))
            start += count
    return np.mean(found, axis=0)


def _joined(parts: Sequence[Measured]) -> Measured:
    return Measured(
        *(
            np.concatenate([getattr(part, key) for part in parts], axis=1)
            for key in ("right", "large", "cost")
        )
    )


def _difference(cells: Sequence[tuple[Cell, Cell]], key: tuple[str, str]) -> tuple[float, ...]:
    """Mean over pairs of the difference to vanilla, with its interval."""
    value = float(np.mean([own.values[key] - base.values[key] for own, base in cells]))
    drawn = np.mean([own.drawn[key] - base.drawn[key] for own, base in cells], axis=0)
    low, high = np.quantile(drawn[np.isfinite(drawn)], [0.025, 0.975])
    return value, float(low), float(high)


def _lines(table: dict[tuple[str, str], Cell]) -> list[str]:
    """Means over the pairs that a retriever has run on."""
    lines = [
        "| retriever | pairs | router | AUC | − vanilla | AIQ | − vanilla | large calls "
        "| accuracy at half | − vanilla |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for retriever in RETRIEVERS:
        pairs = [pair for pair in COMPARED if (pair, retriever) in table]
        cells = [(table[pair, retriever], table[pair, "vanilla"]) for pair in pairs]
        for router in _ROUTERS if pairs else ():
            row = f"| {retriever} | {len(pairs)} | {router} "
            for figure in FIGURES:
                key = (router, figure)
                if key not in cells[0][0].values:
                    row += "| | | " if figure == "half" else "| | "
                    continue
                if figure == "half":
                    row += f"| {np.mean([own.share[router] for own, _ in cells]):.2f} "
                unit = 1 if figure == "auc" else 100
                digits = 3 if figure == "auc" else 1
                value = np.mean([own.values[key] for own, _ in cells])
                row += f"| {unit * value:.{digits}f} | "
                if retriever != "vanilla":
                    above, low, high = (unit * each for each in _difference(cells, key))
                    row += f"{above:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f}) "
            lines.append(row + "|")
    return lines


def _csv(table: dict[tuple[str, str], Cell]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["pair", "retriever", "router", "figure", "value", "minus_vanilla", "low", "high"]
    )
    for (pair, retriever), own in table.items():
        base = table[pair, "vanilla"]
        for router, figure in own.values:
            key = (router, figure)
            figures = [own.values[key], *_difference([(own, base)], key)]
            writer.writerow([pair, retriever, router, figure, *(f"{v:.4f}" for v in figures)])
    return out.getvalue()


def _trainings() -> list[str]:
    """What the retrievers that do not depend on a pool learned, on held-out training dialogues."""
    lines = [
        "| finetuning | texts | trained weights | rank correlation before | after | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for path in sorted((RESULTS / "trainings").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        facts = content["facts"]
        lines.append(
            f"| {content['retriever']} | {facts['texts']:,} | {facts['trained']:,} "
            f"| {facts['rank_correlation']['before']:.3f} "
            f"| {facts['rank_correlation']['after']:.3f} | {facts['seconds'] / 60:.1f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    arguments = parser.parse_args()
    table: dict[tuple[str, str], Cell] = {}
    for pair in COMPARED:
        base = load(pair, "vanilla")
        for retriever in RETRIEVERS:
            runs = load(pair, retriever)
            seeds = {run["seed"] for run in runs}
            ends = [run for run in base if run["seed"] in seeds]
            if runs and len(ends) == len(runs) == len(base):
                table[pair, retriever] = cell(runs, ends)
    if not table:
        raise SystemExit(
            "expected results/retrievers/*.json, got none; run experiments/routing/retrievers.py "
            "first."
        )
    seeds = max(len(load(pair, "vanilla")) for pair in COMPARED)
    text = "\n".join(
        [
            f"Means over pairs (of {', '.join(COMPARED)}); {seeds} drawing of the halves, "
            f"cross-fitted; differences on the same pairs; {_RESAMPLES:,} bootstraps by dialogue, "
            "the same ones in all pairs.",
            "",
            *_lines(table),
            "",
            *_trainings(),
            "",
        ]
    )
    files.write_text(_HERE / "tables" / "retrievers.md", text)
    files.write_text(_HERE / "tables" / "retrievers.csv", _csv(table))
    print(text)
    if arguments.readme:
        page = _HERE / "README.md"
        head, _, rest = page.read_text(encoding="utf-8").partition(_MARKS[0])
        _, _, tail = rest.partition(_MARKS[1])
        files.write_text(page, f"{head}{_MARKS[0]}\n{text}{_MARKS[1]}{tail}")


if __name__ == "__main__":
    main()
