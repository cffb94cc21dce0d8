"""The cache of one run, as `training.prefix_cache` asks for it, and what the record says of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sparseft.config import TrainingConfig
from sparseft.models import FrozenPrefix, TaskModel
from sparseft.training.devices import autocast
from sparseft.training.prefix_cache.cache import PrefixCache

__all__ = ["CacheOfRun", "build_for_run"]

# Of a batch, less than which is padding enough to split it, and the texts of a part.
_FILLED, _PART = 0.75, 32

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheOfRun:
    """A run's cache, if it has one, the seconds it took, and plain data for the record."""

    cache: PrefixCache | None = None
    seconds: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Of the stored states; 0 without a cache."""
        return 0 if self.cache is None else self.cache.bytes


class PaddedRows(Protocol):
    """What is needed of a loader: its rows' lengths [N], and any of them as a batch."""

    @property
    def lengths(self) -> np.ndarray: ...

    @property
    def device(self) -> torch.device: ...

    def collate(self, rows: np.ndarray) -> dict[str, Tensor]: ...


def build_for_run(
    model: TaskModel, loaders: Sequence[PaddedRows], config: TrainingConfig
) -> CacheOfRun:
    """Store the frozen layers' outputs for all texts of the loaders, where the config asks for it.

    A method that trains the first layer or the embeddings has nothing to store; it runs as without
    a cache, and its record says so: one setting can then serve a comparison of all methods.

    Raises:
        SparseftError: any that `PrefixCache.build` raises.
    """
    if config.prefix_cache == "off":
        return CacheOfRun()
    started = time.perf_counter()
    if FrozenPrefix(model).layers == 0:
        _log.info("prefix cache: no frozen layer below the lowest trained one, nothing to store")
        return CacheOfRun(notes={"prefix_cache": {"layers": 0}})
    batches = (batch for loader in loaders for batch in _by_length(loader, config.eval_batch_size))
    with autocast(config.autocast, loaders[0].device):
        cache = PrefixCache.build(
            model,
            batches,
            where=config.prefix_cache,
            dtype=config.prefix_cache_dtype,
            max_bytes=config.prefix_cache_max_bytes,
            progress=config.progress,
        )
    notes = {
        "layers": cache.layers,
        "whole": cache.whole,
        "texts": cache.texts,
        "tokens": cache.tokens,
        "dtype": config.prefix_cache_dtype,
        "reused": cache.reused,
        "build_seconds": cache.build_seconds,
    }
    return CacheOfRun(cache, time.perf_counter() - started, {"prefix_cache": notes})


def _by_length(loader: PaddedRows, batch_size: int) -> Iterator[Mapping[str, Tensor]]:
    """All rows from the longest to the shortest, whatever order the loader has for training."""
    rows = np.argsort(-loader.lengths, kind="stable")
    for start in range(0, len(rows), batch_size):
        yield from _evenly(loader.collate(rows[start : start + batch_size]))


def _evenly(batch: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """A batch, or parts of like length where much of it is padding.

    A loader's row may be several texts, such as the windows of a transcript.
    """
    mask = batch["attention_mask"]  # [B, T]
    if float(mask.sum()) > _FILLED * mask.numel():
        yield batch
        return
    for part in mask.sum(dim=1).argsort(descending=True, stable=True).split(_PART):
        used = mask[part].any(dim=0)
        yield {name: batch[name][part][:, used] for name in ("input_ids", "attention_mask")}
