"""Compact embedding gradient in plain torch.

Legend: T tokens, d width, m selected rows, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["embedding_rows"]


def embedding_rows(dY: Tensor, ids: Tensor, index: Tensor) -> Tensor:
    """Sum of dY over the tokens whose id is one of the selected rows.

    Args:
        dY: [T, d] gradient of the embedded tokens.
        ids: [T] token ids.
        index: [m] int64 selected rows, sorted ascending without duplicates.

    Returns:
        [m, d] in dY's dtype; zero for rows that no token uses.
    """
    out = dY.new_zeros(index.numel(), dY.shape[1])
    if index.numel() == 0 or ids.numel() == 0:
        return out
    slot = torch.searchsorted(index, ids)  # [T]
    slot = slot.clamp_(max=index.numel() - 1)
    hit = (index.index_select(0, slot) == ids).nonzero().squeeze(1)  # [hits]
    # A stable sort makes the order of summation a function of the input alone.
    order = torch.sort(slot.index_select(0, hit), stable=True)
    return out.index_add_(0, order.values, dY.index_select(0, hit.index_select(0, order.indices)))
