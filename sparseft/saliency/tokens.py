"""Token saliency: how much each token position matters for the loss.

Legend: B rows, S positions, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sparseft.errors import ConfigError
from sparseft.saliency.capture import Captured, LossFunction, captured_backward, frozen, loss_of
from sparseft.saliency.integrated import Baseline, integrated_gradients
from sparseft.saliency.rollout import RolloutPooling, attention_rollout
from sparseft.saliency.target import Target, is_multi_label, logits_of, row_losses, target_labels
from sparseft.selection.layout import layout_of

__all__ = [
    "IN_PASS",
    "ConstructWeights",
    "SaliencyMethod",
    "normalised",
    "saliency_of",
    "token_saliency",
    "token_weights",
]

InPass = Literal["gradient_x_input", "gradient_norm", "uniform"]
OwnPass = Literal["integrated_gradients", "attention_rollout", "constructs"]
SaliencyMethod = InPass | OwnPass

IN_PASS: tuple[str, ...] = get_args(InPass)
_OWN_PASS: tuple[str, ...] = get_args(OwnPass)

# Raw weights [B, S] of input_ids and attention_mask [B, S] and labels [B] or [B, C].
ConstructWeights = Callable[[Tensor, Tensor, Tensor], Tensor]


def normalised(raw: Tensor, attention_mask: Tensor) -> Tensor:
    """Scale to mean 1 over each example's real tokens, 0 at padding.

    Args:
        raw: [B, S], non-negative; at padding it may be anything.
        attention_mask: [B, S], 1 for real tokens.

    Returns:
        [B, S] float32. An example whose saliency is zero everywhere gets equal weights.
    """
    mask = attention_mask.to(torch.float32)
    raw = raw.float().masked_fill(mask == 0, 0.0)
    total = raw.sum(1, keepdim=True)
    count = mask.sum(1, keepdim=True)
    return torch.where(total > 0, raw / total.clamp_min(1e-38) * count, mask)


def saliency_of(captured: Captured, attention_mask: Tensor, method: str) -> Tensor:
    """Token weights [B, S] from a captured backward pass, for the methods of `IN_PASS`.

    `gradient_x_input` is |sum_d h[d] dL/dh[d]| at the entry of the graph (Shrikumar et al. 2016,
    arXiv 1605.01713): the first-order change of the loss when the token's vector is set to zero.
    `gradient_norm` is the length of dL/dh (Simonyan et al. 2013, arXiv 1312.6034): how much the
    loss can change when the vector moves a little. `uniform` makes all tokens equal.

    Raises:
        ConfigError: unknown method, or one that needs passes of its own.
    """
    if method == "uniform":
        return attention_mask.to(torch.float32)
    if method in ("gradient_x_input", "gradient_norm"):
        assert captured.entry is not None and captured.entry_gradient is not None
        gradient = captured.entry_gradient.float()
        if method == "gradient_norm":
            return normalised(torch.linalg.vector_norm(gradient, dim=-1), attention_mask)
        return normalised((captured.entry.float() * gradient).sum(-1).abs(), attention_mask)
    if method in _OWN_PASS:
        raise ConfigError(
            f"expected a saliency that one backward pass shows ({', '.join(IN_PASS)}), got "
            f"{method!r}, which needs its own; use token_weights."
        )
    raise _unknown(method)


def token_saliency(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    method: str = "gradient_x_input",
    *,
    target: Target = "label",
    constructs: ConstructWeights | None = None,
    steps: int = 16,
    baseline: Baseline = "pad",
    pooling: RolloutPooling = "auto",
    loss_fn: LossFunction | None = None,
) -> Tensor:
    """How much each token of a batch matters for the loss of a label.

    Args:
        model: a classifier of a known family; unchanged.
        batch: input_ids, attention_mask [B, S], and labels ([B], or multi-hot [B, C]) where the
            target is "label". Rows without a real token weigh 0 everywhere.
        method: gradient_x_input, gradient_norm, uniform (see `saliency_of`), integrated_gradients,
            attention_rollout (see there), or constructs.
        target: which label: "label", "predicted", a class number, or labels [B] or [B, C]. Roll-out
            and uniform weights do not depend on it.
        constructs: of the method constructs: a function of input_ids, attention_mask and the
            target's labels that gives raw weights [B, S], such as
            `lambda ids, mask, labels: construct_saliency(ids, mask, found, labels)`.
        steps: of integrated gradients.
        baseline: of integrated gradients: "pad", "zero" or a token's id.
        pooling: of the roll-out: "auto", "mean", "last" or "first".
        loss_fn: a loss of one's own in place of the model's, for gradients of the target "label".

    Returns:
        [B, S] float32, mean 1 over each example's real tokens, 0 at padding.

    Raises:
        ConfigError: an unknown method or target, a missing `constructs`, or a loss_fn with another
            target than "label".
        SelectionError: labels are missing, or the loss is not finite.
        ModelError: the model's family is not known, or cannot show its attention.
    """
    if method not in (*IN_PASS, *_OWN_PASS):
        raise _unknown(method)
    if loss_fn is not None and not (isinstance(target, str) and target == "label"):
        raise ConfigError(
            f"expected target 'label' with a loss_fn, got {target!r}: the loss reads the batch's "
            "own labels; leave one of them out."
        )
    mask = batch["attention_mask"]
    if method == "uniform":
        return mask.to(torch.float32)
    real = mask.ne(0).any(1)
    if not bool(real.all()):
        # Attention over nothing is not a number, and would spoil the batch's loss.
        weights = torch.zeros(mask.shape, device=mask.device)
        if bool(real.any()):
            where = real.to("cpu")
            some = {k: v[where.to(v.device)] for k, v in batch.items()}
            aim = target[where.to(target.device)] if isinstance(target, Tensor) else target
            weights[real] = token_saliency(
                model, some, method, target=aim, constructs=constructs, steps=steps,
                baseline=baseline, pooling=pooling, loss_fn=loss_fn,
            )  # fmt: skip
        return weights
    if method == "attention_rollout":
        return normalised(attention_rollout(model, batch, pooling=pooling), mask)
    if method == "constructs":
        return _of_constructs(model, batch, target, constructs)
    with frozen(model):
        # What can be a number for each row is one, so that no row depends on its batch.
        loss = loss_fn or _row_loss(model, batch, target)
        if method == "integrated_gradients":
            found = integrated_gradients(model, batch, loss, steps=steps, baseline=baseline)
            return normalised(found.values.abs(), mask)
        if loss_fn is None and isinstance(target, str) and target == "label":
            loss = loss_of
        captured = captured_backward(
            model, layout_of(model), batch, lowest_layer=0, loss_fn=lambda m, b: loss(m, b).sum()
        )
    return saliency_of(captured, mask, method)


def token_weights(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    method: str,
    *,
    captured: Captured | None = None,
    target: Target = "label",
    constructs: ConstructWeights | None = None,
    steps: int = 16,
    baseline: Baseline = "pad",
    pooling: RolloutPooling = "auto",
    loss_fn: LossFunction | None = None,
) -> Tensor:
    """`token_saliency` for a caller who has run the model already.

    Args:
        captured: a backward pass of the same batch for its gold labels. A method that it can show
            (`IN_PASS`) with the target "label" runs nothing then; any other runs its own passes,
            from the token embeddings. The other arguments are those of `token_saliency`.

    Returns:
        [B, S] float32, mean 1 over each example's real tokens, 0 at padding.
    """
    gold = isinstance(target, str) and target == "label"
    if captured is not None and method in IN_PASS and gold:
        return saliency_of(captured, batch["attention_mask"], method)
    return token_saliency(
        model, batch, method, target=target, constructs=constructs, steps=steps,
        baseline=baseline, pooling=pooling, loss_fn=loss_fn,
    )  # fmt: skip


def _row_loss(model: nn.Module, batch: Mapping[str, Tensor], target: Target) -> LossFunction:
    labels = target_labels(model, batch, target)
    several = is_multi_label(model, batch)
    return lambda m, b: row_losses(logits_of(m, b), labels, several)


def _of_constructs(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    target: Target,
    constructs: ConstructWeights | None,
) -> Tensor:
    if constructs is None:
        raise ConfigError(
            "expected `constructs` with the saliency constructs, got none; give a function of "
            "input_ids, attention_mask and labels, such as one around construct_saliency."
        )
    with frozen(model):
        labels = target_labels(model, batch, target)
    mask = batch["attention_mask"]
    raw = constructs(batch["input_ids"], mask, labels)
    if raw.shape != mask.shape or bool((raw < 0).any()):
        raise ConfigError(
            f"expected construct weights of 0 or more, {list(mask.shape)}, got "
            f"{list(raw.shape)} with a least of {float(raw.min()):g}; correct `constructs`."
        )
    return normalised(raw, mask)


def _unknown(method: str) -> ConfigError:
    known = ", ".join((*IN_PASS, *_OWN_PASS))
    return ConfigError(f"expected a saliency of {known}, got {method!r}; correct `saliency`.")
