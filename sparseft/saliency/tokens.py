"""Token saliency: how much each token position matters for the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sparseft.errors import ConfigError
from sparseft.saliency.capture import Captured, LossFunction, captured_backward, frozen, loss_of
from sparseft.selection.layout import layout_of

__all__ = ["SaliencyMethod", "normalised", "saliency_of", "token_saliency"]

SaliencyMethod = Literal["gradient_x_input", "uniform"]


def normalised(raw: Tensor, attention_mask: Tensor) -> Tensor:
    """Scale to mean 1 over each example's real tokens, 0 at padding.

    Args:
        raw: [B, S], non-negative.
        attention_mask: [B, S], 1 for real tokens.

    Returns:
        [B, S] float32. An example whose saliency is zero everywhere gets equal weights.
    """
    mask = attention_mask.to(torch.float32)
    raw = raw.float() * mask
    total = raw.sum(1, keepdim=True)
    count = mask.sum(1, keepdim=True)
    return torch.where(total > 0, raw / total.clamp_min(1e-38) * count, mask)


def saliency_of(captured: Captured, attention_mask: Tensor, method: str) -> Tensor:
    """Token weights [B, S] from a captured backward pass.

    `gradient_x_input` is |sum_d h[d] dL/dh[d]| at the entry of the graph (Shrikumar et al. 2016,
    arXiv 1605.01713): the first-order change of the loss when the token's vector is set to zero.

    Raises:
        ConfigError: unknown method.
    """
    if method == "uniform":
        return attention_mask.to(torch.float32)
    if method == "gradient_x_input":
        assert captured.entry is not None and captured.entry_gradient is not None
        product = captured.entry.float() * captured.entry_gradient.float()
        return normalised(product.sum(-1).abs(), attention_mask)
    raise ConfigError(
        f"expected a saliency of {', '.join(get_args(SaliencyMethod))}, got {method!r}; "
        "correct `saliency`."
    )


def token_saliency(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    method: str = "gradient_x_input",
    *,
    loss_fn: LossFunction = loss_of,
) -> Tensor:
    """How much each token of a labelled batch matters for its loss.

    Args:
        model: returns an object with `.loss` for `model(input_ids, attention_mask, labels)`.
        batch: input_ids, attention_mask [B, S] and labels.
        method: see `saliency_of`.

    Returns:
        [B, S] float32, mean 1 over each example's real tokens, 0 at padding.
    """
    layout = layout_of(model)
    with frozen(model):
        captured = captured_backward(model, layout, batch, lowest_layer=0, loss_fn=loss_fn)
    return saliency_of(captured, batch["attention_mask"], method)
