"""What the step is expected to reach, against the records: met, missed and by how much, not run.

Times are compared as ratios to the same reference of the same mode, each taken beside it, never as
milliseconds of different runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cases import METHODS
from records import EAGER, GRAPHS
from shapes import SHAPES

__all__ = ["verdicts"]

Record = Mapping[str, Any]


@dataclass(frozen=True)
class _Target:
    """`method`'s figure over `other`'s is at most `limit`, on each of the models."""

    text: str
    figure: Callable[[Record], float | None]
    method: str
    other: str
    limit: float
    models: tuple[str, ...] = tuple(SHAPES)
    speedup: bool = False  # shown as how many times faster


def _ratio(record: Record) -> float | None:
    return record["ratio_median"]


def _peak(record: Record) -> float | None:
    return record["memory"]["peak_bytes"]


def _targets() -> list[_Target]:
    def faster(method: str, times: float) -> _Target:
        text = f"{METHODS[method].label}: at least {times:g}x faster than full"
        return _Target(text, _ratio, method, "full", 1 / times, ("llama-1b",), speedup=True)

    def beats(method: str, other: str) -> _Target:
        text = f"{METHODS[method].label}: faster than {METHODS[other].label}"
        return _Target(text, _ratio, method, other, 1.0)

    def lighter(method: str, other: str, limit: float) -> _Target:
        share = "" if limit == 1 else f"{limit:g} of "
        text = f"{METHODS[method].label}: peak memory at most {share}that of {METHODS[other].label}"
        return _Target(text, _peak, method, other, limit)

    return [
        faster("sparse_upper", 2.0),
        faster("sparse", 1.5),
        beats("sparse", "lora"),
        beats("sparse", "shira"),
        beats("sparse_upper", "lora_upper"),
        beats("sparse_upper", "shira_upper"),
        lighter("sparse", "full", 0.4),
        lighter("sparse_upper", "full", 0.4),
        lighter("sparse_quarter", "full", 0.4),
        lighter("sparse", "lora", 1.0),
        lighter("sparse_upper", "lora_upper", 1.0),
    ]


def verdicts(records: Sequence[Record]) -> list[str]:
    """A line for each target and mode, with every model's figure."""
    found = {(r["model"], r["method"], r["mode"]): r for r in records}
    lines = []
    for mode, words in ((EAGER, "without CUDA graphs"), (GRAPHS, "with CUDA graphs")):
        lines.append(f"targets, {words}")
        for target in _targets():
            models = [f"{m} {_verdict(target, found, m, mode)}" for m in target.models]
            lines.append(f"  {target.text}: {'; '.join(models)}")
    return lines


def _verdict(
    target: _Target, found: Mapping[tuple[str, str, str], Record], model: str, mode: str
) -> str:
    values = []
    for method in (target.method, target.other):
        record = found.get((model, method, mode))
        value = None
        if record is not None and record["status"] == "measured":
            value = target.figure(record)
        values.append(value)
    mine, other = values
    if mine is None or not other:
        return "not run"
    share = mine / other
    shown = f"{1 / share:.2f}x" if target.speedup else f"{share:.2f}"
    if share <= target.limit:
        return f"met ({shown})"
    return f"missed by {share / target.limit - 1:.0%} ({shown})"
