"""The units of a model: what a selection may choose, and which entries of which weights each is.

A unit is a set of rectangles ("pieces") of weight matrices that only make sense together:

| kind | pieces |
|---|---|
| row | one output row of one linear, with its bias entry |
| column | one input column of one linear |
| neuron | FFN neuron: its row(s) of the first matrix (gate too) with its column of the second |
| head | attention head: rows of Q, K, V with columns of the output matrix; with grouped-query |
|      | attention one key/value group with all its query heads |
| embedding | one row of the token embedding |
| block | one b x b tile of one linear |
| element | one entry of one linear |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sparseft.errors import SelectionError
from sparseft.selection.layout import LayerLayout, ModelLayout

__all__ = ["EMBEDDING_LAYER", "Kind", "Piece", "Structure", "UnitGroup", "unit_groups"]

Kind = Literal["row", "column", "neuron", "head", "embedding", "block", "element"]
Structure = Literal["rows", "columns", "blocks", "elements", "embedding"]

# Below every transformer layer: whoever trains it needs the whole backward pass.
EMBEDDING_LAYER = -1

_ONE_MATRIX: dict[str, Structure] = {
    "row": "rows",
    "column": "columns",
    "block": "blocks",
    "element": "elements",
}


@dataclass(frozen=True, eq=False)
class Piece:
    """Entries of one weight, for every unit of a group.

    `index` [units, width] names rows, columns, blocks or flat elements; None means that unit u is
    entry u (so that millions of elements need no table).
    """

    module: str
    structure: Structure
    entries: int
    index: Tensor | None = None

    def of(self, units: Tensor) -> Tensor:
        """Sorted entries of the given units [m]: [m * width] int64."""
        if self.index is None:
            return units.sort().values
        return self.index.index_select(0, units).reshape(-1).sort().values


@dataclass(frozen=True, eq=False)
class UnitGroup:
    """All units of one kind that share the same weights: `count` units of `size` parameters."""

    kind: Kind
    layer: int
    label: str
    count: int
    size: int
    pieces: tuple[Piece, ...]


def unit_groups(
    layout: ModelLayout, kinds: Sequence[str], *, block_edge: int = 32
) -> tuple[UnitGroup, ...]:
    """Every unit of the given kinds, grouped by weight, lowest layer first.

    Raises:
        SelectionError: unknown or no kind, two kinds that claim the same weight, or a block edge
            that divides no weight.
    """
    known = get_args(Kind)
    for kind in kinds:
        if kind not in known:
            raise SelectionError(
                f"expected unit kinds out of {', '.join(known)}, got {kind!r}; correct `units`."
            )
    if not kinds:
        raise SelectionError(f"expected at least one unit kind of {', '.join(known)}, got none.")
    if block_edge < 1:
        raise SelectionError(f"expected a block edge of at least 1, got {block_edge}.")
    groups: list[UnitGroup] = []
    if "embedding" in kinds:
        table = layout.modules[layout.embeddings]
        assert isinstance(table, nn.Embedding)
        rows = table.num_embeddings
        groups.append(
            UnitGroup(
                "embedding",
                EMBEDDING_LAYER,
                layout.embeddings,
                rows,
                table.embedding_dim,
                (Piece(layout.embeddings, "embedding", rows),),
            )
        )
    for layer in layout.layers:
        for kind in kinds:
            if kind == "neuron":
                groups.append(_neurons(layout, layer))
            elif kind == "head":
                groups.append(_heads(layout, layer))
            elif kind != "embedding":
                groups.extend(_one_matrix(layout, layer, kind, block_edge))
    _refuse_overlap(groups)
    if not groups:
        raise SelectionError(
            f"expected a block edge that divides some weight, got {block_edge}; "
            "use 16, 32, 64 or 128."
        )
    return tuple(groups)


def _refuse_overlap(groups: Sequence[UnitGroup]) -> None:
    owner: dict[str, str] = {}
    for group in groups:
        for piece in group.pieces:
            first = owner.setdefault(piece.module, group.kind)
            if first != group.kind:
                raise SelectionError(
                    f"expected kinds of disjoint weights, got {first!r} and {group.kind!r} which "
                    f"both claim {piece.module!r}; choose one of them."
                )


def _bias(linear: nn.Linear) -> int:
    return 0 if linear.bias is None else 1


def _one_matrix(layout: ModelLayout, layer: LayerLayout, kind: str, edge: int) -> list[UnitGroup]:
    groups = []
    for name in layer.linears.values():
        linear = layout.linear(name)
        n, k = linear.weight.shape
        if kind == "row":
            count, size = n, k + _bias(linear)
        elif kind == "column":
            count, size = k, n
        elif kind == "element":
            count, size = n * k, 1
        elif n % edge or k % edge:
            continue
        else:
            count, size = (n // edge) * (k // edge), edge * edge
        piece = Piece(name, _ONE_MATRIX[kind], count)
        groups.append(UnitGroup(kind, layer.index, name, count, size, (piece,)))  # type: ignore[arg-type]
    return groups


def _neurons(layout: ModelLayout, layer: LayerLayout) -> UnitGroup:
    out = layer.linears["ffn_out"]
    count = layout.linear(out).in_features
    neuron = torch.arange(count)
    pieces = [Piece(out, "columns", count, neuron[:, None])]
    size = layout.linear(out).out_features
    for role in ("ffn_in", "ffn_gate", "ffn_up", "ffn_fused"):
        if role not in layer.linears:
            continue
        linear = layout.linear(layer.linears[role])
        # A fused matrix stacks input and gate: neuron j owns rows j and j + count.
        copies = linear.out_features // count
        index = torch.stack([neuron + part * count for part in range(copies)], dim=1)
        pieces.append(Piece(layer.linears[role], "rows", linear.out_features, index))
        size += copies * (linear.in_features + _bias(linear))
    return UnitGroup("neuron", layer.index, f"{layer.module_name}.ffn", count, size, tuple(pieces))


def _heads(layout: ModelLayout, layer: LayerLayout) -> UnitGroup:
    groups, dim = layout.num_kv_heads, layout.head_dim
    shared = layout.num_heads // groups
    query = torch.arange(layout.num_heads * dim).reshape(groups, shared * dim)
    key = torch.arange(groups * dim).reshape(groups, dim)
    out = layer.linears["attention_output"]
    pieces = [Piece(out, "columns", layout.linear(out).in_features, query)]
    size = query.shape[1] * layout.linear(out).out_features
    wanted = {"query": query, "key": key, "value": key}
    if "qkv" in layer.linears:
        offset = layout.num_heads * dim
        stacked = torch.cat([query, key + offset, key + offset + groups * dim], dim=1)
        wanted = {"qkv": stacked}
    for role, index in wanted.items():
        linear = layout.linear(layer.linears[role])
        pieces.append(Piece(layer.linears[role], "rows", linear.out_features, index))
        size += index.shape[1] * (linear.in_features + _bias(linear))
    label = f"{layer.module_name}.attention"
    return UnitGroup("head", layer.index, label, groups, size, tuple(pieces))
