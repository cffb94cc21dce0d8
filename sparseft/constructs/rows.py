"""Embedding rows for new tokens: the mean of their pieces, or least squares on contextual outputs.

Least squares: the text vectors that the model computes (what its head reads) with the new tokens
should be those that it computed with their pieces. Over contexts c, for all rows e at once,

    min  sum_c |f_c(e) - f_c|^2 / sum_c |f_c - mean f|^2  +  ridge mean |e - e0|^2 / spread

where e0 is the mean of the pieces, and the spread the mean squared distance of all rows from their
mean. It is solved by L-BFGS (Liu & Nocedal 1989) over the new rows alone: no weight of the model
receives a gradient. Matching the first layers' outputs is cheaper but keeps less.

Legend: M new tokens, H hidden size, V vocabulary, C contexts, B batch, S positions, D vector size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparseft.saliency.capture import frozen
from sparseft.selection.layout import ModelLayout, layout_of

__all__ = ["Fit", "fitted_rows", "mean_rows"]

Ids = Sequence[int]


@dataclass(frozen=True, eq=False)
class Fit:
    """New rows, and how well they stand in for their pieces.

    Attributes:
        rows: [M, H] float32.
        contexts: how many texts were matched.
        before, after: squared distance of the text vectors from those with pieces, as a share of
            these vectors' variance, with the mean of the pieces and with the fitted rows.
    """

    rows: Tensor
    contexts: int
    before: float
    after: float


def mean_rows(table: Tensor, pieces: Mapping[int, Ids]) -> Tensor:
    """The mean of the rows of each new token's pieces.

    Args:
        table: [V, H].
        pieces: the M new ids with the ids of their pieces.

    Returns:
        [M, H] float32, in the order of `pieces`.
    """
    means = [table[list(parts)].float().mean(0) for parts in pieces.values()]
    return torch.stack(means) if means else table.new_zeros(0, table.shape[1]).float()


def fitted_rows(
    model: nn.Module,
    pairs: Sequence[tuple[Ids, Ids]],
    pieces: Mapping[int, Ids],
    *,
    pad: int,
    layers: int | None = None,
    ridge: float = 0.01,
    steps: int = 8,
    batch_size: int = 64,
) -> Fit:
    """Rows with which texts keep their vectors; without a context, the mean of the pieces.

    Args:
        model: with the new rows in its embedding; its `features(input_ids, attention_mask)` are the
            text vectors, or where it has none the mean of its last layer's outputs.
        pairs: C contexts: ids by the old and by the new tokenizer, framed as the model has them.
        pieces: the M new ids with the ids of their pieces.
        pad: the id of padding.
        layers: match the mean output of the first so many layers instead, which costs less and
            keeps less. None: the text vectors.
        ridge: weight of staying near the mean of the pieces.
        steps: of L-BFGS, each one or two passes over the contexts.
        batch_size: contexts of one pass.

    Returns:
        The rows. The model is left as it was.

    Raises:
        ModelError: the model's shape is not one of the known families.
    """
    layout = layout_of(model)
    table = layout.modules[layout.embeddings].weight
    assert isinstance(table, Tensor)
    start = mean_rows(table.detach(), pieces)
    if not pairs or not pieces:
        return Fit(start, 0, 0.0, 0.0)
    with frozen(model):
        problem = _Problem(model, layout, pairs, list(pieces), pad, layers, batch_size)
        rows = start.clone().requires_grad_(True)
        spread = table.detach().float()
        spread = (spread - spread.mean(0)).square().sum(1).mean()
        size = (spread * len(start)).clamp_min(1e-12)

        def closure() -> float:
            optimizer.zero_grad()
            error = problem.error(rows, backward=True)
            penalty = ridge * (rows - start).square().sum() / size
            penalty.backward()
            return error + float(penalty.detach())

        optimizer = torch.optim.LBFGS(
            [rows], max_iter=steps, history_size=steps, line_search_fn="strong_wolfe"
        )
        before = problem.error(start)
        optimizer.step(closure)
        after = problem.error(rows.detach())
    if not after <= before:  # the search met nothing finite
        return Fit(start, len(pairs), before, before)
    return Fit(rows.detach(), len(pairs), before, after)


class _Stop(Exception):
    """Enough layers have run."""


class _Problem:
    """The distances between text vectors with pieces and with new tokens."""

    def __init__(
        self,
        model: nn.Module,
        layout: ModelLayout,
        pairs: Sequence[tuple[Ids, Ids]],
        numbers: list[int],
        pad: int,
        layers: int | None,
        batch_size: int,
    ) -> None:
        self._model = model
        self._backbone = model.get_submodule(layout.prefix) if layout.prefix else model
        self._embedding = layout.modules[layout.embeddings]
        weight = self._embedding.weight
        assert isinstance(weight, Tensor)
        self._device = weight.device
        self._top = None if layers is None else layout.layers[layers - 1].module_name
        self._place = torch.full((weight.shape[0],), -1, device=self._device)
        self._place[numbers] = torch.arange(len(numbers), device=self._device)
        ordered = sorted(pairs, key=lambda pair: len(pair[0]))  # texts of like length together
        chunks = [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]
        self._new = [self._batch([new for _, new in chunk], pad) for chunk in chunks]
        with torch.no_grad():
            self._wanted = [
                self._vectors(*self._batch([old for old, _ in chunk], pad)) for chunk in chunks
            ]  # of [B, D]
        wanted = torch.cat(self._wanted)
        self._scale = (wanted - wanted.mean(0)).square().sum().clamp_min(1e-12)

    def error(self, rows: Tensor, backward: bool = False) -> float:
        """The squared distance by the variance; with `backward` its gradient is added."""
        total = 0.0
        for (input_ids, mask), wanted in zip(self._new, self._wanted, strict=True):
            with torch.set_grad_enabled(backward), self._with(rows.to(self._device)):
                found = self._vectors(input_ids, mask)
                error = (found - wanted).square().sum() / self._scale
            if backward:
                error.backward()
            total += float(error.detach())
        return total

    def _batch(self, texts: list[Ids], pad: int) -> tuple[Tensor, Tensor]:
        width = max(len(ids) for ids in texts)
        input_ids = [[*ids, *[pad] * (width - len(ids))] for ids in texts]
        mask = [[1] * len(ids) + [0] * (width - len(ids)) for ids in texts]
        return (
            torch.tensor(input_ids, device=self._device),
            torch.tensor(mask, device=self._device),
        )

    def _vectors(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        features = getattr(self._model, "features", None)
        if self._top is None and callable(features):
            vectors: Tensor = features(input_ids, mask)
            return vectors
        kept: list[Tensor] = []

        def keep(_: nn.Module, __: Any, output: Any) -> None:
            kept.append(output if isinstance(output, Tensor) else output[0])
            raise _Stop

        handle = None
        if self._top is not None:
            handle = self._model.get_submodule(self._top).register_forward_hook(keep)
        try:
            with contextlib.suppress(_Stop):
                output = self._backbone(input_ids=input_ids, attention_mask=mask)
                kept.append(output.last_hidden_state)
        finally:
            if handle is not None:
                handle.remove()
        real = mask.to(torch.float32)[..., None]  # [B, S, 1]
        return (kept[0].float() * real).sum(1) / real.sum(1).clamp_min(1.0)

    @contextlib.contextmanager
    def _with(self, rows: Tensor) -> Iterator[None]:
        """The embedding gives `rows` [M, H] for the new tokens."""

        def replace(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            place = self._place[inputs[0]]  # [B, S]
            chosen = rows.to(output.dtype)[place.clamp_min(0)]  # [B, S, H]
            return torch.where((place >= 0)[..., None], chosen, output)

        handle = self._embedding.register_forward_hook(replace)
        try:
            yield
        finally:
            handle.remove()
