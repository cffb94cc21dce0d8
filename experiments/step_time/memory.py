"""The bytes that a training step holds, counted from its tensors: exact, and the same every time.

A CPU has no meter of one method's memory in a process that holds several. What decides it can be
counted instead: the weights, what autograd keeps from forward to backward, the gradients, and the
optimizer's state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from cases import Case, bytes_of
from torch import Tensor, nn

__all__ = ["step_bytes"]


def step_bytes(case: Case, index: int = 0) -> dict[str, int]:
    """Bytes of one step on batch `index`; the step is taken, as any other.

    Returns:
        `weight_bytes`: the model's parameters and buffers, compact values, adapters and indices;
        `forward_bytes`: held at the end of forward for the backward pass, weights not counted;
        `gradient_bytes`: of the trained numbers, at the end of backward;
        `optimizer_state_bytes`: moments, and float32 masters where the weights are narrower;
        `held_bytes`: their sum, which a step's peak does not exceed by much more than one
        operation's scratch.
    """
    forward, loss = _held_by_forward(case.model, case.batch(index))
    loss.backward()
    gradient = bytes_of(p.grad for p in case.model.parameters() if p.grad is not None)
    case.update()
    counted = {
        "weight_bytes": _storage_bytes(_tensors_of(case.model)),
        "forward_bytes": forward,
        "gradient_bytes": gradient,
        "optimizer_state_bytes": case.update.state_bytes(),
    }
    return {**counted, "held_bytes": sum(counted.values())}


def _storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Each storage once: tied weights and views are no further bytes."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def _tensors_of(model: nn.Module) -> list[Tensor]:
    """Parameters, buffers, and what modules keep beside them, such as the indices of a method."""
    return [tensor for module in model.modules() for tensor in _within(vars(module), set())]


def _within(value: Any, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping) and id(value) not in seen:
        seen.add(id(value))
        for name, item in value.items():
            if name != "_modules":  # they have their own turn
                yield from _within(item, seen)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _within(item, seen)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _within(vars(value), seen)


def _held_by_forward(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[int, Any]:
    """Bytes of the storages that autograd keeps, without weights and the batch itself."""
    known = [*_tensors_of(model), *batch.values()]
    ours = {tensor.untyped_storage().data_ptr() for tensor in known}
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        # Detached: a node that saves its own output would keep itself alive.
        kept = tensor.detach()
        if not tensor.is_sparse and tensor.untyped_storage().data_ptr() not in ours:
            saved.append(kept)
        elif tensor.is_sparse:
            saved.extend((kept._indices(), kept._values()))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        loss = model(**batch).loss
    return _storage_bytes(saved), loss
