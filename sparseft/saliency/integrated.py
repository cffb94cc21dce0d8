"""Integrated gradients: what each token adds to the loss on the way from an empty text.

Legend: B rows, S positions, d width of the embeddings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from sparseft.errors import ConfigError
from sparseft.saliency.capture import LossFunction, captured_backward, frozen
from sparseft.selection.layout import ModelLayout, backbone_of, layout_of

__all__ = ["Attribution", "Baseline", "integrated_gradients"]

Baseline = Literal["pad", "zero"] | int


@dataclass(frozen=True, eq=False)
class Attribution:
    """What each token adds to the loss, and the loss at both ends of the path.

    Attributes:
        values: float32 [B, S], signed: below 0 where the token lowers the loss; 0 at padding.
        start: of the empty text, [B], or one number where the loss is one number for the batch.
        end: of the text itself, of the same shape.
    """

    values: Tensor
    start: Tensor
    end: Tensor

    @property
    def completeness_error(self) -> Tensor:
        """|sum of the values - (end - start)|: 0 but for the steps' coarseness; shape of `end`."""
        total = self.values.sum(1) if self.end.ndim else self.values.sum()
        return (total - (self.end - self.start)).abs()


def integrated_gradients(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    loss_fn: LossFunction,
    *,
    steps: int = 16,
    baseline: Baseline = "pad",
) -> Attribution:
    """Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) at the token embeddings.

    The integral along the straight path is Gauss-Legendre's, which needs fewer steps than equal
    ones; each step is one forward and one backward pass, and two more forward passes give the ends.

    Args:
        model: of a known family; its modes and gradient flags are restored.
        batch: input_ids, attention_mask [B, S], and what `loss_fn` reads.
        loss_fn: the loss of each row, [B], for a completeness error of each; or one number.
        steps: gradients taken on the path, 1 or more.
        baseline: what an empty text is made of: the embedding of the model's padding token, zeros,
            or the embedding of the token of that id (a mask token's, say). Positions keep theirs.

    Raises:
        ConfigError: no steps, a baseline that the model does not have, or one of zeros for a
            decoder with RMSNorm, where the path has no slope to follow.
        SelectionError: a loss that is not finite.
    """
    if steps < 1:
        raise ConfigError(f"expected steps of 1 or more, got {steps}; change `steps`.")
    layout = layout_of(model)
    # [1 or d]; taken before the hooks are set, which would catch it.
    empty = _baseline(model, layout, baseline)
    mask = batch["attention_mask"].bool()

    def between(share: float) -> Callable[[Tensor], Tensor]:
        return lambda hidden: (empty + share * (hidden.float() - empty)).to(hidden.dtype)

    nodes, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    slope = torch.zeros(1, device=empty.device)  # grows to [B, S, d]
    inside: list[Tensor] = []
    with frozen(model):
        for node, weight in zip(nodes, weights, strict=True):
            captured = captured_backward(
                model,
                layout,
                batch,
                lowest_layer=0,
                loss_fn=lambda m, b: loss_fn(m, b).sum(),
                enter=between(float(1 + node) / 2),
            )
            assert captured.entry_gradient is not None
            slope = slope + captured.entry_gradient.float() * float(weight / 2)
        start = _loss_at(model, layout, batch, loss_fn, between(0.0))

        def keep(hidden: Tensor) -> Tensor:
            inside.append(hidden.float())
            return hidden

        end = _loss_at(model, layout, batch, loss_fn, keep)
    values = ((inside[0] - empty) * slope).sum(-1)  # [B, S]
    return Attribution(values.masked_fill(~mask, 0.0), start, end)


def _loss_at(
    model: nn.Module,
    layout: ModelLayout,
    batch: Mapping[str, Tensor],
    loss_fn: LossFunction,
    enter: Callable[[Tensor], Tensor],
) -> Tensor:
    with torch.no_grad(), _entering(layout, enter):
        return loss_fn(model, batch).detach().float()


@contextlib.contextmanager
def _entering(layout: ModelLayout, enter: Callable[[Tensor], Tensor]) -> Iterator[None]:
    embedding = layout.modules[layout.embeddings]
    handle = embedding.register_forward_hook(lambda _m, _a, out: enter(out))
    try:
        yield
    finally:
        handle.remove()


def _baseline(model: nn.Module, layout: ModelLayout, baseline: Baseline) -> Tensor:
    embedding = layout.modules[layout.embeddings]
    weight = embedding.weight
    assert isinstance(weight, Tensor)
    if baseline == "zero":
        return _with_direction(layout, torch.zeros(1, device=weight.device), baseline)
    token: object = baseline
    if baseline == "pad":
        token = getattr(backbone_of(model).config, "pad_token_id", None)
    if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < weight.shape[0]:
        raise ConfigError(
            f"expected a baseline of pad (where the model's config names its padding token), zero, "
            f"or a token id below {weight.shape[0]}, got {baseline!r} (id {token}); give the "
            "tokenizer's mask or padding id."
        )
    with torch.no_grad():
        # Through the module: some scale what they look up.
        vector = embedding(torch.tensor([token], device=weight.device))[0].detach().float()
    return _with_direction(layout, vector, baseline)


def _with_direction(layout: ModelLayout, vector: Tensor, baseline: Baseline) -> Tensor:
    # RMSNorm drops a vector's length, so the loss jumps at zero and no number of steps adds up.
    if layout.family == "llama" and not bool(vector.any()):
        raise ConfigError(
            f"expected a baseline other than zeros for a {layout.family}-shaped decoder, whose "
            f"norm has no slope there, got {baseline!r}; give the id of a token with an embedding."
        )
    return vector
