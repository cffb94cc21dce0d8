"""Constructs as tokens of a model: the tokenizer, and embedding rows for what it adds.

Every method can be used on the result, for it is an ordinary model with an ordinary tokenizer.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from sparseft.constructs.construct import Constructs
from sparseft.constructs.rows import fitted_rows, mean_rows
from sparseft.constructs.tokenizer import ExtendedTokenizer, extend_tokenizer
from sparseft.errors import ConfigError, ModelError
from sparseft.selection.layout import head_names, layout_of
from sparseft.selection.selection import Choice, ModuleSelection, Selection
from sparseft.sparse.added import make_room
from sparseft.sparse.fingerprint import base_hash

__all__ = ["Adapted", "adapt", "keep_rows", "row_selection"]


@dataclass(frozen=True, eq=False)
class Adapted:
    """A model and tokenizer with constructs as tokens.

    Attributes:
        model: the one that was passed in, with more embedding rows.
        tokenizer: a new one.
        extended: what was added to it.
        report: JSON-able: new tokens, the rows' initialisation and its errors, seconds.
    """

    model: Any
    tokenizer: Any
    extended: ExtendedTokenizer
    report: Mapping[str, Any]

    @property
    def new_ids(self) -> tuple[int, ...]:
        """The ids of the new tokens."""
        return tuple(self.extended.pieces)


def adapt(
    model: nn.Module,
    tokenizer: Any,
    constructs: Constructs,
    texts: Sequence[str],
    *,
    count: int = 200,
    rank: Literal["score", "saving"] = "score",
    rows: Literal["mean", "least_squares"] = "least_squares",
    contexts: int = 4,
    layers: int | None = None,
    max_length: int = 128,
) -> Adapted:
    """Make the strongest constructs tokens of a model.

    The model's other rows keep their bits, and a text without constructs its ids and its outputs. A
    language-model head of its own gets the mean of the pieces' rows.

    Args:
        model: a plain model of a known family, before any method has changed it.
        tokenizer: its fast tokenizer; it stays as it is.
        constructs: mined with this tokenizer.
        texts: the training texts, where new rows find their contexts.
        count: the most new tokens.
        rank: see `extend_tokenizer`.
        rows: mean: the mean of the pieces' rows. least_squares: see `fitted_rows`.
        contexts: texts of each new token that least squares matches.
        layers: see `fitted_rows`.
        max_length: longer texts are no contexts.

    Raises:
        ModelError: see `extend_tokenizer`; or the model's embedding is no plain one, or has rows
            of added tokens already.
        ConfigError: a setting is outside its range.
    """
    if rows not in ("mean", "least_squares") or contexts < 1:
        raise ConfigError(
            "expected rows mean or least_squares and contexts of 1 or more, got "
            f"{rows!r} and {contexts}; change them."
        )
    layout = layout_of(model)
    if layers is not None and not 1 <= layers <= len(layout.layers):
        raise ConfigError(
            f"expected layers between 1 and {len(layout.layers)}, got {layers}; change it."
        )
    embedding = layout.modules[layout.embeddings]
    if type(embedding) is not nn.Embedding:
        raise ModelError(
            f"expected a plain embedding, got {type(embedding).__name__}; adapt the model before a "
            "method changes it."
        )
    began = time.perf_counter()
    extended = extend_tokenizer(tokenizer, constructs, texts, count, rank)
    report: dict[str, Any] = {
        "new_tokens": len(extended.pieces),
        "skipped": len(extended.skipped),
        "rows": rows,
        "tokenizer_seconds": round(time.perf_counter() - began, 3),
    }
    if extended.pieces:
        began = time.perf_counter()
        _grow(model, extended)
        if rows == "least_squares":
            pairs = _contexts(tokenizer, extended, texts, contexts, max_length)
            pad = tokenizer.pad_token_id
            fit = fitted_rows(
                model, pairs, extended.pieces, pad=0 if pad is None else pad, layers=layers
            )
            table = _table(model)
            with torch.no_grad():
                table[list(extended.pieces)] = fit.rows.to(table)
            report.update(contexts=fit.contexts, error_before=fit.before, error_after=fit.after)
        report["rows_seconds"] = round(time.perf_counter() - began, 3)
    return Adapted(model, extended.tokenizer, extended, report)


def row_selection(model: nn.Module, ids: Iterable[int]) -> Selection:
    """A selection of embedding rows alone: `sparsify` with it trains these rows and the head.

    Args:
        model: a plain model of a known family.
        ids: token ids.
    """
    layout = layout_of(model)
    table = _table(model)
    index = np.unique(np.fromiter(ids, np.int64))
    heads = head_names(model)
    parameters = sum(p.numel() for n, p in model.named_parameters() if n.split(".")[0] not in heads)
    shape = (int(table.shape[0]), int(table.shape[1]))
    return Selection(
        modules=(ModuleSelection(layout.embeddings, "embedding", index, shape),),
        choices=(Choice("embedding", -1, layout.embeddings, index, np.ones(len(index))),),
        num_layers=len(layout.layers),
        lowest_layer=-1,
        backbone_parameters=parameters,
        base_hash=base_hash(model, heads),
        head=heads,
        layer_names=tuple(layer.module_name for layer in layout.layers),
        info={"rows": "given"},
    )


def keep_rows(model: nn.Module, ids: Iterable[int]) -> torch.utils.hooks.RemovableHandle:
    """Give these embedding rows no gradient, where a method trains the embedding.

    With an optimizer that changes nothing without a gradient they keep their bits; weight decay
    would shrink them. Methods that freeze the embedding need none of this.

    Args:
        model: a plain model of a known family whose embedding asks for a gradient.
        ids: token ids.

    Returns:
        The hook; `remove()` ends it.
    """
    index = torch.tensor(sorted(ids))

    def without(gradient: Tensor) -> Tensor:
        return gradient.index_fill(0, index.to(gradient.device), 0.0)

    return _table(model).register_hook(without)


def _table(model: nn.Module) -> Tensor:
    layout = layout_of(model)
    table = layout.modules[layout.embeddings].weight
    assert isinstance(table, Tensor)
    return table


def _grow(model: nn.Module, extended: ExtendedTokenizer) -> None:
    """Rows for the new ids: the means of the pieces, in the embedding and in an untied head."""
    numbers = list(extended.pieces)
    for name in make_room(model, numbers):
        part = model.get_parameter(name)
        with torch.no_grad():
            part[numbers] = mean_rows(part, extended.pieces).to(part)


def _contexts(
    tokenizer: Any,
    extended: ExtendedTokenizer,
    texts: Sequence[str],
    contexts: int,
    max_length: int,
) -> list[tuple[list[int], list[int]]]:
    """The first texts of each new token, by both tokenizers."""
    options = {"padding": False, "truncation": False, "verbose": False}
    old = tokenizer(list(texts), **options)["input_ids"]
    new = extended.tokenizer(list(texts), **options)["input_ids"]
    found = dict.fromkeys(extended.pieces, 0)
    pairs = []
    for before, after in zip(old, new, strict=True):
        wanted = [number for number in set(after) if found.get(number, contexts) < contexts]
        if wanted and len(before) <= max_length:
            for number in wanted:
                found[number] += 1
            pairs.append((before, after))
    return pairs
