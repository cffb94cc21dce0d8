"""What a calibration times: whole steps of several kinds, and compact gradients alone.

Every step has its own modules over one private copy of the weights, and learning rate 0: the work
is that of training, the values stay. Legend: T tokens, n outputs, k inputs, m selected.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparseft.optim import SparseAdamW
from sparseft.selection.build import module_selections
from sparseft.selection.calibration import parts
from sparseft.selection.layout import ModelLayout, head_names, layout_of
from sparseft.selection.selection import ModuleSelection, Selection
from sparseft.selection.units import EMBEDDING_LAYER, Structure, UnitGroup, unit_groups
from sparseft.sparse import sparsify, trainable
from sparseft_kernels import embedding_grad, masked_grad

__all__ = [
    "Measured",
    "forward_pass",
    "full_step",
    "gradient_calls",
    "private_copy",
    "random_selection",
    "sparse_step",
    "without_prefix",
]

Batch = Mapping[str, Tensor]
Loss = Callable[[nn.Module, Batch], Tensor]
# Seconds of the stretches that a case is divided into: graph and update of a step, or one alone.
Measured = Callable[[], tuple[float, ...]]

_CLIP_NORM = 1.0
_CALLS = 3


def private_copy(model: nn.Module, base: nn.Module | None = None) -> nn.Module:
    """A copy of the modules, in training mode, with no gradients and none asked for.

    Args:
        model: stays as it is.
        base: whose weights the copy shares; None: it gets its own.
    """
    sources = dict((base or model).named_parameters(remove_duplicate=False))
    made: dict[int, nn.Parameter] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) not in made:
            values = sources[name].detach()
            made[id(parameter)] = nn.Parameter(
                values.clone() if base is None else values, requires_grad=False
            )
    copied: nn.Module = copy.deepcopy(model, dict(made))
    return copied.train()


def full_step(model: nn.Module, batch: Batch, loss_fn: Loss) -> Measured:
    """A step of full finetuning, in float32 as `method=full` trains; one stretch.

    Args:
        model: a private copy; becomes its own float32 model.
    """
    model.float().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0, fused=True)
    step = _step(model, batch, loss_fn, optimizer)

    def measured() -> tuple[float, ...]:
        return (sum(step()),)

    return measured


def forward_pass(model: nn.Module, batch: Batch, loss_fn: Loss) -> Measured:
    """A forward pass that keeps nothing; one stretch."""
    now = _clock(batch)

    def measured() -> tuple[float, ...]:
        with torch.no_grad():
            started = now()
            loss_fn(model, batch)
            return (now() - started,)

    return measured


def sparse_step(model: nn.Module, selection: Selection, batch: Batch, loss_fn: Loss) -> Measured:
    """A step of a selection: forward and backward, then the update; two stretches.

    Args:
        model: a private copy; becomes sparse.
    """
    sparsify(model, selection, verify_base=False)
    optimizer = SparseAdamW(trainable(model), lr=0.0, weight_decay=0.0, fused=True)
    return _step(model, batch, loss_fn, optimizer)


def without_prefix(model: nn.Module, layout: ModelLayout, cut: int, batch: Batch) -> nn.Module:
    """Let stored outputs stand in for the embeddings and the layers below `cut`, for good.

    Args:
        model: a private copy.
        layout: of the model that it was copied from.
        cut: at least 1.
        batch: the one batch that the model will see.
    """
    kept: list[Any] = []
    layers = [model.get_submodule(layer.module_name) for layer in layout.layers[:cut]]
    hook = layers[-1].register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    with torch.no_grad():
        model(**{k: v for k, v in batch.items() if k in ("input_ids", "attention_mask")})
    hook.remove()
    start = f"{layout.prefix}." if layout.prefix else ""
    child = layout.embeddings.removeprefix(start).split(".")[0]  # with its norm and dropout
    stored: Callable[..., Any] = lambda *_, **__: kept[0]  # noqa: E731
    model.get_submodule(start + child).forward = stored
    for layer in layers:
        layer.forward = _passed
    return model


def _passed(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden_states


def _step(
    model: nn.Module, batch: Batch, loss_fn: Loss, optimizer: torch.optim.Optimizer
) -> Measured:
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    now = _clock(batch)

    def measured() -> tuple[float, ...]:
        started = now()
        loss_fn(model, batch).backward()
        between = now()
        nn.utils.clip_grad_norm_(trained, _CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return between - started, now() - between

    return measured


def _clock(batch: Batch) -> Callable[[], float]:
    """Seconds, once the device has done all it was given.

    One thread on a CPU counts the time that it ran: what other processes took is not its own.
    """
    device = batch["input_ids"].device
    if device.type == "cuda":

        def synchronised() -> float:
            torch.cuda.synchronize(device)
            return time.perf_counter()

        return synchronised
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.thread_time if alone else time.perf_counter


def random_selection(
    model: nn.Module, kinds: Sequence[str], share: float, cut: int, edge: int, seed: int
) -> Selection:
    """At random a `share` of every group's units from layer `cut` upwards, at least one of each.

    Embedding rows are taken where the cut is 0.
    """
    layout, generator = layout_of(model), np.random.default_rng(seed)
    floor = EMBEDDING_LAYER if cut == 0 else cut
    groups = [g for g in unit_groups(layout, kinds, block_edge=edge) if g.layer >= floor]
    chosen = [_draw(generator, group, share) for group in groups]
    return Selection(
        modules=module_selections(layout, groups, chosen, edge),
        choices=(),
        num_layers=len(layout.layers),
        lowest_layer=min(group.layer for group in groups),
        backbone_parameters=sum(p.numel() for p in model.parameters()),
        base_hash="",
        head=head_names(model),
        layer_names=tuple(layer.module_name for layer in layout.layers),
    )


def _draw(generator: np.random.Generator, group: UnitGroup, share: float) -> np.ndarray:
    count = max(1, round(share * group.count))
    return np.sort(generator.permutation(group.count)[:count]).astype(np.int64)


def gradient_calls(
    selection: Selection, batch: Batch, dtype: torch.dtype, seed: int
) -> Iterator[tuple[str, dict[str, float], Measured]]:
    """For each structure in the selection its largest weight's compact gradient, alone.

    Args:
        selection: whose indices are taken.
        batch: for the number of tokens, and the ids of an embedding.
        dtype: of the activations.
        seed: of their values.

    Yields:
        A name, the amounts of its parts, and the case.
    """
    largest: dict[Structure, ModuleSelection] = {}
    for module in selection.modules:
        if module.weights > getattr(largest.get(module.structure), "weights", -1):
            largest[module.structure] = module
    for structure, module in largest.items():
        amounts = parts.part_of(structure, 1, module.trained)
        yield f"{structure} {module.index.size}", amounts, _call(module, batch, dtype, seed)


def _call(module: ModuleSelection, batch: Batch, dtype: torch.dtype, seed: int) -> Measured:
    ids = batch["input_ids"].reshape(-1)
    device, (n, k) = ids.device, module.shape
    generator = torch.Generator().manual_seed(seed)

    def activations(width: int) -> Tensor:
        return torch.randn(ids.numel(), width, generator=generator).to(device, dtype)

    index = torch.from_numpy(module.index).to(device, torch.int32)
    structure, X, dY = module.structure, activations(k), activations(n)  # [T, k], [T, n]
    run: Callable[[], Any]
    if structure == "rows":
        run = lambda: masked_grad.rows(dY, X, index, bias=module.bias)  # noqa: E731
    elif structure == "columns":
        # The forward keeps the columns; that gather is a part of the cost.
        run = lambda: masked_grad.columns(dY, X.index_select(1, index))  # noqa: E731
    elif structure == "blocks":
        run = lambda: masked_grad.blocks(dY, X, index, module.edge)  # noqa: E731
    elif structure == "elements":
        run = lambda: masked_grad.elements(dY, X, index)  # noqa: E731
    else:
        # Gradients of an embedding have its width.
        run = lambda: embedding_grad.embedding_rows(X, ids, index)  # noqa: E731
    now = _clock(batch)

    def measured() -> tuple[float, ...]:
        started = now()
        for _ in range(_CALLS):
            run()
        return ((now() - started) / _CALLS,)

    return measured
