"""The tables of this folder's README from results/: `python experiments/selection/table.py`.

Writes tables/<size>.md and tables/<size>.csv; with --readme also the short table of the project's
README, between its marks. Rates were chosen by run.py; here they are read
back: an arm's rate is the one that its runs beyond the first seed have.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import records
from settings import ABLATIONS, DENSITIES, METHODS, SIZES

from sparseft import files
from sparseft.reporting.pooled import compare_pooled
from sparseft.reporting.statistics import Comparison, RowScores

Line = dict[str, Any]
CONTROLS = {
    "sparse_random": "random units",
    "sparse_unweighted": "plain Fisher",
    "sparse_magnitude": "largest weights",
}


_MARK = re.compile(r"(<!-- selection -->\n).*?(<!-- end of selection -->)", re.DOTALL)


@dataclass
class Row:
    """One arm on one model: its runs by data set and seed."""

    name: str
    runs: dict[str, dict[int, Line]] = field(default_factory=lambda: defaultdict(dict))

    def scores(self) -> dict[str, dict[int, RowScores]]:
        return {
            data: {
                seed: RowScores.of(*(records.unpack(line["test"][k]) for k in _TEST))
                for seed, line in lines.items()
            }
            for data, lines in self.runs.items()
        }

    def mean(self, metric: str, data: Iterable[str]) -> float:
        return statistics.fmean(
            statistics.fmean(line["metrics"][metric] for line in self.runs[name].values())
            for name in data
        )

    def variance(self, data: Iterable[str]) -> float:
        """Of accuracy over seeds, averaged over the data sets."""
        return statistics.fmean(
            statistics.variance(line["metrics"]["accuracy"] for line in self.runs[name].values())
            for name in data
        )

    def ratio(self, other: Row, key: str) -> tuple[float, float, float] | None:
        """Median, 20th and 80th percentile over the pairs of runs of self / other.

        Tuning runs are left out: the machine's load changed between one method's and the next's.
        Later runs go seed by seed and data set by data set, with the methods side by side; pairs of
        different commits were not, and are left out, too.
        """
        pairs = [
            (line, other.runs[data][seed])
            for data, lines in self.runs.items()
            for seed, line in lines.items()
            if seed in other.runs.get(data, {})
        ]
        ratios = [
            _cost(line, key) / _cost(base, key)
            for line, base in pairs
            if "tuning" not in (line["stage"], base["stage"])
            and line["environment"]["commit"] == base["environment"]["commit"]
            and _cost(base, key)
        ]
        if not ratios:
            return None
        return tuple(float(v) for v in np.percentile(ratios, [50, 20, 80]))  # type: ignore[return-value]

    def share(self) -> float:
        lines = [line for by_seed in self.runs.values() for line in by_seed.values()]
        return statistics.fmean(
            line["cost"]["trainable_parameters"] / line["cost"]["total_parameters"]
            for line in lines
        )


_TEST = ("ids", "labels", "predictions")


def _cost(line: Line, key: str) -> float:
    value = line["seconds_to_best"] if key == "seconds_to_best" else line["cost"][key]
    return float(value or 0.0)


def rows_of(lines: list[Line], names: Iterable[str], seeds: Iterable[int]) -> dict[str, Row]:
    """The runs of each arm at its chosen rate; controls also at the rate of `sparse`."""
    chosen: dict[str, set[float]] = defaultdict(set)
    later = list(seeds)[1:]
    rate: dict[str, float] = {}
    for line in lines:
        if line["seed"] in later and line["stage"] == "seeds":
            chosen[line["arm"]].add(line["scale"])
    for name, scales in chosen.items():
        if len(scales) > 1:
            raise SystemExit(
                f"expected one learning rate of {name} beyond the first seed, got "
                f"{sorted(scales)}; the tuning runs changed since: remove its later lines."
            )
        rate[name] = scales.pop()
    rows: dict[str, Row] = {}
    for name in names:
        wanted = rate.get(name) if name in rate else rate.get("sparse")
        row = Row(name)
        for line in lines:
            if line["arm"] == name and line["scale"] == wanted:
                row.runs[line["data"]][line["seed"]] = line
        if row.runs:
            rows[name] = row
    for name in CONTROLS:
        if name in rate and "sparse" in rate and rate[name] != rate["sparse"]:
            row = Row(f"{name} at the rate of sparse")
            for line in lines:
                if line["arm"] == name and line["scale"] == rate["sparse"]:
                    row.runs[line["data"]][line["seed"]] = line
            if row.runs:
                rows[row.name] = row
    return rows


def jaccard(row: Row) -> float | None:
    """Mean over data sets and pairs of seeds of the overlap of the selected units."""
    found = []
    for lines in row.runs.values():
        sets = [
            {
                (group, int(u))
                for group, packed in line["units"].items()
                for u in records.unpack(packed)
            }
            for line in lines.values()
            if line["units"]
        ]
        found += [len(a & b) / len(a | b) for a, b in itertools.combinations(sets, 2)]
    return statistics.fmean(found) if found else None


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def difference(found: Comparison | None) -> str:
    """The other way round than the comparison: sparse minus the arm."""
    if found is None:
        return "–"
    p = "< 0.001" if found.p_holm < 0.001 else f"{found.p_holm:.3f}"
    interval = f"{-100 * found.high:+.1f} to {-100 * found.low:+.1f}"
    return f"{-100 * found.difference:+.1f} ({interval}), p {p}"


def main_table(
    rows: Mapping[str, Row], data: tuple[str, ...], resamples: int
) -> tuple[list[str], list[dict[str, Any]]]:
    """Markdown lines and the same as records."""
    complete = {name: row for name, row in rows.items() if set(row.runs) >= set(data)}
    compared: dict[str, Comparison] = {}
    if "sparse" in complete:
        others = {name: row.scores() for name, row in complete.items() if name != "sparse"}
        compared = compare_pooled(complete["sparse"].scores(), others, resamples)
    full = complete.get("full")
    lines = [
        "| method | lr | "
        + " | ".join(data)
        + " | mean | macro-F1 | sparse − this, 95% interval, Holm's p | sd ÷ full's | step ÷ full's"
        + " | seconds to best ÷ full's | peak memory ÷ full's | trained |",
        "|---|---|" + "---|" * (len(data) + 8),
    ]
    table = []
    for name, row in sorted(complete.items(), key=lambda item: -item[1].mean("accuracy", data)):
        first = next(iter(row.runs[data[0]].values()))
        cells = []
        for key in data:
            values = [line["metrics"]["accuracy"] for line in row.runs[key].values()]
            sd = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{percent(statistics.fmean(values))} ± {percent(sd)}")
        few = min(len(row.runs[key]) for key in data)
        spread = None
        if full is not None and few > 1 and min(len(full.runs[key]) for key in data) > 1:
            spread = (row.variance(data) / full.variance(data)) ** 0.5
        ratios = {
            k: row.ratio(full, k) if full else None
            for k in ("step_ms_median", "seconds_to_best", "peak_memory_bytes")
        }
        shown = [
            "–" if r is None else f"{r[0]:.2f} ({r[1]:.2f} to {r[2]:.2f})" for r in ratios.values()
        ]
        lines.append(
            f"| {name} | {first['lr']:.2g} | "
            + " | ".join(cells)
            + f" | {percent(row.mean('accuracy', data))} | {percent(row.mean('macro_f1', data))} | "
            + f"{'' if name == 'sparse' else difference(compared.get(name))} | "
            + f"{'–' if spread is None else f'{spread:.2f}'} | "
            + " | ".join(shown)
            + f" | {100 * row.share():.2f}% |"
        )
        found = compared.get(name)
        table.append(
            {
                "arm": name,
                "lr": first["lr"],
                "seeds": few,
                "accuracy": row.mean("accuracy", data),
                "macro_f1": row.mean("macro_f1", data),
                **{
                    f"accuracy {key}": statistics.fmean(
                        x["metrics"]["accuracy"] for x in row.runs[key].values()
                    )
                    for key in data
                },
                "sparse_minus_this": None if found is None else -found.difference,
                "low": None if found is None else -found.high,
                "high": None if found is None else -found.low,
                "p": None if found is None else found.p,
                "p_holm": None if found is None else found.p_holm,
                "sd_ratio": spread,
                **{f"{k}_ratio": None if r is None else r[0] for k, r in ratios.items()},
                "jaccard_between_seeds": jaccard(row),
            }
        )
    partial = {n: sum(map(len, r.runs.values())) for n, r in rows.items() if n not in complete}
    if partial:
        lines += [
            "",
            "Not on every data set yet: "
            + ", ".join(f"{n} ({c} runs)" for n, c in partial.items())
            + ".",
        ]
    return lines, table


def short_table(
    rows: Mapping[str, Row], data: tuple[str, ...], table: list[dict[str, Any]]
) -> list[str]:
    """Markdown lines for readers in a hurry: means over the data sets."""
    lines = [
        f"| method | trained | seeds | accuracy, mean of {len(data)} | sparse − this (95%) | "
        "p, Holm | step ÷ full's |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in table:
        name, gap = entry["arm"], ""
        if entry["sparse_minus_this"] is not None:
            values = [100 * entry[key] for key in ("sparse_minus_this", "low", "high")]
            gap = f"{values[0]:+.1f} ({values[1]:+.1f} to {values[2]:+.1f})"
        p = entry["p_holm"]
        shown = "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
        step = entry["step_ms_median_ratio"]
        label = f"**`{name}`**" if name == "sparse" else f"`{name}`"
        lines.append(
            f"| {label} | {100 * rows[name].share():.2f}% | {entry['seeds']} | "
            f"{percent(entry['accuracy'])} | {gap} | {shown} | "
            f"{'–' if step is None else f'{step:.2f}'} |"
        )
    return lines


def write_readme(lines: list[str]) -> None:
    """Put the lines between the marks of the project's README."""
    path = Path(__file__).parents[2] / "README.md"
    text, found = _MARK.subn(
        lambda match: match[1] + "\n".join(lines) + "\n" + match[2], path.read_text("utf-8")
    )
    if found != 1:
        raise SystemExit(
            f"expected the marks of the selection's table once in {path}, got {found}."
        )
    files.write_text(path, text)


def tuning_table(lines: list[Line], data: tuple[str, ...], seed: int) -> list[str]:
    """Every rate on the first seed, on which rates are chosen: arms that ran on all data sets."""
    found: dict[tuple[str, float], dict[str, Line]] = defaultdict(dict)
    for line in lines:
        if line["seed"] == seed:
            found[line["arm"], line["lr"]][line["data"]] = line
    rows = []
    for (arm, lr), by_data in sorted(found.items()):
        if set(by_data) >= set(data):
            means = [
                statistics.fmean(value(by_data[key]) for key in data)
                for value in (lambda x: x["validation"], lambda x: x["metrics"]["accuracy"])
            ]
            tests = [percent(by_data[key]["metrics"]["accuracy"]) for key in data]
            rows.append([arm, f"{lr:.2g}", *(percent(mean) for mean in means), *tests])
    header = ["method", "lr", "mean validation", "mean test", *data]
    return [f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="cpu")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "tables")
    parser.add_argument("--data", nargs="*", help="only these data sets")
    parser.add_argument("--readme", action="store_true", help="write README's table, too")
    parser.add_argument("--resamples", type=int, default=10_000)
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    lines = list(records.read(arguments.results / arguments.size))
    text: list[str] = []
    every: list[dict[str, Any]] = []
    for model in size.models:
        mine = [line for line in lines if line["model"] == model]
        present = tuple(d for d in size.data if any(line["data"] == d for line in mine))
        data = tuple(arguments.data or present)
        if not data:
            continue
        names = [arm.name for arm in METHODS]
        extra = [arm.name for arm in ABLATIONS] + [f"density {100 * d:g}%" for d in DENSITIES]
        commits = sorted({line["environment"]["commit"][:7] for line in mine})
        text += [f"## {model}: {len(mine)} runs, commits {', '.join(commits)}", ""]
        text += ["### Rates on the first seed", "", *tuning_table(mine, data, size.seeds[0]), ""]
        # What ran on fewer seeds is compared on these alone.
        few = [line for line in mine if line["seed"] in size.variant_seeds]
        for title, wanted, considered in (
            ("Methods", names, mine),
            ("One ingredient changed", ["sparse", "full", *extra], few),
        ):
            rows = rows_of(considered, wanted, size.seeds)
            markdown, table = main_table(rows, data, arguments.resamples)
            if len(table) > (title != "Methods"):
                text += [f"### {title}", "", *markdown, ""]
                every += [{"model": model, "table": title, **entry} for entry in table]
            if title == "Methods" and arguments.readme and model == size.models[0]:
                write_readme(short_table(rows, data, table))
    if not text:
        raise SystemExit(
            f"expected lines in {arguments.results / arguments.size}, got none; run run.py."
        )
    files.write_text(arguments.out / f"{arguments.size}.md", "\n".join(text).rstrip() + "\n")
    stream = io.StringIO()
    writer = csv.DictWriter(
        stream, sorted({k for e in every for k in e}, key=_order), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(every)
    files.write_text(arguments.out / f"{arguments.size}.csv", stream.getvalue())
    print("\n".join(text))


def _order(key: str) -> tuple[int, str]:
    first = ("model", "table", "arm", "lr", "seeds", "accuracy", "macro_f1", "sparse_minus_this")
    return (first.index(key) if key in first else len(first), key)


if __name__ == "__main__":
    main()
