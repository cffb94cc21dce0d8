"""Exemplar pools: held-out queries that say which model was needed.

After OrchestraLLM (Lee et al., NAACL 2024): a query that the small model got right, whether or not
the large one did too, speaks for the small model; one that only the large model got right speaks
for the large; one that neither got right says nothing and is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sparseft import files
from sparseft.errors import DataError
from sparseft.routing.router import Query

__all__ = ["Exemplar", "Pool", "build_pool", "load_pool"]

FORMAT = "sparseft.routing.pool.1"


@dataclass(frozen=True)
class Exemplar:
    """A query with what it says.

    Attributes:
        query: as a router would have seen it.
        large: whether only the large model was right.
        state: what the retriever's finetuning compares, see `sparseft.routing.pairs`; may be empty.
    """

    query: Query
    large: bool
    state: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pool:
    """Exemplars with where they come from.

    Attributes:
        exemplars: those of both sides.
        provenance: which experts, which data, how many were dropped; plain data.
    """

    exemplars: tuple[Exemplar, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.exemplars)

    @property
    def texts(self) -> list[str]:
        """What is embedded, in order."""
        return [exemplar.query.text for exemplar in self.exemplars]

    @property
    def large(self) -> np.ndarray:
        """Which exemplars speak for the large model, bool [N]."""
        return np.array([exemplar.large for exemplar in self.exemplars], dtype=bool)

    def balanced(self, seed: int) -> Pool:
        """As many exemplars of either side: those of the larger side are drawn."""
        large = self.large
        sides = [np.flatnonzero(large), np.flatnonzero(~large)]
        count = min(map(len, sides))
        rng = np.random.default_rng(seed)
        kept = sorted(int(i) for side in sides for i in rng.permutation(side)[:count])
        return replace(
            self,
            exemplars=tuple(self.exemplars[i] for i in kept),
            provenance={**self.provenance, "balanced": {"seed": seed, "each": count}},
        )

    def save(self, path: str | Path) -> None:
        """Write one JSON file."""
        content = {
            "format": FORMAT,
            "provenance": dict(self.provenance),
            "exemplars": [
                {**asdict(e.query), "large": e.large, "state": dict(e.state)}
                for e in self.exemplars
            ],
        }
        files.write_text(Path(path), json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def load_pool(path: str | Path) -> Pool:
    """A pool that `Pool.save` wrote.

    Raises:
        DataError: the file is missing, damaged, or of another format.
    """
    content = files.read_json(Path(path), DataError)
    try:
        if content["format"] != FORMAT:
            raise DataError(
                f"expected the format {FORMAT} in {path}, got {content['format']!r}; build the "
                "pool again."
            )
        exemplars = tuple(
            Exemplar(
                Query(row["id"], row["text"], row["group"], row["confidence"], row["answer"]),
                bool(row["large"]),
                dict(row["state"]),
            )
            for row in content["exemplars"]
        )
        return Pool(exemplars, dict(content["provenance"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"expected a pool of exemplars in {path}, got: {error!r}; build the pool again."
        ) from error


def build_pool(
    queries: Sequence[Query],
    small_right: Sequence[bool],
    large_right: Sequence[bool],
    *,
    states: Sequence[Mapping[str, str]] | None = None,
    trained_on: Collection[str] = (),
    provenance: Mapping[str, Any] | None = None,
) -> Pool:
    """The pool of held-out queries.

    Args:
        queries: N of them.
        small_right, large_right: whether either model answered each rightly.
        states: of each query, for the retriever's finetuning.
        trained_on: groups that either model was trained on; what a model does on those says
            nothing about new ones, so they are refused.
        provenance: further facts to keep.

    Raises:
        DataError: a query is of a group that was trained on, or nothing speaks for either side.
    """
    if not len(queries) == len(small_right) == len(large_right):
        raise DataError(
            f"expected as many answers of both models as queries ({len(queries)}), got "
            f"{len(small_right)} and {len(large_right)}; align them by id."
        )
    seen = sorted({query.group for query in queries} & set(trained_on))
    if seen:
        raise DataError(
            f"expected queries that neither model was trained on, got {len(seen)} groups that were "
            f"(such as {seen[0]!r}); leave them out of the pool."
        )
    every = states if states is not None else [{}] * len(queries)
    pairs = list(zip(queries, small_right, large_right, every, strict=True))
    kept = [Exemplar(q, not small, dict(s)) for q, small, large, s in pairs if small or large]
    if not kept:
        raise DataError(
            f"expected a query that the small or the large model answered rightly, got none of "
            f"{len(queries)}; give more queries, or better models."
        )
    facts = {
        "queries": len(queries),
        "groups": len({query.group for query in queries}),
        "small": sum(not exemplar.large for exemplar in kept),
        "large": sum(exemplar.large for exemplar in kept),
        "dropped": len(queries) - len(kept),
        **(provenance or {}),
    }
    return Pool(tuple(kept), facts)
