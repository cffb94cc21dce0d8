"""Compact embedding gradient in plain torch.

Legend: T tokens, d width, m selected rows, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparseft_kernels.masked_grad.reference import result_dtype, wide

__all__ = ["embedding_rows", "slots"]


def slots(ids: Tensor, index: Tensor) -> Tensor:
    """Place of each token's id in the selected rows: [T] int64, m for tokens that are not there.

    Args:
        ids: [T] token ids.
        index: [m] selected rows, ascending.
    """
    m = index.numel()
    if m == 0:
        return torch.zeros_like(ids, dtype=torch.int64)
    dtype = torch.promote_types(ids.dtype, index.dtype)
    ids, index = ids.to(dtype).contiguous(), index.to(dtype).contiguous()
    slot = torch.searchsorted(index, ids)  # [T]
    hit = index.index_select(0, slot.clamp(max=m - 1)) == ids
    return torch.where(hit, slot, m)


def embedding_rows(dY: Tensor, ids: Tensor, index: Tensor) -> Tensor:
    """Sum of dY over the tokens whose id is one of the selected rows.

    Args:
        dY: [T, d] gradient of the embedded tokens.
        ids: [T] token ids.
        index: [m] selected rows, ascending without duplicates.

    Returns:
        [m, d]; zero for rows that no token uses.
    """
    m = index.numel()
    out = dY.new_zeros(m, dY.shape[1], dtype=result_dtype(dY.dtype))
    if m == 0 or ids.numel() == 0:
        return out
    slot, order = torch.sort(slots(ids, index), stable=True)
    if dY.device.type == "cpu":
        # Adds in the order of the sorted tokens, which makes the sum a function of the input alone.
        hits = int(torch.searchsorted(slot, m))
        return out.index_add_(0, slot[:hits], wide(dY.index_select(0, order[:hits])))
    # Elsewhere index_add_ is not deterministic, and counting the hits would make the host wait.
    starts = torch.searchsorted(slot, torch.arange(m + 1, device=slot.device))  # [m + 1]
    return torch.segment_reduce(
        wide(dY.index_select(0, order)), "sum", offsets=starts, axis=0, initial=0, unsafe=True
    )
