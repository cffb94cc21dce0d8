"""Attention roll-out: which tokens the pooled vector's attention goes back to.

Legend: B rows, S positions, L layers, H heads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sparseft.errors import ConfigError, ModelError
from sparseft.saliency.capture import frozen
from sparseft.selection.layout import backbone_of, layout_of

__all__ = ["RolloutPooling", "attention_maps", "attention_rollout", "eager_attention"]

RolloutPooling = Literal["auto", "mean", "last", "first"]


def attention_rollout(
    model: nn.Module, batch: Mapping[str, Tensor], *, pooling: RolloutPooling = "auto"
) -> Tensor:
    """Attention roll-out (Abnar & Zuidema 2020, arXiv 2005.00928), from the pooled vector down.

    A layer mixes (A + I) / 2, A the mean of its heads and I the residual stream; the product over
    the layers, read from where the model pools, says what share of the pooled vector stems from
    each token. It does not depend on any label.

    Args:
        model: of a known family; its attention, modes and gradient flags are restored.
        batch: input_ids and attention_mask [B, S].
        pooling: "mean" over the real tokens, the "last" or the "first" of them (a [CLS] token);
            "auto" does as the model: its own `pooling`, its config's `classifier_pooling`, else the
            last token of a decoder and the first of an encoder.

    Returns:
        [B, S] float32, 0 at padding; sums to 1 over a row with a real token.

    Raises:
        ModelError: the model cannot show its attention.
        ConfigError: an unknown pooling.
    """
    real = batch["attention_mask"].bool()
    share = _pooled(real, _pooling(model, pooling))  # [B, S]
    with frozen(model), torch.no_grad():
        maps = attention_maps(model, batch)
    for heads in reversed(maps):
        # What stands at a padded place may be anything, NaN too.
        mixed = heads.float().mean(1).masked_fill(~real[:, None, :], 0.0)  # [B, S, S]
        mixed = mixed.masked_fill(~real[:, :, None], 0.0)
        # bfloat16 rows sum to 1 only roughly.
        mixed = mixed / mixed.sum(-1, keepdim=True).clamp_min(1e-12)
        share = (share + torch.einsum("bs,bst->bt", share, mixed)) / 2
    return share


def attention_maps(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The attention of every layer, [B, H, S, S] each, lowest first; rows are the askers.

    Raises:
        ModelError: the model cannot switch to attention that shows itself, or shows none.
    """
    layout = layout_of(model)
    kept: list[Any] = []

    # Not by output_attentions=True: transformers leaves its hooks in the model for good then.
    def keep(_m: nn.Module, _a: object, output: Any) -> None:
        kept.append(output[1] if isinstance(output, tuple) and len(output) > 1 else None)

    handles = [
        layout.modules[linear.rpartition(".")[0]].register_forward_hook(keep)
        for layer in layout.layers
        for role, linear in layer.linears.items()
        if role in ("query", "qkv")
    ]
    try:
        with eager_attention(backbone_of(model)):
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    finally:
        for handle in handles:
            handle.remove()
    square = (*batch["input_ids"].shape, batch["input_ids"].shape[1])
    shapes = [None if seen is None else (seen.shape[0], *seen.shape[2:]) for seen in kept]
    if shapes != [square] * len(layout.layers):
        raise ModelError(
            f"expected {len(layout.layers)} attention maps [{square[0]}, heads, {square[1]}, "
            f"{square[2]}] from {type(model).__name__}, got {shapes or 'none'} (without heads); "
            "use another saliency for it."
        )
    return tuple(kept)


@contextlib.contextmanager
def eager_attention(backbone: nn.Module) -> Iterator[None]:
    """Plain attention inside the block, which alone shows its weights; restored afterwards.

    Raises:
        ModelError: the family has no plain attention or does not let it be chosen.
    """
    model: Any = backbone
    before = getattr(getattr(model, "config", None), "_attn_implementation", None)
    if before == "eager":
        yield
        return
    switch = getattr(model, "set_attn_implementation", None)
    try:
        if switch is None:
            raise ValueError("it has no set_attn_implementation")
        switch("eager")
        if model.config._attn_implementation != "eager":
            raise ValueError(f"it stays with {model.config._attn_implementation}")
    except (ValueError, ImportError) as error:
        raise ModelError(
            f"expected {type(model).__name__} to switch to eager attention for attention_rollout, "
            f"got: {error}; load it with attn_implementation='eager' or use another saliency."
        ) from error
    try:
        yield
    finally:
        switch(before)


def _pooling(model: nn.Module, pooling: str) -> str:
    if pooling not in get_args(RolloutPooling):
        raise ConfigError(
            f"expected a pooling of {', '.join(get_args(RolloutPooling))}, got {pooling!r}; "
            "correct it."
        )
    if pooling != "auto":
        return pooling
    config: Any = backbone_of(model).config
    said = getattr(model, "pooling", None) or getattr(config, "classifier_pooling", None)
    if said == "cls":
        return "first"
    if said in ("mean", "last"):
        return str(said)
    return "last" if layout_of(model).family == "llama" else "first"


def _pooled(real: Tensor, pooling: str) -> Tensor:
    """The share of each position in the pooled vector: float32 [B, S]."""
    share = real.float()
    if pooling == "first":
        share = share * (real.cumsum(1) == 1)
    elif pooling == "last":
        share = share * (real.flip(1).cumsum(1).flip(1) == 1)
    return share / share.sum(1, keepdim=True).clamp_min(1.0)
