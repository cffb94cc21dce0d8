"""Tables and curves from results/: every router at every rate, and what is read off its curve.

python experiments/routing/table.py [--readme]
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from settings import PAIRS, RATES, SEEDS, Pair

from sparseft import files
from sparseft.routing.comparison import ENDS
from sparseft.routing.scores import Ends, Measured, RouterFigures, ends_of, figures_of, resample

_HERE = Path(__file__).parent
_RESAMPLES = 1000
_HALF = RATES.index(0.5)
_MARKS = ("<!-- routing -->", "<!-- /routing -->")


@dataclass(frozen=True)
class Study:
    """A pair's runs, the turns of all seeds and halves beside one another.

    Attributes:
        curves: by router, a row for each rate.
        groups: of the turns; a dialogue is the same group in every drawing of the halves.
    """

    pair: Pair
    seeds: int
    unit: str
    curves: dict[str, Measured]
    groups: tuple[str, ...]

    def ends(self) -> Ends:
        return ends_of(self.curves)


def load(pair: Pair, metric: str) -> Study | None:
    """The study of one pair; None where nothing has run.

    Args:
        metric: state (joint goal accuracy) or turn (the turn's update).
    """
    paths = [_HERE / "results" / f"{pair.name}.seed{seed}.json" for seed in SEEDS]
    found = [files.read_json(path) for path in paths if path.is_file()]
    if not found:
        return None
    curves, groups = {}, ()
    for name in found[0]["curves"]:
        parts = [_measured(each["curves"][name], metric) for each in found]
        curves[name] = Measured(
            *(np.concatenate([getattr(p, key) for p, _ in parts], axis=1) for key in _KEYS)
        )
        groups = tuple(group for _, own in parts for group in own)
    return Study(pair, len(found), found[0]["unit"], curves, groups)


_KEYS = ("right", "large", "cost")


def _measured(runs: Sequence[dict[str, Any]], metric: str) -> tuple[Measured, tuple[str, ...]]:
    """Both halves of one drawing: their turns side by side, rates in rows."""
    by_rate: dict[Any, list[dict[str, Any]]] = {}
    for entry in runs:
        by_rate.setdefault(entry["rate"], []).append(entry)
    rows = [
        [
            np.concatenate([_bits(half[metric]) for half in halves]),
            np.concatenate([_bits(half["large"]) for half in halves]),
            np.concatenate([np.array(half["cost"]) for half in halves]),
        ]
        for halves in by_rate.values()
    ]
    first = next(iter(by_rate.values()))
    groups = tuple(name for half in first for name, count in half["groups"] for _ in range(count))
    return Measured(*(np.stack(column) for column in zip(*rows, strict=True))), groups


def _bits(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8) == ord("1")


def _figures(study: Study, weights: np.ndarray) -> list[RouterFigures]:
    curves = {name: own for name, own in study.curves.items() if name not in ENDS}
    return figures_of(curves, study.curves, _HALF, weights)


def _tables(studies: Sequence[Study]) -> tuple[str, list[tuple[str, RouterFigures]]]:
    lines: list[str] = []
    every: list[tuple[str, RouterFigures]] = []
    for study in studies:
        weights = resample(study.groups, _RESAMPLES, seed=0)
        ends, rows = study.ends(), _figures(study, weights)
        every.extend((study.pair.name, row) for row in rows)
        lines += [
            f"**{study.pair.name}**: small `{study.pair.small}`, large `{study.pair.large}` "
            f"(prompt: {study.pair.prompt}). Joint goal accuracy {100 * ends.small.quality:.1f} "
            f"and {100 * ends.large.quality:.1f}, oracle {100 * (ends.oracle or 0):.1f}; a turn of "
            f"the small costs {ends.small.cost / ends.large.cost:.2f} of the large ({study.unit}); "
            f"{study.seeds} of {len(SEEDS)} drawings of the halves.",
            "",
            "| router | AIQ | APGR | CPT50 | CPT80 | large calls | accuracy | − large alone | cost "
            "| gap to oracle closed |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in sorted(rows, key=lambda each: -each.aiq):
            low, high = (100 * value for value in row.aiq_interval)
            below, top = (100 * value for value in row.above_interval)
            lines.append(
                f"| {row.router} | {100 * row.aiq:.1f} ({low:.1f}–{high:.1f}) "
                f"| {row.apgr:.2f} | {row.cpt50:.2f} | {row.cpt80:.2f} "
                f"| {row.share:.2f} | {100 * row.quality:.1f} "
                f"| {100 * row.above_large:+.1f} ({below:.1f} to {top:.1f}) "
                f"| {row.cost:.2f} | {row.gap_closed:.2f} |"
            )
        lines.append("")
    return "\n".join(lines).rstrip() + "\n", every


def _csv(rows: Sequence[tuple[str, RouterFigures]]) -> str:
    """Every router at every rate."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["pair", "router", "wanted_rate", "large_share", "cost", "accuracy"])
    for pair, row in rows:
        for rate, point in zip(RATES, row.points, strict=True):
            figures = (f"{point.share:.4f}", f"{point.cost:.6g}", f"{point.quality:.4f}")
            writer.writerow([pair, row.router, rate, *figures])
    return out.getvalue()


def main(write: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    arguments = parser.parse_args()
    for metric, name in (("state", "joint_goal"), ("turn", "turn")):
        studies = [found for pair in PAIRS if (found := load(pair, metric)) is not None]
        if not studies:
            raise SystemExit(
                "expected results/*.json, got none; run experiments/routing/run.py first."
            )
        text, rows = _tables(studies)
        if metric == "turn":
            text = text.replace("Joint goal accuracy", "Accuracy of the turn's update")
        files.write_text(_HERE / "tables" / f"{name}.md", text)
        files.write_text(_HERE / "tables" / f"{name}.csv", _csv(rows))
        if metric == "state":
            write(text)
            if arguments.readme:
                page = _HERE / "README.md"
                old = page.read_text(encoding="utf-8")
                head, _, rest = old.partition(_MARKS[0])
                _, _, tail = rest.partition(_MARKS[1])
                files.write_text(page, f"{head}{_MARKS[0]}\n{text}{_MARKS[1]}{tail}")


if __name__ == "__main__":
    main()
