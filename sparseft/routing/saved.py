"""A router as a folder: its kind, its pool, its encoder and its threshold."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparseft import files
from sparseft.config import ModelConfig
from sparseft.errors import ConfigError, DataError
from sparseft.routing.pools import Pool, load_pool
from sparseft.routing.retriever import Embedder, load_encoder
from sparseft.routing.router import Query, Router
from sparseft.routing.routers import (
    Classifier,
    MajorityVote,
    SimilarityRanking,
    Verifier,
    WeightedVote,
)
from sparseft.sparse import read_delta

__all__ = ["KINDS", "SavedRouter", "build_router", "load_router", "save_router"]

FORMAT = "sparseft.router.1"
_SETTINGS, _POOL, _DELTA = "router.json", "pool.json", "retriever"

KINDS: Mapping[str, Callable[..., Router]] = {
    kind.name: kind
    for kind in (MajorityVote, WeightedVote, Classifier, SimilarityRanking, Verifier)
}


@dataclass(frozen=True)
class SavedRouter:
    """A router with the threshold that was chosen for it.

    Attributes:
        threshold: a query goes to the large model where its score is at least this.
        facts: how it was made, as plain data.
    """

    router: Router
    threshold: float
    facts: Mapping[str, Any]

    def large(self, queries: Sequence[Query]) -> np.ndarray:
        """Which queries go to the large model, bool [N]."""
        found: np.ndarray = self.router.scores(queries) >= self.threshold
        return found


def build_router(kind: str, pool: Pool, embedder: Embedder, options: Mapping[str, Any]) -> Router:
    """A router of a pool.

    Args:
        kind: of `KINDS`.
        options: of that kind, such as k.

    Raises:
        ConfigError: an unknown kind or option.
        DataError: a pool that this kind cannot use.
    """
    if kind not in KINDS:
        raise ConfigError(
            f"expected a router, one of {', '.join(sorted(KINDS))}, got {kind!r}; change it."
        )
    try:
        return KINDS[kind](pool, embedder, **options)
    except TypeError as error:
        raise ConfigError(
            f"expected options of the router {kind}, got {dict(options)} ({error}); change them."
        ) from error


def save_router(
    folder: str | Path,
    kind: str,
    pool: Pool,
    model: ModelConfig,
    threshold: float,
    options: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    delta: str | Path | None = None,
) -> Path:
    """Write a folder that `load_router` reads; all of it or nothing.

    Args:
        model: the encoder's.
        facts: plain data to keep, such as the wanted share and what validation showed.
        delta: of a finetuned encoder, which is copied into the folder.

    Raises:
        DeltaError: the delta is missing or damaged.
    """
    if delta is not None:
        read_delta(delta)
    content = {
        "format": FORMAT,
        "kind": kind,
        "options": dict(options or {}),
        "threshold": threshold,
        "model": dataclasses.asdict(model),
        "facts": dict(facts or {}),
    }
    if delta is not None:
        content["delta"] = _DELTA
    with files.directory(folder) as path:
        pool.save(path / _POOL)
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        files.write_text(path / _SETTINGS, text)
        if delta is not None:
            shutil.copytree(delta, path / _DELTA)
    return Path(folder)


def load_router(folder: str | Path, batch_size: int = 64) -> SavedRouter:
    """A router that `save_router` wrote.

    Raises:
        DataError: a file is missing, damaged, or of another format.
        ModelError: the encoder is missing.
        DeltaError: its delta is missing, damaged, or of another encoder.
    """
    path = Path(folder)
    content = files.read_json(path / _SETTINGS, DataError)
    try:
        if content["format"] != FORMAT:
            raise DataError(
                f"expected the format {FORMAT} in {path / _SETTINGS}, got {content['format']!r}; "
                "build the router again."
            )
        kind, options = str(content["kind"]), dict(content["options"])
        threshold, facts = float(content["threshold"]), dict(content["facts"])
        model = ModelConfig(**content["model"])
        delta = path / _DELTA if content.get("delta") else None
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"expected a router's settings in {path / _SETTINGS}, got: {error!r}; build it again."
        ) from error
    pool = load_pool(path / _POOL)
    router = build_router(kind, pool, load_encoder(model, batch_size, delta), options)
    return SavedRouter(router, threshold, facts)
