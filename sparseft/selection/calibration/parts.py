"""A step as amounts of its parts: what the milliseconds of each part are multiplied with.

| part | amount |
|---|---|
| step | 1: head, loss, autograd's own work |
| embedding | 1 where the embeddings run |
| forward | layers that run forward, weighed by their FLOPs |
| gradient | layers that send a gradient to their input, likewise; of the lowest its upper stages |
| rows, columns, blocks, elements, embedding_rows | weights with such a structure |
| rows_weights, … | millions of numbers trained in them, biases of rows included |
| update | 1: clipping and the optimizer's step |
| update_weights, update_numbers | trained weights, and millions of numbers in them |

Legend: P weights of a layer's linears, A its attention, both in FLOPs as `sparseft.selection.cost`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from sparseft.selection.cost import StepCost, step_cost
from sparseft.selection.layout import LayerLayout, ModelLayout
from sparseft.selection.selection import ModuleSelection
from sparseft.selection.units import Structure, UnitGroup

__all__ = [
    "PARTS",
    "STRUCTURES",
    "backbone_part",
    "compact_part",
    "cut_part",
    "entered_modules",
    "group_parts",
    "part_of",
    "update_part",
]

Amounts = Mapping[str, float]

STRUCTURES: dict[Structure, str] = {
    "rows": "rows",
    "columns": "columns",
    "blocks": "blocks",
    "elements": "elements",
    "embedding": "embedding_rows",
}
PARTS = (
    "step",
    "embedding",
    "forward",
    "gradient",
    *(name for part in STRUCTURES.values() for name in (part, f"{part}_weights")),
    "update",
    "update_weights",
    "update_numbers",
)
_MILLION = 1e6

# Roles in the order of the forward pass; those of one stage read the same input.
_STAGES = (
    ("query", "key", "value", "qkv"),
    ("attention_output",),
    ("ffn_in", "ffn_gate", "ffn_up", "ffn_fused"),
    ("ffn_out",),
)


def part_of(structure: Structure, count: int, numbers: int) -> dict[str, float]:
    """The compact gradients of `count` weights with `numbers` trained numbers in all."""
    name = STRUCTURES[structure]
    return {name: float(count), f"{name}_weights": numbers / _MILLION}


def update_part(count: int, numbers: int) -> dict[str, float]:
    """What follows the backward pass: clipping, AdamW, writing the values into their weights."""
    return {
        "update": 1.0,
        "update_weights": float(count),
        "update_numbers": numbers / _MILLION,
    }


def compact_part(modules: Iterable[ModuleSelection]) -> dict[str, float]:
    """The compact gradients of a selection's modules."""
    total: Counter[str] = Counter()
    for module in modules:
        total.update(part_of(module.structure, 1, module.trained))
    return dict(total)


def cut_part(
    layout: ModelLayout, length: float, cut: int, touched: Collection[str], prefix_cache: bool
) -> dict[str, float]:
    """Forward pass and input gradients of a step that trains nothing below `cut`.

    Args:
        layout: of the model.
        length: tokens of a text, padding included.
        cut: the lowest trained layer; -1 for the embedding.
        touched: the trained modules of the layer `cut`: what lies below them needs no gradient.
        prefix_cache: whether the layers below the cut and the embeddings are left out.
    """
    start = max(cut, 0)
    if prefix_cache and start > 0:
        parts = {"step": 1.0, **backbone_part(layout, length, first=start)}
        parts["embedding"] = 0.0
    else:
        parts = {"step": 1.0, **backbone_part(layout, length)}
    gradients = _weights(step_cost(layout, length), backward=True)
    lowest = 1.0
    if cut >= 0:
        lowest = _upper_share(layout, layout.layers[cut], length, touched)
    parts["gradient"] = sum(gradients[start + 1 :]) + gradients[start] * lowest
    return parts


def backbone_part(layout: ModelLayout, length: float, first: int = 0) -> dict[str, float]:
    """The embeddings and the forward pass of the layers from `first` upwards."""
    forward = _weights(step_cost(layout, length), backward=False)
    return {"embedding": 1.0, "forward": sum(forward[first:])}


def entered_modules(groups: Sequence[UnitGroup], cut: int) -> set[str]:
    """The modules of a layer that some group could train."""
    return {piece.module for group in groups if group.layer == cut for piece in group.pieces}


def group_parts(layout: ModelLayout, group: UnitGroup) -> tuple[dict[str, float], dict[str, float]]:
    """What the first unit of a group costs besides, and what each unit of it costs.

    Returns:
        Amounts of the charge, and of one unit.
    """
    charge: Counter[str] = Counter()
    unit: defaultdict[str, float] = defaultdict(float)
    for piece in group.pieces:
        charge.update({STRUCTURES[piece.structure]: 1.0, "update_weights": 1.0})
        numbers = _numbers(layout, group, piece.module, piece.structure)
        width = 1 if piece.index is None else int(piece.index.shape[1])
        unit[f"{STRUCTURES[piece.structure]}_weights"] += width * numbers / _MILLION
        unit["update_numbers"] += width * numbers / _MILLION
    return dict(charge), dict(unit)


def _numbers(layout: ModelLayout, group: UnitGroup, name: str, structure: Structure) -> int:
    """How many numbers one row, column, block, element or embedding row has."""
    module = layout.modules[name]
    n, k = module.weight.shape  # type: ignore[misc]
    if structure == "rows":
        return int(k) + (module.bias is not None)
    if structure == "columns":
        return int(n)
    # Units of these kinds have one piece.
    return int(k) if structure == "embedding" else group.size


def _weights(cost: StepCost, *, backward: bool) -> list[float]:
    """What each layer counts for: 1 where all are of one shape."""
    flops = [
        2.0 * p + (2.0 if backward else 1.0) * a
        for p, a in zip(cost.linear, cost.attention, strict=True)
    ]
    mean = sum(flops) / len(flops)
    return [value / mean for value in flops]


def _upper_share(
    layout: ModelLayout, layer: LayerLayout, length: float, touched: Collection[str]
) -> float:
    """The share of a layer's input gradients that lie above its lowest trained module."""
    roles = {role for role, name in layer.linears.items() if name in touched}
    stages = [stage for stage, names in enumerate(_STAGES) if roles & set(names)]
    if not stages:
        return 1.0
    sizes = {role: layout.linear(name).weight.numel() for role, name in layer.linears.items()}
    attention = 8.0 * length * layout.num_heads * layout.head_dim
    above = sum(
        2.0 * sizes[role] for names in _STAGES[min(stages) + 1 :] for role in names if role in sizes
    )
    whole = 2.0 * sum(sizes.values()) + attention
    return (above + (attention if min(stages) == 0 else 0.0)) / whole
