"""The optimizers over a model's compact values against torch's fused ones.

The model is 24 square weights: six layers' worth of attention, or four with their FFN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.adapters.common import (
    Adapter,
    Problem,
    Rival,
    Run,
    dtype_of,
    generator_for,
    random,
    selected,
    selected_count,
)
from bench.cases import DENSITIES, WIDTHS, Axes, Case
from sparseft_kernels import sparse_adamw
from sparseft_kernels.entries import Entries, read, write
from sparseft_kernels.sparse_adamw import AdamWOptions, SGDOptions

__all__ = ["ADAPTERS", "WEIGHTS", "model_entries"]

WEIGHTS = 24
_STEPS_BEFORE = 5.0
# A rate at which a step that was not taken shows.
_LR, _BETA1, _BETA2, _EPSILON, _DECAY = 0.1, 0.9, 0.999, 1e-8, 1e-2
_MOMENTUM = 0.9
_STRUCTURES = ("rows", "elements")


def model_entries(case: Case, generator: torch.Generator) -> list[Entries]:
    """The selected entries of every weight of the model, at the case's density."""
    structure = str(case.option("structure"))
    limit = case.d if structure in ("rows", "columns") else case.d * case.d
    found = []
    for _ in range(WEIGHTS):
        weight = random(case.d, case.d, generator=generator, dtype=dtype_of(case))
        index = selected(limit, selected_count(limit, case.density), generator)
        found.append(Entries(weight, structure, index))
    return found


@dataclass
class _State:
    """A model's compact values between two steps."""

    entries: list[Entries]
    values: list[Tensor]
    gradients: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]
    steps: list[Tensor]

    @property
    def bytes(self) -> int:
        """What a step touches."""
        size = self.entries[0].weight.element_size()
        return sum(value.numel() * (7 * 4 + size) for value in self.values)

    @property
    def results(self) -> list[Tensor]:
        """Of the first and the last weight: their values, and the whole weights."""
        return [t for i in (0, -1) for t in (self.values[i], self.entries[i].weight)]


def _state(case: Case, device: torch.device, seed: int) -> _State:
    generator = generator_for(case, device, seed)
    entries = model_entries(case, generator)
    values = [read(*one).float().contiguous() for one in entries]

    def like(value: Tensor) -> Tensor:
        return torch.randn(value.shape, generator=generator, device=device)

    return _State(
        entries,
        values,
        [like(value) for value in values],
        [0.1 * like(value) for value in values],
        [like(value).square_() for value in values],
        [torch.full((), _STEPS_BEFORE, device=device) for _ in values],
    )


def _written(entries: Entries, values: Tensor) -> Tensor:
    """A float64 copy of the weight with these values in place."""
    weight = entries.weight.double()
    write(weight, entries.structure, entries.index, entries.edge, values)
    return weight


def _expected(state: _State, update: Callable[[int], Tensor]) -> list[Tensor]:
    found = []
    for i in (0, -1):
        values = update(i)
        found += [values, _written(state.entries[i], values)]
    return found


def _adamw(case: Case, device: torch.device, seed: int) -> Problem:
    state = _state(case, device, seed)
    options = [AdamWOptions(_LR, _BETA1, _BETA2, _EPSILON, _DECAY)]

    def step(**keywords: Any) -> list[Tensor]:
        with torch.no_grad():
            sparse_adamw.adamw_(
                state.values, state.gradients, state.first, state.second, state.steps,
                state.entries, options, **keywords,
            )  # fmt: skip
        return state.results

    def update(i: int) -> Tensor:
        """AdamW in float64 (Loshchilov & Hutter 2019)."""
        p, g = state.values[i].double(), state.gradients[i].double()
        m = _BETA1 * state.first[i].double() + (1 - _BETA1) * g
        v = _BETA2 * state.second[i].double() + (1 - _BETA2) * g * g
        count = _STEPS_BEFORE + 1
        m_hat, v_hat = m / (1 - _BETA1**count), v / (1 - _BETA2**count)
        return p * (1 - _LR * _DECAY) - _LR * m_hat / (v_hat.sqrt() + _EPSILON)

    def torch_adamw(parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            parameters, lr=_LR, betas=(_BETA1, _BETA2), eps=_EPSILON, weight_decay=_DECAY,
            fused=True, capturable=device.type == "cuda",
        )  # fmt: skip

    clip = torch.full((), 0.5, device=device)
    variants: dict[str, Run] = {"clip": lambda: step(clip=clip)}
    if case.dtype == "bfloat16":
        variants["stochastic"] = lambda: step(seed=7)
    return Problem(
        run=step,
        expected=lambda: _expected(state, update),
        bytes=state.bytes,
        rivals=_rivals(case, state, torch_adamw),
        variants=variants,
        most_sets=64,
    )


def _sgd(case: Case, device: torch.device, seed: int) -> Problem:
    state = _state(case, device, seed)
    options = [SGDOptions(_LR, _MOMENTUM, 0.0, _DECAY, False)]

    def step(**keywords: Any) -> list[Tensor]:
        with torch.no_grad():
            sparse_adamw.sgd_(
                state.values, state.gradients, state.first, [False] * WEIGHTS, state.entries,
                options, **keywords,
            )  # fmt: skip
        return state.results

    def update(i: int) -> Tensor:
        p = state.values[i].double()
        g = state.gradients[i].double() + _DECAY * p
        return p - _LR * (_MOMENTUM * state.first[i].double() + g)

    def torch_sgd(parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters, lr=_LR, momentum=_MOMENTUM, weight_decay=_DECAY, fused=True
        )

    variants: dict[str, Run] = {}
    if case.dtype == "bfloat16":
        variants["stochastic"] = lambda: step(seed=7, steps=state.steps)
    return Problem(
        run=step,
        expected=lambda: _expected(state, update),
        bytes=state.bytes,
        rivals=_rivals(case, state, torch_sgd),
        variants=variants,
        most_sets=64,
    )


def _rivals(
    case: Case, state: _State, optimizer_of: Callable[[list[Tensor]], torch.optim.Optimizer]
) -> dict[str, Rival]:
    def dense() -> Run:
        """Full finetuning: float32 masters of whole weights, the copies into W left out."""
        masters = [one.weight.detach().float() for one in state.entries]
        for master in masters:
            master.requires_grad_().grad = torch.full_like(master, 1e-3)
        optimizer = optimizer_of(masters)

        def step() -> list[Tensor]:
            optimizer.step()
            return []

        return step

    def compact() -> Run:
        """torch's optimizer on the compact values, then a copy into each weight."""
        for value, gradient in zip(state.values, state.gradients, strict=True):
            value.requires_grad_().grad = gradient
        optimizer = optimizer_of(state.values)
        indices = [one.index.long() for one in state.entries]

        def step() -> list[Tensor]:
            optimizer.step()
            with torch.no_grad():
                for one, value, index in zip(state.entries, state.values, indices, strict=True):
                    write(one.weight, one.structure, index, one.edge, value)
            return state.results

        return step

    return {
        "dense": Rival(dense, checked=False),
        # Its moments begin at zero, so its results are others.
        "compact + copies": Rival(compact, checked=False),
    }


_OPTIONS = tuple((("structure", structure),) for structure in _STRUCTURES)
ADAPTERS = (
    Adapter(
        "sparse_adamw.adamw",
        _adamw,
        axes=Axes(WIDTHS, (0,), DENSITIES),
        options=_OPTIONS,
        dtypes=("bfloat16", "float32"),
        better_of=("dense", "compact + copies"),
    ),
    Adapter(
        "sparse_adamw.sgd",
        _sgd,
        axes=Axes((1024, 4096, 384), (0,), (0.05, 0.005, 0.20)),
        options=_OPTIONS[:1],
        dtypes=("bfloat16", "float32"),
        better_of=("dense", "compact + copies"),
    ),
)
