"""Counters, gauges and histograms in Prometheus' text format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Mapping, Sequence

__all__ = ["CONTENT_TYPE", "Metrics", "escape_help", "escape_label"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds: from a cached page to a long batch.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

_Labels = tuple[tuple[str, str], ...]


def escape_label(text: str) -> str:
    """A label's value between its quotes."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def escape_help(text: str) -> str:
    """A metric's description."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")


class _Histogram:
    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0


class Metrics:
    """The numbers of one service. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._help: dict[str, tuple[str, str]] = {}
        self._values: dict[str, dict[_Labels, float]] = {}
        self._histograms: dict[str, dict[_Labels, _Histogram]] = {}
        self._gauges: dict[str, Callable[[], float]] = {}

    def counter(self, name: str, text: str, labels: Sequence[Mapping[str, str]] = ({},)) -> None:
        """Declare a counter; those of the given labels start at 0, so that rates can be taken."""
        self._help[name] = ("counter", text)
        self._values[name] = {_key(each): 0 for each in labels}

    def histogram(self, name: str, text: str) -> None:
        """Declare a histogram of seconds."""
        self._help[name] = ("histogram", text)
        self._histograms[name] = {}

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Declare a gauge, which is read when the metrics are."""
        self._help[name] = ("gauge", text)
        self._gauges[name] = read

    def info(self, name: str, text: str, labels: Mapping[str, str]) -> None:
        """Declare a constant 1 that carries labels."""
        self._help[name] = ("gauge", text)
        self._values[name] = {_key(labels): 1}

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            values, key = self._values[name], _key(labels)
            values[key] = values.get(key, 0) + amount

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        with self._lock:
            entry = self._histograms[name].setdefault(_key(labels), _Histogram())
            entry.counts[bisect.bisect_left(BUCKETS, seconds)] += 1
            entry.total += seconds

    def render(self) -> str:
        """The text that a scraper reads."""
        lines: list[str] = []
        gauges = {name: read() for name, read in self._gauges.items()}
        with self._lock:
            for name, (kind, text) in self._help.items():
                lines += [f"# HELP {name} {escape_help(text)}", f"# TYPE {name} {kind}"]
                if kind == "histogram":
                    lines += self._histogram_lines(name)
                elif name in gauges:
                    lines.append(_line(name, (), gauges[name]))
                else:
                    lines += [_line(name, key, v) for key, v in sorted(self._values[name].items())]
        return "\n".join(lines) + "\n"

    def _histogram_lines(self, name: str) -> list[str]:
        lines = []
        for key, entry in sorted(self._histograms[name].items()):
            so_far = 0
            for bound, count in zip((*BUCKETS, float("inf")), entry.counts, strict=True):
                so_far += count
                edge = "+Inf" if bound == float("inf") else _number(bound)
                lines.append(_line(f"{name}_bucket", (*key, ("le", edge)), so_far))
            lines.append(_line(f"{name}_sum", key, entry.total))
            lines.append(_line(f"{name}_count", key, so_far))
        return lines


def _key(labels: Mapping[str, str]) -> _Labels:
    return tuple(sorted(labels.items()))


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _line(name: str, labels: _Labels, value: float) -> str:
    inside = ",".join(f'{label}="{escape_label(text)}"' for label, text in labels)
    return f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}"
