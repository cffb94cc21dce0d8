"""Token-weighted sensitivities of rows, columns, blocks and elements, without dW."""

from sparseft_kernels.unit_scores.ops import (
    accumulate_,
    blocks,
    columns,
    elements,
    rows,
    rows_and_columns,
)

__all__ = ["accumulate_", "blocks", "columns", "elements", "rows", "rows_and_columns"]
