"""What the tests of several methods share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sparseft.methods import MethodContext, Prepared, get
from sparseft.models import TextClassifier
from sparseft.selection.layout import layout_of
from tests.tiny import LAYERS, tiny_batch

# Sizes that fit the tiny models; no dropout, so that a loss can be compared with the next one.
OPTIONS: dict[str, dict[str, Any]] = {
    "lora": {"r": 2, "dropout": 0.0},
    "lora_upper": {"r": 2, "dropout": 0.0},
    "rslora": {"r": 2, "dropout": 0.0},
    "shira": {"r": 2},
    "prefix": {"tokens": 3},
    "layers_sensitivity": {"batches": 1},
}


def context(model: TextClassifier, name: str, seed: int = 0, **options: Any) -> MethodContext:
    def batches(count: int) -> list[dict[str, Tensor]]:
        return [tiny_batch(model, seed=number) for number in range(count)]

    return MethodContext(
        batches=batches, seed=seed, num_layers=LAYERS, options=OPTIONS.get(name, {}) | options
    )


def prepare(model: TextClassifier, name: str, seed: int = 0, **options: Any) -> Prepared:
    return get(name)(model, context(model, name, seed, **options))


def train(prepared: Prepared, steps: int = 1, lr: float = 1e-2) -> list[float]:
    """Losses before each step and after the last, on one repeated batch."""
    model = prepared.model.train()
    batch = tiny_batch(model, rows=8)
    optimizer = torch.optim.AdamW(prepared.body + prepared.head, lr=lr)
    losses = []
    for _ in range(steps):
        loss = model(**batch).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        losses.append(model(**batch).loss.item())
    return losses


def layers_with_a_graph(model: TextClassifier, layers: list[nn.Module]) -> list[int]:
    """Which of `layers` give an output that backward would go through."""
    found: list[int] = []

    def watch(index: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            if tensor.requires_grad:
                found.append(index)

        return hook

    handles = [layer.register_forward_hook(watch(index)) for index, layer in enumerate(layers)]
    model(**tiny_batch(model))
    for handle in handles:
        handle.remove()
    return found


def layer_modules(model: TextClassifier) -> list[nn.Module]:
    return [
        model.backbone.get_submodule(layer.module_name)
        for layer in layout_of(model.backbone).layers
    ]
