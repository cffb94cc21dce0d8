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
    Cascade,
    Chance,
    Classifier,
    MajorityVote,
    SimilarityRanking,
    Verifier,
    WeightedVote,
)
from sparseft.sparse import read_delta

__all__ = ["KINDS", "POOLLESS", "SavedRouter", "build_router", "load_router", "save_router"]

FORMAT = "sparseft.router.1"
_SETTINGS, _POOL, _DELTA = "router.json", "pool.json", "retriever"

KINDS: Mapping[str, Callable[..., Router]] = {
    kind.name: kind
    for kind in (MajorityVote, WeightedVote, Classifier, SimilarityRanking, Verifier)
}
"""From a pool and an encoder."""

POOLLESS: Mapping[str, Callable[..., Router]] = {kind.name: kind for kind in (Cascade, Chance)}
"""From their options alone."""


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


def build_router(
    kind: str, pool: Pool | None, embedder: Embedder | None, options: Mapping[str, Any]
) -> Router:
    """A router by its kind.

    Args:
        kind: of `KINDS`, which need a pool and an embedder, or of `POOLLESS`.
        options: of that kind, such as k.

    Raises:
        ConfigError: an unknown kind or option, or no pool for a kind that needs one.
        DataError: a pool that this kind cannot use.
    """
    if kind not in KINDS and kind not in POOLLESS:
        known = ", ".join(sorted([*KINDS, *POOLLESS]))
        raise ConfigError(f"expected a router, one of {known}, got {kind!r}; change it.")
    if kind in KINDS and (pool is None or embedder is None):
        raise ConfigError(f"expected a pool and an encoder for the router {kind}; give them.")
    try:
        return (
            POOLLESS[kind](**options)
            if kind in POOLLESS
            else KINDS[kind](pool, embedder, **options)
        )
    except TypeError as error:
        raise ConfigError(
            f"expected options of the router {kind}, got {dict(options)} ({error}); change them."
        ) from error


def save_router(
    folder: str | Path,
    kind: str,
    pool: Pool | None,
    model: ModelConfig | None,
    threshold: float,
    options: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    delta: str | Path | None = None,
) -> Path:
    """Write a folder that `load_router` reads; all of it or nothing.

    Args:
        kind: of `KINDS` or `POOLLESS`.
        pool: of exemplars; of a kind without a pool nothing is written of it, model and delta.
        model: the encoder's.
        facts: plain data to keep, such as the wanted share and what validation showed.
        delta: of a finetuned encoder, which is copied into the folder.

    Raises:
        ConfigError: no pool or no model for a kind that needs them.
        DeltaError: the delta is missing or damaged.
    """
    if kind in POOLLESS:
        pool, model, delta = None, None, None
    elif pool is None or model is None:
        raise ConfigError(f"expected a pool and an encoder for the router {kind}; give them.")
    if delta is not None:
        read_delta(delta)
    content = {
        "format": FORMAT,
        "kind": kind,
        "options": dict(options or {}),
        "threshold": threshold,
        "model": None if model is None else dataclasses.asdict(model),
        "facts": dict(facts or {}),
    }
    if delta is not None:
        content["delta"] = _DELTA
    with files.directory(folder) as path:
        if pool is not None:
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
        model = None if kind in POOLLESS else ModelConfig(**content["model"])
        delta = path / _DELTA if content.get("delta") else None
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"expected a router's settings in {path / _SETTINGS}, got: {error!r}; build it again."
        ) from error
    if model is None:
        return SavedRouter(build_router(kind, None, None, options), threshold, facts)
    pool = load_pool(path / _POOL)
    router = build_router(kind, pool, load_encoder(model, batch_size, delta), options)
    return SavedRouter(router, threshold, facts)
