"""Compact weight gradients against dense and gathered cuBLAS products and PEFT's SHiRA."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from bench.adapters.common import (
    Adapter,
    Problem,
    Rival,
    Run,
    bytes_of,
    dtype_of,
    generator_for,
    random,
    selected,
    selected_count,
)
from bench.cases import Case
from sparseft_kernels import masked_grad

__all__ = ["ADAPTERS"]

_EDGES = (16, 32, 64, 128)


def _inputs(case: Case, device: torch.device, seed: int) -> tuple[Tensor, Tensor, torch.Generator]:
    """dY [T, d], X [T, d]."""
    generator = generator_for(case, device, seed)
    dtype = dtype_of(case)
    dY = random(case.tokens, case.d, generator=generator, dtype=dtype, scale=0.1)
    X = random(case.tokens, case.d, generator=generator, dtype=dtype)
    return dY, X, generator


def _dense(dY: Tensor, X: Tensor) -> Rival:
    """What autograd of a linear layer does: dW in the dtype of the weight."""
    return Rival(lambda: lambda: [dY.t() @ X], checked=False)


def _rows(case: Case, device: torch.device, seed: int) -> Problem:
    dY, X, generator = _inputs(case, device, seed)
    m = selected_count(case.d, case.density)
    index = selected(case.d, m, generator)
    into = torch.zeros(m, case.d, device=device), torch.zeros(m, device=device)

    def added() -> list[Tensor]:
        masked_grad.rows(dY, X, index, bias=True, into=into)
        return list(into)

    def with_bias() -> list[Tensor]:
        gradient, sums = masked_grad.rows(dY, X, index, bias=True)
        return [gradient] if sums is None else [gradient, sums]

    return Problem(
        run=lambda: [masked_grad.rows(dY, X, index)[0]],
        expected=lambda: [dY.index_select(1, index).double().t() @ X.double()],
        bytes=bytes_of(dY, X),
        rivals={
            "dense": _dense(dY, X),
            "gather + cublas": Rival(lambda: lambda: [dY.index_select(1, index).t() @ X]),
        },
        variants={"bias": with_bias, "into": added},
    )


def _columns(case: Case, device: torch.device, seed: int) -> Problem:
    dY, X, generator = _inputs(case, device, seed)
    kept = X.index_select(1, selected(case.d, selected_count(case.d, case.density), generator))
    into = torch.zeros(case.d, kept.shape[1], device=device)
    return Problem(
        run=lambda: [masked_grad.columns(dY, kept)],
        expected=lambda: [dY.double().t() @ kept.double()],
        bytes=bytes_of(dY, kept),
        rivals={
            "dense": _dense(dY, X),
            # The gather happened in the forward for both.
            "gather + cublas": Rival(lambda: lambda: [dY.t() @ kept]),
        },
        variants={"into": lambda: [masked_grad.columns(dY, kept, into=into)]},
    )


def _blocks(case: Case, device: torch.device, seed: int) -> Problem:
    dY, X, generator = _inputs(case, device, seed)
    edge = int(case.option("edge"))
    side = case.d // edge
    index = selected(side * side, selected_count(side * side, case.density), generator)
    row = torch.div(index, side, rounding_mode="floor")
    column = index - row * side
    into = torch.zeros(index.numel(), edge, edge, device=device)

    def tiles(dense: Tensor) -> Tensor:
        return dense.reshape(side, edge, side, edge).transpose(1, 2)[row, column]

    def gathered() -> list[Tensor]:
        left = dY.reshape(-1, side, edge).index_select(1, row)  # [T, m, b]
        right = X.reshape(-1, side, edge).index_select(1, column)  # [T, m, b]
        return [torch.bmm(left.permute(1, 2, 0), right.transpose(0, 1))]

    rivals = {"dense": Rival(lambda: lambda: [tiles(dY.t() @ X)])}
    # The gather multiplies the activations by the selected blocks in a row of blocks.
    if 2 * case.tokens * index.numel() * edge <= 2**30:
        rivals["gather + cublas"] = Rival(lambda: gathered)
    return Problem(
        run=lambda: [masked_grad.blocks(dY, X, index, edge)],
        expected=lambda: [tiles(dY.double().t() @ X.double())],
        bytes=bytes_of(dY, X),
        rivals=rivals,
        variants={
            "into": lambda: [masked_grad.blocks(dY, X, index, edge, into=into)],
            "two matrices": lambda: [masked_grad.blocks([dY, dY], X, [index, index], edge)],
        },
    )


def _elements(case: Case, device: torch.device, seed: int) -> Problem:
    dY, X, generator = _inputs(case, device, seed)
    limit = case.d * case.d
    index = selected(limit, selected_count(limit, case.density), generator)
    into = torch.zeros(index.numel(), device=device)
    rivals = {
        "dense": Rival(lambda: lambda: [(dY.t() @ X).reshape(-1).index_select(0, index)]),
    }
    unavailable: dict[str, str] = {}
    if importlib.util.find_spec("peft") is None:
        unavailable["shira"] = "peft is not installed"
    else:
        rivals["shira"] = Rival(_shira(case, dY, X), checked=False, graph=False)
    return Problem(
        run=lambda: [masked_grad.elements(dY, X, index)],
        expected=lambda: [(dY.double().t() @ X.double()).reshape(-1).index_select(0, index)],
        bytes=bytes_of(dY, X, index),
        rivals=rivals,
        unavailable=unavailable,
        variants={"into": lambda: [masked_grad.elements(dY, X, index, into=into)]},
    )


def _shira(case: Case, dY: Tensor, X: Tensor) -> Callable[[], Run]:
    """The gradient of PEFT's SHiRA weights: the backward of its layer, its forward left out.

    Its number of entries is a multiple of n + k: the nearest to the case's.
    """

    def build() -> Run:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from peft import ShiraConfig
            from peft.tuners.shira.layer import Linear

        d = case.d
        base = torch.nn.Linear(d, d, bias=False, device=X.device, dtype=X.dtype)
        base.weight.requires_grad_(False)
        rank = max(1, round(case.density * d / 2))
        generator = torch.Generator(X.device).manual_seed(0)
        mask = torch.zeros(d * d, device=X.device)
        mask[selected(d * d, 2 * d * rank, generator).long()] = 1
        config = ShiraConfig(r=rank)
        layer = Linear(base, mask.reshape(d, d), "default", config, r=rank).to(X.device)
        weight = layer.shira_weight["default"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about torch's sparse tensors
            out = layer(X)

        def backward() -> list[Tensor]:
            return list(torch.autograd.grad(out, [weight], dY, retain_graph=True))

        return backward

    return build


ADAPTERS = (
    Adapter("masked_grad.rows", _rows, better_of=("dense", "gather + cublas")),
    Adapter("masked_grad.columns", _columns, better_of=("dense", "gather + cublas")),
    Adapter(
        "masked_grad.blocks",
        _blocks,
        options=tuple((("edge", edge),) for edge in _EDGES),
        better_of=("dense", "gather + cublas"),
    ),
    Adapter("masked_grad.elements", _elements, better_of=("dense",)),
)
