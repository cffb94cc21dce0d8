"""Short names for what a folder of results holds, made from the settings that differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["canonical", "distinct_labels", "flat", "method_options", "study_settings"]

# What may differ between runs that are still comparable: where and how a run was watched or kept.
_WATCHING = {
    "progress",
    "checkpoint_every",
    "measure_flops",
    "eval_batch_size",
    "save",
}


def study_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that all methods of one table must share, flat: model, data, task, training."""
    kept: dict[str, Any] = {}
    for section in ("model", "data", "task", "training"):
        values = config.get(section)
        if isinstance(values, Mapping):
            if section == "training":
                values = {k: v for k, v in values.items() if k not in _WATCHING}
            if section == "data":
                # Where the files lie does not change what they hold.
                values = {k: v for k, v in values.items() if k != "root"}
            kept.update(flat(values, f"{section}."))
    return kept


def method_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the method, flat, without its name and its learning rate."""
    method = config.get("method")
    options = flat(method) if isinstance(method, Mapping) else {}
    return {k: v for k, v in options.items() if k not in ("name", "lr")}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            out.update(flat(value, f"{prefix}{key}."))
        else:
            out[f"{prefix}{key}"] = value
    return out


def canonical(values: Mapping[str, Any]) -> str:
    """One text for equal mappings, whatever their order."""
    return json.dumps(values, sort_keys=True, default=str)


def distinct_labels(entries: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """A label for each (name, settings): the name, and what sets it apart from its namesakes.

    Equal names get those settings appended that are not the same among all of them; settings that
    are absent or null in an entry are not mentioned.
    """
    labels = []
    for name, settings in entries:
        namesakes = [other for title, other in entries if title == name]
        keys = sorted({key for other in namesakes for key in other})
        differing = [k for k in keys if len({canonical({k: o.get(k)}) for o in namesakes}) > 1]
        # A section's name says enough: what else differs in that section follows from it.
        named = {key.removesuffix("name") for key in differing if key.endswith(".name")}
        parts = [
            _value(settings[key])
            if key.endswith(".name")
            else f"{_short(key)} {_value(settings[key])}"
            for key in differing
            if settings.get(key) is not None
            and (key.endswith(".name") or not key.startswith(tuple(named)))
        ]
        labels.append(" · ".join([name, *parts]))
    return labels


def _short(key: str) -> str:
    return key.rpartition(".")[2].replace("_", " ")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return "+".join(map(str, value))
    return str(value)
