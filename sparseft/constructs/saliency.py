"""Construct membership as a token saliency.

Legend: B rows, S positions, C classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sparseft.constructs.construct import Constructs
from sparseft.errors import ConfigError
from sparseft.saliency.tokens import normalised

__all__ = ["construct_saliency"]


def construct_saliency(
    input_ids: Tensor,
    attention_mask: Tensor,
    constructs: Constructs,
    labels: Tensor | None = None,
    weight: Literal["membership", "score"] = "membership",
    background: float = 0.0,
) -> Tensor:
    """Token weights that fall on constructs; no model is run.

    Args:
        input_ids: int64 [B, S], of the tokenizer that the constructs were mined with.
        attention_mask: [B, S], 1 at real tokens.
        constructs: what to look for.
        labels: class numbers [B], or multi-hot [B, C]: only constructs of a row's own classes
            count. None: all count.
        weight: what a token of a construct weighs, 1 or the construct's score (the largest one
            where several hold it; scores below 0 count as 0).
        background: what every other token weighs, 0 or more.

    Returns:
        [B, S] float32, mean 1 over each row's real tokens, 0 at padding; equal weights in a row
        without any construct.

    Raises:
        ConfigError: an unknown weight or a negative background.
    """
    if weight not in ("membership", "score") or background < 0:
        raise ConfigError(
            "expected weight membership or score and a background of 0 or more, got "
            f"{weight!r} and {background}; change them."
        )
    values = constructs.scores(input_ids.device).clamp_min(0.0)
    if weight == "membership":
        values = torch.ones_like(values)
    find = constructs.matcher.weights
    if labels is None or labels.ndim == 1:
        raw = find(input_ids, attention_mask, values, labels)
    else:
        row, label = labels.nonzero(as_tuple=True)
        each = find(input_ids[row], attention_mask[row], values, label)  # [row-label pairs, S]
        raw = torch.zeros(input_ids.shape, device=input_ids.device)
        raw = raw.scatter_reduce(0, row[:, None].expand_as(each), each, "amax")
    return normalised(raw.clamp_min(background), attention_mask)
