"""The cost model, fitted to the machine: measure once, keep the file, price every selection."""

from sparseft.selection.calibration.measure import calibrate
from sparseft.selection.calibration.record import Calibration

__all__ = ["Calibration", "calibrate"]
