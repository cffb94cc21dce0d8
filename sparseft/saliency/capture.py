"""Run a model on a batch for its gradients' sake, leaving no trace in it.

The forward pass below the entry module needs no graph: its output is cut and made a leaf, so a
backward pass ends there. No weight receives a gradient.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sparseft.errors import SelectionError
from sparseft.selection.layout import ModelLayout

__all__ = ["Captured", "captured_backward", "frozen", "loss_of"]

LossFunction = Callable[[nn.Module, Mapping[str, Tensor]], Tensor]


def loss_of(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """The model's own loss on a batch with labels.

    Raises:
        SelectionError: the batch has no labels or the model returns no loss.
    """
    if "labels" not in batch:
        raise SelectionError(
            f"expected a batch with labels, got {sorted(batch)}; sensitivity needs a loss."
        )
    inputs = {k: v for k, v in batch.items() if k in ("input_ids", "attention_mask", "labels")}
    loss = getattr(model(**inputs), "loss", None)
    if loss is None:
        raise SelectionError(
            f"expected {type(model).__name__} to return a loss, got none; pass loss_fn."
        )
    return loss


@dataclass
class Captured:
    """What one backward pass showed: the entry's activations and gradients, X and dY by module."""

    entry: Tensor | None = None  # [B, S, d]
    entry_gradient: Tensor | None = None  # [B, S, d]
    inputs: dict[str, Tensor] = field(default_factory=dict)  # [T, k], or ids [T] of an embedding
    gradients: dict[str, Tensor] = field(default_factory=dict)  # [T, n]


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with no parameter asking for a gradient; both restored afterwards."""
    flags = [(p, p.requires_grad) for p in model.parameters()]
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    for parameter, _ in flags:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode


def captured_backward(
    model: nn.Module,
    layout: ModelLayout,
    batch: Mapping[str, Tensor],
    *,
    lowest_layer: int,
    modules: tuple[str, ...] = (),
    loss_fn: LossFunction = loss_of,
    enter: Callable[[Tensor], Tensor] | None = None,
) -> Captured:
    """Forward and backward, keeping X and dY of the named modules.

    Args:
        model: in the `frozen` context.
        layout: its layout.
        batch: input_ids, attention_mask [B, S] and labels.
        lowest_layer: where the graph begins: the input of that layer, or the token embedding's
            output for -1 and 0.
        modules: linears (and the token embedding) to keep; none for the entry alone.
        enter: what to put in place of the entry's activations [B, S, d]; None leaves them.

    Raises:
        SelectionError: the loss does not depend on the entry, or is not finite.
    """
    kept = Captured()
    handles = []

    def leaf(hidden: Tensor) -> Tensor:
        entering = hidden if enter is None else enter(hidden)
        kept.entry = entering.detach().requires_grad_(True)
        return kept.entry

    def enter_layer(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (leaf(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": leaf(kwargs["hidden_states"])}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            x = args[0].detach()
            kept.inputs[name] = (
                x.reshape(-1, x.shape[-1]) if x.is_floating_point() else x.reshape(-1)
            )

            def keep_gradient(gradient: Tensor) -> None:
                kept.gradients[name] = gradient.detach().reshape(-1, gradient.shape[-1])

            output.register_hook(keep_gradient)

        return hook

    try:
        if lowest_layer <= 0:
            embedding = layout.modules[layout.embeddings]
            handles.append(embedding.register_forward_hook(lambda _m, _a, out: leaf(out)))
        else:
            layer = layout.modules[layout.layers[lowest_layer].module_name]
            handles.append(layer.register_forward_pre_hook(enter_layer, with_kwargs=True))
        for name in modules:
            handles.append(layout.modules[name].register_forward_hook(keep(name)))
        with torch.enable_grad():
            loss = loss_fn(model, batch)
            if not torch.isfinite(loss):
                raise SelectionError(
                    f"expected a finite loss, got {loss.item()}; check the data and the weights."
                )
            if kept.entry is None or not loss.requires_grad:
                raise SelectionError(
                    "expected the loss to depend on the layers' input, got no graph; "
                    "is the model in inference mode, or compiled?"
                )
            kept.entry_gradient = torch.autograd.grad(loss, kept.entry)[0].detach()
            kept.entry = kept.entry.detach()
    finally:
        for handle in handles:
            handle.remove()
    return kept
