"""Language models for tests: a tiny real one, and one that says anything at all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


class Babbler(nn.Module):
    """Random logits at every call: what the worst model could say, without the time of a real one.

    Args:
        size: of the vocabulary.
        seed: of what it says.
        heat: spread of the logits; a large one lets single tokens shout.
    """

    def __init__(self, size: int, seed: int, heat: float = 8.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.size, self.heat = size, heat
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def backbone(self) -> nn.Module:
        return self

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        return SimpleNamespace(last_hidden_state=torch.zeros(*input_ids.shape, 1))

    def logits(self, hidden: Tensor) -> Tensor:
        shape = (*hidden.shape[:-1], self.size)
        return self.heat * torch.randn(shape, generator=self.generator)
