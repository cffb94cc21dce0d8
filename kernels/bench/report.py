"""The measurements against the physical floor, the rivals and the targets, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.adapters import adapters
from bench.records import Records
from bench.run import best_timing

__all__ = ["Verdict", "dispatched", "report", "verdicts"]

Record = Mapping[str, Any]

# Large enough that launches and partly filled waves no longer decide.
_LARGE_WIDTH, _LARGE_TOKENS = 1024, 4096
# Medians of one interleaved run that differ by less are equal.
_NOISE = 0.03
# Time for four times the density, as a share of four times the time.
_PROPORTIONAL = (0.8, 1.2)


@dataclass(frozen=True)
class Verdict:
    """One target: in how many cases it is met, and the worst."""

    target: str
    cases: int
    met: int
    worst: str

    def __str__(self) -> str:
        if self.cases == 0:
            return f"| {self.target} | not measured | | |"
        word = "met" if self.met == self.cases else "missed"
        return f"| {self.target} | {word} | {self.met} of {self.cases} | {self.worst} |"


def dispatched(record: Record) -> Mapping[str, Any] | None:
    """What the dispatcher takes for this case, by this case's own measurement."""
    found = [best_timing(record, name) for name in ("triton", "cublas", "reference")]
    return min(
        (t for t in found if t is not None), key=lambda t: t["microseconds"]["p50"], default=None
    )


def _median(timing: Mapping[str, Any]) -> float:
    median: float = timing["microseconds"]["p50"]
    return median


def _share_of_floor(record: Record) -> float | None:
    chosen = dispatched(record)
    return None if chosen is None else record["floor_us"] / _median(chosen)


def _against_rivals(record: Record) -> float | None:
    """Time of the dispatched operation as a share of the better rival's."""
    adapter = adapters().get(record["case"]["operation"])
    chosen = dispatched(record)
    if adapter is None or chosen is None:
        return None
    rivals = [best_timing(record, name) for name in adapter.better_of]
    times = [_median(t) for t in rivals if t is not None]
    return _median(chosen) / min(times) if times else None


def _verdict(
    target: str,
    records: Iterable[Record],
    value: Callable[[Record], float | None],
    good: Callable[[float], bool],
    worst: Callable[[Iterable[tuple[float, str]]], tuple[float, str]],
    shown: Callable[[float], str],
) -> Verdict:
    pairs = [(value(record), record["key"]) for record in records]
    found = [(number, key) for number, key in pairs if number is not None]
    if not found:
        return Verdict(target, 0, 0, "")
    number, key = worst(found)
    return Verdict(target, len(found), sum(good(n) for n, _ in found), f"{shown(number)}: {key}")


def _proportionality(records: Iterable[Record]) -> list[tuple[float, str]]:
    """(time at four times the density) / (four times the time), for each pair of records."""
    by_place: dict[tuple[Any, ...], dict[float, float]] = {}
    for record in records:
        chosen, case = dispatched(record), record["case"]
        if chosen is not None:
            place = (case["operation"], case["dtype"], case["d"], str(case["options"]))
            by_place.setdefault(place, {})[case["density"]] = _median(chosen)
    found = []
    for place, times in by_place.items():
        for density, time in times.items():
            if 4 * density in times:
                name = f"{place[0]} {place[1]} d={place[2]}, {density:g} to {4 * density:g}"
                found.append((times[4 * density] / (4 * time), name))
    return found


def verdicts(records: Records) -> list[Verdict]:
    """The kernels' targets, judged by what was measured."""
    latest = records.latest()
    gradients = [
        r for r in latest
        if r["case"]["operation"].startswith("masked_grad.") and r["case"]["dtype"] != "float32"
    ]  # fmt: skip
    large = [
        r for r in gradients
        if r["case"]["d"] >= _LARGE_WIDTH and r["case"]["tokens"] >= _LARGE_TOKENS
    ]  # fmt: skip
    optimizer = [r for r in latest if r["case"]["operation"].startswith("sparse_adamw")]
    wide = [r for r in optimizer if r["case"]["d"] >= _LARGE_WIDTH]

    def percent(value: float) -> str:
        return f"{value:.0%}"

    found = []
    for name in dict.fromkeys(r["case"]["operation"] for r in large):
        found.append(_verdict(
            f"{name}: at least 70% of the floor (d ≥ {_LARGE_WIDTH}, tokens ≥ {_LARGE_TOKENS})",
            [r for r in large if r["case"]["operation"] == name],
            _share_of_floor, lambda v: v >= 0.7, min, percent,
        ))  # fmt: skip
    for name in dict.fromkeys(r["case"]["operation"] for r in gradients):
        found.append(_verdict(
            f"{name}: never slower than the better of dense and gather + cuBLAS",
            [r for r in gradients if r["case"]["operation"] == name],
            _against_rivals, lambda v: v <= 1 + _NOISE, max, lambda v: f"{v:.2f}×",
        ))  # fmt: skip
    found.append(_verdict(
        f"sparse_adamw: at least 80% of the bandwidth bound (d ≥ {_LARGE_WIDTH})",
        wide, _share_of_floor, lambda v: v >= 0.8, min, percent,
    ))  # fmt: skip
    ratios = _proportionality(wide)
    low, high = _PROPORTIONAL
    off = max(ratios, key=lambda pair: abs(pair[0] - 1), default=(1.0, ""))
    found.append(
        Verdict(
            "sparse_adamw: time proportional to the density (within 20%)",
            len(ratios),
            sum(low <= ratio <= high for ratio, _ in ratios),
            f"{off[0]:.2f} of proportional: {off[1]}" if ratios else "",
        )
    )
    return found


def report(records: Records) -> str:
    """The whole report of one GPU."""
    latest = records.latest()
    if not latest:
        return "Nothing has been measured."
    newest = latest[-1]
    where = newest["environment"]
    ceilings = [r["ceilings"] for r in latest if r["ceilings"]]
    lines = [
        f"# {newest['gpu']}",
        "",
        f"{len(latest)} cases; torch {where['torch']}, triton {where['triton']}, CUDA "
        f"{where['cuda']}, commit {where['commit'][:12]}"
        f"{' with changes' if where['dirty'] else ''}",
        "",
        "Measured ceilings: "
        f"{ceilings[-1]['bytes_per_second'] / 1e12:.2f} TB/s (large copy, read and written bytes); "
        + ", ".join(f"{dtype} {rate / 1e12:.0f} TFLOP/s" for dtype, rate in _peaks(latest).items()),
        "",
        "| target | verdict | cases | worst |",
        "|---|---|---|---|",
        *(str(verdict) for verdict in verdicts(records)),
    ]
    for name in dict.fromkeys(record["case"]["operation"] for record in latest):
        its = [record for record in latest if record["case"]["operation"] == name]
        lines += ["", f"## {name}", "", *_table(its)]
    problems = [
        f"- {r['key']}: {t['name']}: {t['error']}"
        for r in latest for t in r["timings"] if t.get("error")
    ]  # fmt: skip
    if problems:
        lines += ["", "## Not verified", "", *problems]
    return "\n".join(lines)


def _peaks(records: Iterable[Record]) -> dict[str, float]:
    return {r["case"]["dtype"]: r["ceilings"]["flops_per_second"] for r in records if r["ceilings"]}


def _table(records: Sequence[Record]) -> list[str]:
    """One row for each case: medians in microseconds."""
    names = list(dict.fromkeys(t["name"] for record in records for t in record["timings"]))
    rows = [
        f"| dtype | d | tokens | density | | {' | '.join(names)} | floor | of the floor "
        "| against the better rival |",
        "|" + "---|" * (len(names) + 8),
    ]
    for record in sorted(
        records,
        key=lambda r: (
            r["case"]["dtype"], str(r["case"]["options"]), r["case"]["d"], r["case"]["tokens"],
            r["case"]["density"],
        ),
    ):  # fmt: skip
        case = record["case"]
        cells = []
        for name in names:
            best = best_timing(record, name)
            why = record["unavailable"].get(name, "")
            cells.append(why if best is None else f"{_median(best):.1f}")
        share, ratio = _share_of_floor(record), _against_rivals(record)
        density = f"{case['density']:.1%}" if case["density"] else ""
        extra = " ".join(f"{key} {value}" for key, value in case["options"].items())
        rows.append(
            f"| {case['dtype']} | {case['d']} | {case['tokens'] or ''} "
            f"| {density} | {extra} "
            f"| {' | '.join(cells)} | {record['floor_us']:.1f} "
            f"| {'' if share is None else f'{share:.0%}'} "
            f"| {'' if ratio is None else f'{ratio:.2f}×'} |"
        )
    return rows
