"""The fitted cost model as a small file, and what it predicts."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparseft.errors import SelectionError
from sparseft.files import read_json, write_json
from sparseft.selection.calibration import parts
from sparseft.selection.cost import FittedCost
from sparseft.selection.layout import ModelLayout, layout_of
from sparseft.selection.selection import Selection
from sparseft.selection.units import EMBEDDING_LAYER, UnitGroup

__all__ = ["Calibration", "key_of"]

FORMAT = "sparseft.calibration"
VERSION = 1

# Costs per token hardly change within this factor of the calibrated length.
_LENGTHS = 2.0


@dataclass(frozen=True)
class Calibration:
    """How long the parts of a training step take on one machine.

    Attributes:
        key: what it belongs to: device, threads, torch, dtype and shape of the model.
        rows, length: texts of the calibrated batch and their tokens, padding included.
        full_ms: a step of full finetuning.
        forward_ms: a forward pass alone.
        parts_ms: milliseconds of each part, see `sparseft.selection.calibration.parts`.
        cases: every measured configuration: {name, held_out, measured_ms, predicted_ms}.
        rounds: how many turns each had.
        seconds: that the calibration took.
    """

    key: Mapping[str, Any]
    rows: int
    length: int
    full_ms: float
    forward_ms: float
    parts_ms: Mapping[str, float]
    cases: Sequence[Mapping[str, Any]]
    rounds: int
    seconds: float

    @property
    def held_out_error(self) -> float:
        """Mean |predicted - measured| / measured over the steps that were not fitted."""
        errors = [
            abs(case["predicted_ms"] / case["measured_ms"] - 1.0)
            for case in self.cases
            if case["held_out"]
        ]
        return sum(errors) / len(errors) if errors else float("nan")

    def check(self, model: nn.Module, length: float | None = None) -> None:
        """Refuse another model, machine or length.

        Args:
            model: a plain model.
            length: mean padded tokens of the texts at hand, where they are known.

        Raises:
            SelectionError: the calibration belongs to another machine, model or kind of texts.
        """
        here = key_of(model)
        for name in sorted({*here, *self.key}):
            if here.get(name) != self.key.get(name):
                raise SelectionError(
                    f"expected a calibration of {name}={here.get(name)}, got one of "
                    f"{self.key.get(name)}; calibrate again here and with this model."
                )
        if length is not None and not 1 / _LENGTHS <= length / self.length <= _LENGTHS:
            raise SelectionError(
                f"expected a calibration with texts of about {length:.0f} tokens, got one with "
                f"{self.length}; calibrate again with these batches."
            )

    def step_cost(
        self, layout: ModelLayout, groups: Sequence[UnitGroup], *, prefix_cache: bool = False
    ) -> FittedCost:
        """The costs of these units, for the knapsack.

        Args:
            layout: of the model.
            groups: all units that may be chosen.
            prefix_cache: whether the layers below the cut are replaced by stored outputs.

        Raises:
            SelectionError: units of a structure that was not calibrated.
        """
        cuts = []
        for cut in range(EMBEDDING_LAYER, len(layout.layers)):
            touched = parts.entered_modules(groups, cut)
            amounts = parts.cut_part(layout, self.length, cut, touched, prefix_cache)
            cuts.append(self._time({**amounts, "update": 1.0}))
        slopes, touches = {}, {}
        for group in groups:
            charge, unit = parts.group_parts(layout, group)
            touches[group.label] = self._time(charge)
            slopes[group.label] = self._time(unit) / group.size
        forward = 0.0 if prefix_cache else self._time(parts.backbone_part(layout, self.length))
        return FittedCost(self.full_ms, forward, tuple(cuts), slopes, touches)

    def predict(
        self, model: nn.Module, selection: Selection, *, prefix_cache: bool = False
    ) -> float:
        """Milliseconds of a step that trains `selection`, its biases and norms left out.

        Raises:
            SelectionError: a structure that was not calibrated.
        """
        layout, cut = layout_of(model), selection.lowest_layer
        name = layout.layers[cut].module_name if cut >= 0 else layout.embeddings
        touched = {m.module for m in selection.modules if m.module.startswith(f"{name}.")}
        amounts = {
            **parts.cut_part(layout, self.length, cut, touched, prefix_cache),
            **parts.compact_part(selection.modules),
            **parts.update_part(
                len(selection.modules), sum(module.trained for module in selection.modules)
            ),
        }
        return self._time(amounts)

    def _time(self, amounts: Mapping[str, float]) -> float:
        missing = sorted(p for p, a in amounts.items() if a and p not in self.parts_ms)
        if missing:
            raise SelectionError(
                f"expected a calibration of {missing[0]}, got one of "
                f"{', '.join(sorted(self.parts_ms))}; calibrate again with units of that kind."
            )
        return sum(amount * self.parts_ms[part] for part, amount in amounts.items() if amount)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the calibration as JSON, atomically.

        Raises:
            SparseftError: the file cannot be written.
        """
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return write_json(path, {**content, "held_out_error": self.held_out_error})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Read a calibration file; `check` says whether it belongs to a model.

        Raises:
            SelectionError: missing, no JSON, or not a calibration of this version.
        """
        content = read_json(path, SelectionError)
        known = isinstance(content, Mapping) and content.get("format") == FORMAT
        if not known or content.get("version") != VERSION:
            raise SelectionError(
                f"expected a {FORMAT} of version {VERSION} in {path}, got something else; "
                "remove the file and calibrate again."
            )
        try:
            made = cls(**{name: content[name] for name in cls.__dataclass_fields__})
            times = [made.full_ms, made.forward_ms, made.seconds, *made.parts_ms.values()]
            sound = all(isinstance(time, (int, float)) and time >= 0.0 for time in times)
            sound = sound and made.full_ms > 0.0 and made.length > 0
            _ = made.held_out_error
        except (KeyError, TypeError, AttributeError, ZeroDivisionError):
            sound = False
        if not sound:
            raise SelectionError(
                f"expected a complete calibration in {path}, got a damaged one; "
                "remove the file and calibrate again."
            )
        return made


def key_of(model: nn.Module) -> dict[str, Any]:
    """What decides how long a step of `model` takes here: plain data.

    Raises:
        ModelError: the model's shape is not known.
    """
    layout = layout_of(model)
    weight = layout.linear(next(iter(layout.layers[0].linears.values()))).weight
    shapes = [
        [list(layout.linear(name).weight.shape) for name in layer.linears.values()]
        for layer in layout.layers
    ]
    alike = all(shape == shapes[0] for shape in shapes)
    return {
        "device": _device_name(weight.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dtype": str(weight.dtype).removeprefix("torch."),
        "model": {
            "family": layout.family,
            "layers": len(layout.layers),
            "heads": [layout.num_heads, layout.num_kv_heads, layout.head_dim],
            "linears": shapes[:1] if alike else shapes,
            "embedding": list(layout.modules[layout.embeddings].weight.shape),  # type: ignore[arg-type]
        },
    }


def _device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's where the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu ({_cpu_name()})"
    return device.type


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # no Linux
    return f"{platform.machine()} {platform.processor()}".strip()
