"""Apply a selection to a model, switch it off, make it permanent, take it away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from sparseft.errors import SelectionError
from sparseft.selection.selection import ModuleSelection, Selection
from sparseft.sparse.fingerprint import base_hash
from sparseft.sparse.modules import SparseEmbedding, SparseLinear, SparseModule
from sparseft.sparse.plan import Plan
from sparseft_kernels import delta_swap
from sparseft_kernels.entries import Entries

__all__ = ["disabled", "merge", "selection_of", "sparsify", "sync", "trainable", "unload"]

_STATE = "_sparseft_state"
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class _State:
    """Kept on the model: the selection, and which parameters asked for a gradient before."""

    selection: Selection
    required_grad: dict[str, bool]


def sparsify(model: Model, selection: Selection, *, verify_base: bool = True) -> Model:
    """Freeze every weight and give the selected entries compact trainable values, in place.

    The values are ordinary `nn.Parameter`s (fp32 masters, also over a bf16 base) of the modules
    that hold the weights; the head stays trainable as it is. Backward computes only their
    gradients and ends at the lowest selected layer.

    Args:
        model: the model the selection was made for; changed and returned.
        selection: from `analyze` or a file.
        verify_base: compare the hash of the pretrained weights (reads all of them once).

    Raises:
        SelectionError: already sparse, another base model, unknown modules or other shapes. The
            model is then unchanged.
    """
    if selection_or_none(model) is not None:
        raise SelectionError(
            "expected a plain model, got one that already carries a selection; "
            "call sparseft.merge or sparseft.unload first."
        )
    modules = dict(model.named_modules())
    for selected in selection.modules:
        _check(modules, selected)
    if verify_base:
        found = base_hash(model, selection.head)
        if found != selection.base_hash:
            raise SelectionError(
                f"expected base weights with hash {selection.base_hash[:12]}…, got {found[:12]}…; "
                "load the base model (and dtype) that the selection was made for."
            )
    required = {name: p.requires_grad for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in selection.head)
    for selected in selection.modules:
        _convert(modules, selected)
    setattr(model, _STATE, _State(selection, required))
    return model


def _check(modules: dict[str, nn.Module], selected: ModuleSelection) -> None:
    module = modules.get(selected.module)
    expected: type[nn.Module] = nn.Embedding if selected.structure == "embedding" else nn.Linear
    if module is None:
        raise SelectionError(
            f"expected a module {selected.module!r} in the model, got none of that name; "
            "the selection belongs to another model."
        )
    if type(module) is not expected:
        raise SelectionError(
            f"expected torch.nn.{expected.__name__} at {selected.module!r}, got "
            f"{type(module).__name__}; quantised or adapted layers cannot be trained sparsely."
        )
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    if tuple(weight.shape) != selected.shape:
        raise SelectionError(
            f"expected {selected.module}.weight of shape {selected.shape}, got "
            f"{tuple(weight.shape)}; the selection belongs to another model."
        )
    if selected.bias and module.bias is None:
        raise SelectionError(
            f"expected a bias at {selected.module!r}, got none; "
            "the selection belongs to another model."
        )
    if isinstance(module, nn.Embedding) and (
        module.max_norm is not None or module.scale_grad_by_freq or module.sparse
    ):
        raise SelectionError(
            f"expected a plain embedding at {selected.module!r}, got one with max_norm, "
            "scale_grad_by_freq or sparse gradients; switch them off."
        )

    for name, other in _tied(modules, selected.module):
        if isinstance(other, nn.Embedding) and selected.structure not in ("rows", "embedding"):
            raise SelectionError(
                f"expected rows of {selected.module!r}, which is tied to the embedding {name!r}, "
                f"got {selected.structure}; select embedding rows, or untie the weights."
            )


def _tied(modules: dict[str, nn.Module], name: str) -> list[tuple[str, nn.Module]]:
    """The other modules that use the same weight."""
    weight = modules[name].weight
    return [
        (other_name, other)
        for other_name, other in modules.items()
        if other_name != name and getattr(other, "weight", None) is weight
    ]


def _convert(modules: dict[str, nn.Module], selected: ModuleSelection) -> None:
    module = modules[selected.module]
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    plan = Plan.of(selected, weight.device)
    first = _become(module)
    first.attach(plan)
    # A tied weight has several users; each must send its gradient to the same values.
    for _, other in _tied(modules, selected.module):
        structure = plan.structure
        if structure in ("rows", "embedding"):
            structure = "embedding" if isinstance(other, nn.Embedding) else "rows"
        tied = Plan(structure, plan.index, plan.edge, bias=False)
        _become(other).attach(tied, shared=first.sparse_values)


def _become(module: nn.Module) -> SparseModule:
    module.__class__ = SparseEmbedding if isinstance(module, nn.Embedding) else SparseLinear
    assert isinstance(module, SparseModule)
    return module


def sparse_modules(model: nn.Module) -> dict[str, SparseModule]:
    """Every module with compact values, by name (tied ones included)."""
    return {n: m for n, m in model.named_modules() if isinstance(m, SparseModule)}


def selection_or_none(model: nn.Module) -> Selection | None:
    """The selection that a model carries, if any."""
    state: _State | None = getattr(model, _STATE, None)
    return None if state is None else state.selection


def selection_of(model: nn.Module) -> Selection:
    """The selection that a model carries.

    Raises:
        SelectionError: the model is plain.
    """
    selection = selection_or_none(model)
    if selection is None:
        raise SelectionError(
            f"expected a model after sparseft.sparsify or load_delta, got a plain "
            f"{type(model).__name__}; pass the object that sparsify returned."
        )
    return selection


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters to give to an optimizer: compact values and the head."""
    selection_of(model)
    return [p for p in model.parameters() if p.requires_grad]


def sync(model: nn.Module) -> None:
    """Write all compact values into their weights now.

    Needed only after a change that torch cannot notice, such as through `.data`.
    """
    selection_of(model)
    for module in sparse_modules(model).values():
        module.write_through()


@contextlib.contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """The base model again, bit for bit, inside the block (the head stays the trained one).

    The trained entries change places with the base's and come back as they were; values that
    changed inside the block are written when it ends.
    """
    selection_of(model)
    modules = [m for m in sparse_modules(model).values() if not m.sparse_disabled]
    _exchange(modules)
    for module in modules:
        module.sparse_disabled = True
    try:
        yield
    finally:
        # The block may have merged, unloaded or swapped: what is left is still disabled.
        left = [m for m in modules if isinstance(m, SparseModule) and m.sparse_disabled]
        _exchange(left)
        for module in left:
            module.sparse_disabled = False
            module.sync()


@torch.no_grad()
def _exchange(modules: list[SparseModule], *, swap: bool = True) -> None:
    """Swap the base's entries with the trained ones, or only put them into the weights."""
    pairs: dict[int, tuple[Entries, Tensor]] = {}
    for module in modules:
        for entries, base in module.base():
            # Tied modules hold the same entries: move them once.
            pairs.setdefault(id(entries.weight), (entries, base))
    move = delta_swap.swap_ if swap else delta_swap.write_
    for device in {entries.weight.device: None for entries, _ in pairs.values()}:
        here = [pair for pair in pairs.values() if pair[0].weight.device == device]
        move([entries for entries, _ in here], [base for _, base in here])


def merge(model: Model) -> Model:
    """Keep the trained values for good and leave a plain model, with no trace of sparseft.

    Raises:
        SelectionError: inside `disabled`, where the weights are the base's.
    """
    selection_of(model)
    if any(module.sparse_disabled for module in sparse_modules(model).values()):
        raise SelectionError(
            "expected a model with its delta, got one inside sparseft.disabled; "
            "leave the block first, or call sparseft.unload."
        )
    sync(model)
    return _plain(model)


def unload(model: Model) -> Model:
    """Put the base model's weights back, bit for bit, and leave a plain model.

    The head stays as it is: the base has none.
    """
    selection_of(model)
    modules = sparse_modules(model).values()
    _exchange([module for module in modules if not module.sparse_disabled], swap=False)
    return _plain(model)


def _plain(model: Model) -> Model:
    state: _State = getattr(model, _STATE)
    for module in sparse_modules(model).values():
        module.detach_values()
        plain: type[nn.Module] = nn.Embedding if isinstance(module, nn.Embedding) else nn.Linear
        module.__class__ = plain  # type: ignore[assignment]
    delattr(model, _STATE)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(state.required_grad.get(name, True))
    return model
