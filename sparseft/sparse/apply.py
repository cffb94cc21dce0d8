"""Apply a selection to a model, switch it off, make it permanent, take it away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from sparseft.errors import SelectionError
from sparseft.selection.selection import ModuleSelection, Selection
from sparseft.sparse.added import keep_for_good, remove_rows
from sparseft.sparse.checks import check_module, check_vector, tied
from sparseft.sparse.fingerprint import base_hash
from sparseft.sparse.modules import SparseEmbedding, SparseLinear, SparseModule
from sparseft.sparse.plan import Plan
from sparseft.sparse.vectors import VectorModule, become_vector_module
from sparseft_kernels import delta_swap
from sparseft_kernels.entries import Entries

__all__ = ["disabled", "merge", "selection_of", "sparsify", "sync", "trainable", "unload"]

_STATE = "_sparseft_state"
_OURS = (SparseModule, VectorModule)
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
        check_module(modules, selected)
    for vector in selection.vectors:
        check_vector(modules, vector, selection)
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
    whole = {vector.module for vector in selection.vectors}
    for selected in selection.modules:
        _convert(modules, selected, whole_bias=selected.module in whole)
    for vector in selection.vectors:
        if not isinstance(modules[vector.module], SparseModule):
            become_vector_module(modules[vector.module], vector.parameters)
    setattr(model, _STATE, _State(selection, required))
    return model


def _convert(modules: dict[str, nn.Module], selected: ModuleSelection, whole_bias: bool) -> None:
    module = modules[selected.module]
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    plan = Plan.of(selected, weight.device, whole_bias)
    first = _become(module)
    first.attach(plan)
    # A tied weight has several users; each must send its gradient to the same values.
    for _, other in tied(modules, selected.module):
        structure = plan.structure
        if structure in ("rows", "embedding"):
            structure = "embedding" if isinstance(other, nn.Embedding) else "rows"
        same = Plan(structure, plan.index, plan.edge, bias=False)
        _become(other).attach(same, shared=first.sparse_values)


def _become(module: nn.Module) -> SparseModule:
    module.__class__ = SparseEmbedding if isinstance(module, nn.Embedding) else SparseLinear
    assert isinstance(module, SparseModule)
    return module


def sparse_modules(model: nn.Module) -> dict[str, SparseModule]:
    """Every module with compact values, by name (tied ones included)."""
    return {n: m for n, m in model.named_modules() if isinstance(m, SparseModule)}


def trained_modules(model: nn.Module) -> list[SparseModule | VectorModule]:
    """Every module with trained values of ours: of entries, or of whole vectors."""
    return [m for m in model.modules() if isinstance(m, _OURS)]


def vector_values(model: nn.Module, selection: Selection) -> dict[str, nn.Parameter]:
    """The values of each vector that is trained whole, by the vector's name in the model."""
    found = {}
    for vector in selection.vectors:
        module = model.get_submodule(vector.module)
        for name in vector.parameters:
            values = module.sparse_bias if isinstance(module, SparseModule) else None
            if isinstance(module, VectorModule):
                values = module.values(name)
            assert values is not None
            found[f"{vector.module}.{name}"] = values
    return found


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


def carry_selection(model: nn.Module, selection: Selection) -> None:
    """Note that a sparse model now trains the entries of `selection`; see `reselect`."""
    setattr(model, _STATE, replace(getattr(model, _STATE), selection=selection))


def plain_names(model: nn.Module) -> tuple[str, ...]:
    """The names of the parameters that the model had before `sparsify`."""
    selection_of(model)
    state: _State = getattr(model, _STATE)
    return tuple(state.required_grad)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters to give to an optimizer: compact values and the head."""
    selection_of(model)
    return [p for p in model.parameters() if p.requires_grad]


def sync(model: nn.Module) -> None:
    """Write all compact values into their weights now.

    Needed only after a change that torch cannot notice, such as through `.data`.
    """
    selection_of(model)
    for module in trained_modules(model):
        module.write_through()


@contextlib.contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """The base model again, bit for bit, inside the block (the head stays the trained one).

    The trained entries change places with the base's and come back as they were; values that
    changed inside the block are written when it ends.
    """
    selection_of(model)
    modules = [m for m in trained_modules(model) if not m.sparse_disabled]
    _exchange(modules)
    for module in modules:
        module.sparse_disabled = True
    try:
        yield
    finally:
        # The block may have merged, unloaded or swapped: what is left is still disabled.
        left = [m for m in modules if isinstance(m, _OURS) and m.sparse_disabled]
        _exchange(left)
        for module in left:
            module.sparse_disabled = False
            module.sync()


@torch.no_grad()
def _exchange(modules: list[SparseModule | VectorModule], *, swap: bool = True) -> None:
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
    if any(module.sparse_disabled for module in trained_modules(model)):
        raise SelectionError(
            "expected a model with its delta, got one inside sparseft.disabled; "
            "leave the block first, or call sparseft.unload."
        )
    sync(model)
    keep_for_good(model)
    return _plain(model)


def unload(model: Model) -> Model:
    """Put the base model's weights back, bit for bit, and leave a plain model.

    Rows for new tokens that `load_delta` added are taken away. The head stays as it is: the base
    has none.
    """
    selection_of(model)
    modules = trained_modules(model)
    _exchange([module for module in modules if not module.sparse_disabled], swap=False)
    plain = _plain(model)
    remove_rows(plain, of_delta=True)
    return plain


def _plain(model: Model) -> Model:
    state: _State = getattr(model, _STATE)
    for module in trained_modules(model):
        module.detach_values()
        plain: type[nn.Module] = nn.Embedding if isinstance(module, nn.Embedding) else nn.Linear
        if isinstance(module, VectorModule):
            plain = module.sparse_plain
        module.__class__ = plain  # type: ignore[assignment]
    delattr(model, _STATE)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(state.required_grad.get(name, True))
    return model
