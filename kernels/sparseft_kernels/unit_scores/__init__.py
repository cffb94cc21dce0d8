"""Token-weighted sensitivities of rows, columns and blocks, without dW."""

from sparseft_kernels.unit_scores.reference import blocks, columns, elements, rows

__all__ = ["blocks", "columns", "elements", "rows"]
