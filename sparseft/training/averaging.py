"""A running mean of the trained values over the steps, in fp32.

Both kinds are one rule, a += w (x - a): the tail's mean has w = 1/n at its n-th step, and the
exponential mean has w = (1 - d) / (1 - d^n), which is Adam's bias correction: from the first step
on its weights sum to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sparseft.config import TrainingConfig
from sparseft.errors import CheckpointError

__all__ = ["Average", "make_average"]


class Average:
    """The mean of the parameters' values after each of some steps.

    ema: weights fall by `decay` for each step back (Polyak & Juditsky 1992 with a window).
    tail: equal weights over the steps above `start` (tail averaging, Jain et al. 2018; with the
    whole schedule's end, the SWA of Izmailov et al. 2018, arXiv 1803.05407).

    Args:
        parameters: what is averaged; in fp32 whatever their type (fp64 stays).
        decay: of the exponential mean; None for equal weights.
        start: the last step that is left out.
    """

    def __init__(
        self, parameters: Sequence[Tensor], decay: float | None = None, start: int = 0
    ) -> None:
        self._parameters = list(parameters)
        self._decay = decay
        self._start = start
        self._count = 0
        self._means: list[Tensor] = []

    @property
    def ready(self) -> bool:
        """Whether any step has been taken in; until then there is no average."""
        return self._count > 0

    @property
    def bytes(self) -> int:
        """Of the kept means."""
        return sum(mean.numel() * mean.element_size() for mean in self._means)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the values after optimizer step `step` (from 1)."""
        if step <= self._start:
            return
        self._count += 1
        wide = [_widened(parameter) for parameter in self._parameters]
        if not self._means:
            # A first mean is a copy, also where it starts from the parameter's own type.
            self._means = [value.clone() for value in wide]
            return
        torch._foreach_lerp_(self._means, wide, self._weight())

    def _weight(self) -> float:
        if self._decay is None:
            return 1.0 / self._count
        return (1.0 - self._decay) / -math.expm1(self._count * math.log(self._decay))

    def values(self) -> list[Tensor]:
        """Copies of the means, in the parameters' order."""
        return [mean.clone() for mean in self._means]

    def transform(self, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Replace each mean by `change(parameter, mean)`, of the same shape."""
        pairs = zip(self._parameters, self._means, strict=False)
        self._means = [change(parameter, mean) for parameter, mean in pairs]

    def state(self) -> dict[str, Any]:
        """All that `load_state` needs."""
        return {"count": self._count, "means": self.values()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            CheckpointError: it holds other shapes.
        """
        means = state["means"]
        expected = [tuple(parameter.shape) for parameter in self._parameters]
        if means and [tuple(mean.shape) for mean in means] != expected:
            raise CheckpointError(
                f"expected averages of {len(expected)} parameters of this method's shapes, got "
                f"{len(means)} that differ; remove the checkpoint folder to start again."
            )
        self._count = int(state["count"])
        self._means = [
            mean.to(parameter.device)
            for mean, parameter in zip(means, self._parameters, strict=False)
        ]


def _widened(parameter: Tensor) -> Tensor:
    return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))


def make_average(
    config: TrainingConfig, parameters: Sequence[Tensor], steps: int
) -> Average | None:
    """The average that the configuration asks for, over a training of `steps` steps."""
    if config.averaging == "off":
        return None
    if config.averaging == "ema":
        return Average(parameters, decay=config.averaging_decay)
    # At least the last step; ceil, so that a share of 1 takes in all of them.
    return Average(parameters, start=steps - math.ceil(config.averaging_share * steps))
