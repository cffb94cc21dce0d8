"""What a training step costs, as a share of full finetuning's step.

Counted in FLOPs of one token (a multiply-add is two), per layer with P weights in its linears and
attention over S positions: forward 2P + A with A = 4 S heads head_dim; gradient towards the input
2P + 2A; dense weight gradients 2P. A sparse step pays the forward of every layer, the input
gradient from the lowest trained layer upwards, and 2 / efficiency for each trained weight.
Optimizer traffic and the head are left out of both sides, which understates the saving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparseft.selection.layout import ModelLayout

__all__ = ["StepCost", "step_cost"]


@dataclass(frozen=True)
class StepCost:
    """Predicted cost of a step for a model and a sequence length.

    `linear` and `attention` hold P and A of each layer; `efficiency` is the speed of a compact
    weight gradient per FLOP relative to the dense one.
    """

    linear: tuple[int, ...]
    attention: tuple[int, ...]
    efficiency: float = 1.0

    @property
    def full(self) -> float:
        """FLOPs a token of full finetuning."""
        return sum(6.0 * p + 3.0 * a for p, a in zip(self.linear, self.attention, strict=True))

    def fixed(self, lowest_layer: int) -> float:
        """FLOPs a token of a step that trains nothing but must reach `lowest_layer`."""
        forward = sum(2.0 * p + a for p, a in zip(self.linear, self.attention, strict=True))
        start = max(lowest_layer, 0)
        upper = zip(self.linear[start:], self.attention[start:], strict=True)
        return forward + sum(2.0 * p + 2.0 * a for p, a in upper)

    def weights(self, trained: float) -> float:
        """FLOPs a token of the compact gradients of `trained` weights."""
        return 2.0 * trained / self.efficiency

    def share(self, lowest_layer: int, trained: float) -> float:
        """Predicted step time over full finetuning's."""
        return (self.fixed(lowest_layer) + self.weights(trained)) / self.full


def step_cost(layout: ModelLayout, sequence_length: float, efficiency: float = 1.0) -> StepCost:
    """The cost model of `layout` at a mean padded sequence length."""
    linear = []
    for layer in layout.layers:
        names: Sequence[str] = list(layer.linears.values())
        linear.append(sum(layout.linear(name).weight.numel() for name in names))
    attention = round(4 * sequence_length * layout.num_heads * layout.head_dim)
    return StepCost(tuple(linear), (attention,) * len(linear), efficiency)
