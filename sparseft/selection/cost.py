"""What a training step costs: counted in FLOPs, or in the milliseconds of a fitted model.

Counted: per token (a multiply-add is two) and layer with P weights in its linears and attention
over S positions, forward 2P + A with A = 4 S heads head_dim; gradient towards the input 2P + 2A;
dense weight gradients 2P. A sparse step pays the forward of every layer, the input gradient from
the lowest trained layer upwards, and 2 / efficiency for each trained weight. Optimizer traffic and
the head are left out of both sides, which understates the saving.

Fitted: the same parts with the milliseconds that this machine takes for each; see
`sparseft.selection.calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sparseft.selection.layout import ModelLayout
from sparseft.selection.units import UnitGroup

__all__ = ["Cost", "FittedCost", "StepCost", "step_cost"]


class Cost(Protocol):
    """What the knapsack asks a cost model, all in one unit of its own."""

    @property
    def full(self) -> float:
        """A step of full finetuning."""

    @property
    def forward(self) -> float:
        """What of a step is paid however little is trained: the forward pass; 0 from a cache."""

    def fixed(self, lowest_layer: int) -> float:
        """A step that trains nothing but must reach `lowest_layer` (-1: the embedding)."""

    def slope(self, group: UnitGroup) -> float:
        """Each trained number of the group."""

    def touch(self, group: UnitGroup) -> float:
        """What the group's first unit costs besides: kernel launches, small tensors."""


@dataclass(frozen=True)
class StepCost:
    """FLOPs of a step for a model and a sequence length.

    `linear` and `attention` hold P and A of each layer; `efficiency` is the speed of a compact
    weight gradient per FLOP relative to the dense one. With `prefix_cache` the layers below the
    lowest trained one cost nothing.
    """

    linear: tuple[int, ...]
    attention: tuple[int, ...]
    efficiency: float = 1.0
    prefix_cache: bool = False

    @property
    def full(self) -> float:
        """FLOPs a token of full finetuning."""
        return sum(6.0 * p + 3.0 * a for p, a in zip(self.linear, self.attention, strict=True))

    @property
    def forward(self) -> float:
        """FLOPs a token of a forward pass; 0 with the prefix cache."""
        if self.prefix_cache:
            return 0.0
        return sum(2.0 * p + a for p, a in zip(self.linear, self.attention, strict=True))

    def fixed(self, lowest_layer: int) -> float:
        """FLOPs a token of a step that trains nothing but must reach `lowest_layer`."""
        start = max(lowest_layer, 0)
        layers = list(zip(self.linear, self.attention, strict=True))
        run = layers[start:] if self.prefix_cache else layers
        return sum(2.0 * p + a for p, a in run) + sum(2.0 * p + 2.0 * a for p, a in layers[start:])

    def slope(self, group: UnitGroup) -> float:
        """FLOPs a token of the compact gradient of one number; the same for every group."""
        return 2.0 / self.efficiency

    def touch(self, group: UnitGroup) -> float:
        """0: FLOPs know nothing of launches."""
        return 0.0

    def weights(self, trained: float) -> float:
        """FLOPs a token of the compact gradients of `trained` weights."""
        return 2.0 * trained / self.efficiency

    def share(self, lowest_layer: int, trained: float) -> float:
        """Predicted step time over full finetuning's."""
        return (self.fixed(lowest_layer) + self.weights(trained)) / self.full


def step_cost(
    layout: ModelLayout,
    sequence_length: float,
    efficiency: float = 1.0,
    prefix_cache: bool = False,
) -> StepCost:
    """The FLOPs of `layout` at a mean padded sequence length."""
    linear = []
    for layer in layout.layers:
        names: Sequence[str] = list(layer.linears.values())
        linear.append(sum(layout.linear(name).weight.numel() for name in names))
    attention = round(4 * sequence_length * layout.num_heads * layout.head_dim)
    return StepCost(tuple(linear), (attention,) * len(linear), efficiency, prefix_cache)


@dataclass(frozen=True)
class FittedCost:
    """Milliseconds of a step, for one model and one choice of units on one machine.

    Made by `Calibration.step_cost`. `by_cut` holds the fixed cost for the cuts -1 (embedding
    rows are trained), 0, 1, …; `slopes` and `touches` go by the groups' labels. `forward` is 0
    with the prefix cache.
    """

    full: float
    forward: float
    by_cut: tuple[float, ...]
    slopes: Mapping[str, float] = field(repr=False)
    touches: Mapping[str, float] = field(repr=False)

    def fixed(self, lowest_layer: int) -> float:
        """Milliseconds of a step that trains nothing but must reach `lowest_layer`."""
        return self.by_cut[lowest_layer + 1]

    def slope(self, group: UnitGroup) -> float:
        """Milliseconds of a trained number of the group: compact gradient and optimizer."""
        return self.slopes[group.label]

    def touch(self, group: UnitGroup) -> float:
        """Milliseconds that the group's trained tensors take, however small."""
        return self.touches[group.label]
