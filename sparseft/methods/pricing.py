"""What a step costs for the sparse methods: counted in FLOPs, or measured on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from sparseft.errors import ConfigError
from sparseft.methods.base import MethodContext, positive
from sparseft.models.task_model import TaskModel
from sparseft.selection.budget import DepthRule
from sparseft.selection.calibration import Calibration, calibrate

__all__ = ["PRICING", "calibration_of", "check_pricing"]

PRICING: dict[str, Any] = {
    "depth_rule": None,
    "calibrate": False,
    "calibration": None,
    "calibration_seconds": 10.0,
    "priced_with_cache": False,
}

_BATCHES = 8  # of which the one of the most usual size is timed


def check_pricing(options: Mapping[str, Any]) -> None:
    """Refuse wrong options before anything is measured.

    Raises:
        ConfigError: an option of another type or outside its range.
    """
    for name in ("calibrate", "priced_with_cache"):
        if not isinstance(options[name], bool):
            raise ConfigError(
                f"expected method.{name} to be true or false, got {options[name]!r}; "
                f"change method.{name}."
            )
    path, seconds = options["calibration"], options["calibration_seconds"]
    if path is not None and (not isinstance(path, str) or not path):
        raise ConfigError(
            f"expected method.calibration to be null or a file, got {path!r}; "
            "change method.calibration."
        )
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ConfigError(
            f"expected method.calibration_seconds to be a number, got {seconds!r}; "
            "change method.calibration_seconds."
        )
    positive("calibration_seconds", seconds)
    rule = options["depth_rule"]
    if rule is not None and rule not in get_args(DepthRule):
        raise ConfigError(
            f"expected method.depth_rule to be null or one of {', '.join(get_args(DepthRule))}, "
            f"got {rule!r}; change method.depth_rule."
        )


def calibration_of(
    model: TaskModel, context: MethodContext, options: Mapping[str, Any]
) -> Calibration | None:
    """The cost model that the options ask for; None where FLOPs are to count.

    `calibration` names a file that is read. With `calibrate` it is made where it is missing;
    without a file every run measures for itself.

    Raises:
        SelectionError: the file is missing, damaged, or of another machine or model.
        SparseftError: it cannot be written.
    """
    path = None if options["calibration"] is None else Path(options["calibration"]).expanduser()
    if path is not None and (path.exists() or not options["calibrate"]):
        calibration = Calibration.load(path)
        calibration.check(model)
        return calibration
    if not options["calibrate"]:
        return None
    calibration = calibrate(
        model,
        context.batches(_BATCHES),
        units=tuple(options["units"]),
        block_edge=options["block_edge"],
        seconds=options["calibration_seconds"],
        seed=context.seed,
    )
    if path is not None:
        calibration.save(path)
    return calibration
