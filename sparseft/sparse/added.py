"""Embedding rows that were added for new tokens: saved with a delta, and taken away again.

The rows belong to the base that a selection is made for, so `base_hash` covers them. A delta keeps
them, because the pretrained model that it is loaded into has none.

Legend: M added ids, V rows of the table before, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparseft.errors import DeltaError, ModelError
from sparseft.selection.layout import layout_of

__all__ = [
    "AddedRows",
    "add_rows",
    "added_rows",
    "base_tables",
    "from_tensors",
    "grown_tables",
    "has_added",
    "keep_for_good",
    "make_room",
    "remove_rows",
    "to_tensors",
]

_NOTE = "_sparseft_added"
_PREFIX = "added."
_IDS = "added.ids"


@dataclass(frozen=True, eq=False)
class AddedRows:
    """The rows of added ids.

    Attributes:
        ids: int64 [M], sorted; with the ids between the old table's end and the last one.
        rows: by the name of each table in the model (the embedding's weight; an untied output
            matrix and its bias), [M, …] in the table's dtype.
    """

    ids: Tensor
    rows: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class _Note:
    """Kept on the model: how to take the rows away."""

    ids: Tensor  # int64 [M]
    size: int  # V
    replaced: Mapping[str, Tensor]  # what stood at those ids that are below V
    of_delta: bool  # load_delta added them, so unload takes them away


def to_tensors(added: AddedRows | None) -> dict[str, Tensor]:
    """As they stand in a file; `from_tensors` reads them."""
    if added is None:
        return {}
    rows = {f"{_PREFIX}{name}": rows.contiguous() for name, rows in added.rows.items()}
    return {_IDS: added.ids, **rows}


def from_tensors(tensors: Mapping[str, Tensor]) -> AddedRows | None:
    """The added rows among the tensors of a file; None where it has none.

    Raises:
        DeltaError: the ids are not in order.
    """
    if _IDS not in tensors:
        return None
    ids = tensors[_IDS].to(torch.int64)
    if ids.ndim != 1 or not len(ids) or int(ids[0]) < 0 or not bool((ids.diff() > 0).all()):
        raise DeltaError(
            "expected the ids of added rows in order, got others; the delta is damaged, "
            "copy it again."
        )
    rows = {n[len(_PREFIX) :]: t for n, t in tensors.items() if n.startswith(_PREFIX) and n != _IDS}
    return AddedRows(ids, rows)


def make_room(model: nn.Module, ids: Sequence[int]) -> tuple[str, ...]:
    """Give the token embedding (and an untied output matrix) rows for new ids, and remember it.

    The other rows keep their bits. What the new ones hold is for the caller to write; ids between
    the old table's end and the first new one get zeros.

    Args:
        model: a plain model of a known family.
        ids: new token ids.

    Returns:
        The names of the tables that have rows for them.

    Raises:
        ModelError: no transformers model, or one that has added rows already.
    """
    if _note(model) is not None:
        raise ModelError(
            "expected a model without added tokens, got one that has some; load the model again."
        )
    owner = _owner(model)
    table = _table(model)
    size = len(table)
    listed = sorted({*ids, *range(size, max(ids) + 1)})
    before = {name: parameter.shape for name, parameter in model.named_parameters()}
    if listed[-1] >= size:
        _resize(owner, table, listed[-1] + 1)
    names = [n for n, p in model.named_parameters() if p.shape != before[n]] or _tables(model)
    index = torch.tensor(listed)
    spare = index[index < size]
    note = _Note(
        ids=index,
        size=size,
        replaced={n: model.get_parameter(n).detach()[spare].cpu() for n in names},
        of_delta=False,
    )
    setattr(model, _NOTE, note)
    new = sorted(set(listed) - set(ids))
    with torch.no_grad():
        for name in names:
            model.get_parameter(name)[new] = 0
    return tuple(names)


def _note(model: nn.Module) -> _Note | None:
    found: _Note | None = getattr(model, _NOTE, None)
    return found


def has_added(model: nn.Module, *, of_delta: bool = False) -> bool:
    """Whether rows were added, or only whether a delta brought them."""
    note = _note(model)
    return note is not None and (note.of_delta or not of_delta)


def added_rows(model: nn.Module) -> AddedRows | None:
    """The added rows as they are now, on the CPU; None where there are none."""
    note = _note(model)
    if note is None:
        return None
    rows = {n: model.get_parameter(n).detach()[note.ids].cpu().clone() for n in note.replaced}
    return AddedRows(note.ids, rows)


def grown_tables(model: nn.Module, added: AddedRows) -> dict[str, Tensor]:
    """What the model's tables would be with the rows, by name; the model stays as it is.

    Raises:
        DeltaError: the rows do not fit to the model's tables.
    """
    parameters = dict(model.named_parameters())
    note = _note(model)
    found = {}
    for name, rows in added.rows.items():
        table = parameters.get(name)
        if table is None or rows.shape[1:] != table.shape[1:] or len(rows) != len(added.ids):
            shape = None if table is None else tuple(table.shape)
            raise DeltaError(
                f"expected a table {name!r} for added rows of shape {tuple(rows.shape)}, got "
                f"{shape}; load the base model that the delta was trained on."
            )
        old = table.detach().cpu()
        # Rows of another delta may stand there.
        size = len(old) if note is None or not note.of_delta else note.size
        grown = old.new_zeros(max(size, int(added.ids[-1]) + 1), *old.shape[1:])
        grown[:size] = old[:size]
        if note is not None and note.of_delta:
            grown[note.ids[note.ids < size]] = note.replaced[name]
        grown[added.ids] = rows.to(grown)
        found[name] = grown
    return found


def base_tables(model: nn.Module) -> dict[str, Tensor]:
    """The tables without the rows that a delta brought, by name; empty where it brought none."""
    note = _note(model)
    if note is None or not note.of_delta:
        return {}
    found = {}
    for name, replaced in note.replaced.items():
        table = model.get_parameter(name).detach().cpu()[: note.size].clone()
        table[note.ids[note.ids < note.size]] = replaced
        found[name] = table
    return found


def add_rows(model: nn.Module, added: AddedRows, *, of_delta: bool = True) -> None:
    """Write stored rows into a plain model; `remove_rows` takes them away, bit for bit.

    Args:
        model: where it has rows of tokens already, they must be for the same ids.
        added: the rows.
        of_delta: `sparseft.unload` is to take them away, too.
    """
    if _note(model) is None:
        make_room(model, added.ids.tolist())
        setattr(model, _NOTE, replace(getattr(model, _NOTE), of_delta=of_delta))
    with torch.no_grad():
        for name, rows in added.rows.items():
            table = model.get_parameter(name)
            table[added.ids] = rows.to(table)


def remove_rows(model: nn.Module, *, of_delta: bool = False) -> None:
    """Take added rows away: the tables have their old size and bits. Without any, do nothing.

    Args:
        model: plain.
        of_delta: only those that a delta brought.
    """
    note = _note(model)
    if note is None or (of_delta and not note.of_delta):
        return
    table = _table(model)
    if len(table) != note.size:
        _resize(_owner(model), table, note.size)
    spare = note.ids[note.ids < note.size]
    with torch.no_grad():
        for name, rows in note.replaced.items():
            kept = model.get_parameter(name)
            kept[spare] = rows.to(kept)
    delattr(model, _NOTE)


def keep_for_good(model: nn.Module) -> None:
    """Forget that a delta brought rows; they stay. (Rows of the user's own stay noted.)"""
    note = _note(model)
    if note is not None and note.of_delta:
        delattr(model, _NOTE)


def _resize(owner: Any, table: Tensor, size: int) -> None:
    asks = table.requires_grad
    devices = [table.device] if table.device.type == "cuda" else []
    # New rows are drawn before they are overwritten: not from the caller's random numbers.
    with torch.random.fork_rng(devices=devices):
        owner.resize_token_embeddings(size, mean_resizing=False)
    owner.get_input_embeddings().weight.requires_grad_(asks)


def _tables(model: nn.Module) -> list[str]:
    """The names of the embedding's weight and of an untied output matrix."""
    head = _owner(model).get_output_embeddings()
    wanted = {id(_table(model)), *([] if head is None else [id(head.weight)])}
    return [name for name, parameter in model.named_parameters() if id(parameter) in wanted]


def _table(model: nn.Module) -> Tensor:
    layout = layout_of(model)
    table = layout.modules[layout.embeddings].weight
    assert isinstance(table, Tensor)
    return table


def _owner(model: nn.Module) -> Any:
    """The outermost transformers model, which knows of a tied head."""
    for module in model.modules():
        if hasattr(module, "resize_token_embeddings"):
            return module
    raise ModelError(
        f"expected a model of transformers, got {type(model).__name__}; its embedding cannot grow."
    )
