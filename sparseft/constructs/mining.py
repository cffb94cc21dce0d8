"""Mine the constructs of a finetuning set.

Candidates are counted (`candidates`), every candidate is tested against every class by Fisher's
exact test, the false discovery rate over all these tests is held by Benjamini & Hochberg, nested
groups are thinned out (`redundancy`), and the rest is ranked and tried on bootstrap resamples.

Legend: N texts, C classes, G candidates, P occurrences, M (group, class) pairs.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparseft.constructs.candidates import Candidates, candidates
from sparseft.constructs.construct import Construct, Constructs
from sparseft.constructs.redundancy import irredundant
from sparseft.constructs.scores import (
    bh_q_values,
    fisher_p_values,
    log_odds_z,
    mutual_information,
)
from sparseft.constructs.stability import stabilities
from sparseft.constructs.surface import surfaces
from sparseft.constructs.tables import ClassTable, class_table
from sparseft.constructs.texts import TokenisedTexts, fingerprint, tokenise
from sparseft.errors import ConfigError, DataError

__all__ = ["MiningSettings", "mine"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MiningSettings:
    """How constructs are mined.

    Attributes:
        longest: tokens of the longest n-gram.
        gap: most tokens inside a gapped pair; 0: no pairs.
        min_support: texts (of any class) that hold a candidate.
        q: the false discovery rate over all candidates and classes.
        score: the ranking; log_odds (Monroe et al. 2008, a z-score) or mutual_information (bits).
        prior_strength: of the log-odds, imagined texts by real ones.
        remove_redundant: thin out nested groups.
        resamples: bootstrap resamples behind `stability`; 0: none, and stability is 1.
        min_stability: constructs below it are dropped.
        examples: texts kept of each construct.
        limit: the most constructs; None keeps all.
        max_length: tokens that a longer text is cut to; None keeps all.
        seed: of the resamples.

    Raises:
        ConfigError: a value is outside its range.
    """

    longest: int = 4
    gap: int = 0
    min_support: int = 3
    q: float = 0.05
    score: Literal["log_odds", "mutual_information"] = "log_odds"
    prior_strength: float = 1.0
    remove_redundant: bool = True
    resamples: int = 50
    min_stability: float = 0.5
    examples: int = 3
    limit: int | None = None
    max_length: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"longest": 1, "min_support": 1, "gap": 0, "resamples": 0, "examples": 0, "seed": 0}
        for name, value in least.items():
            _require(getattr(self, name) >= value, name, f"{value} or more", getattr(self, name))
        for name in ("limit", "max_length"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, "1 or more", value)
        _require(0 < self.q <= 1, "q", "above 0 and at most 1", self.q)
        _require(0 <= self.min_stability <= 1, "min_stability", "of 0 to 1", self.min_stability)
        _require(self.prior_strength > 0, "prior_strength", "above 0", self.prior_strength)
        known = ("log_odds", "mutual_information")
        _require(self.score in known, "score", f"one of {', '.join(known)}", self.score)


def _require(valid: bool, name: str, expected: str, got: Any) -> None:
    if not valid:
        raise ConfigError(f"expected {name} to be {expected}, got {got!r}; change {name}.")


def mine(
    texts: Sequence[str],
    labels: NDArray[Any],
    label_names: Sequence[str],
    tokenizer: Any,
    settings: MiningSettings | None = None,
    *,
    data_name: str = "",
) -> Constructs:
    """The label-informative token groups of a set of texts.

    Nothing significant is no error: the result is empty then, as with one text of each class.

    Args:
        texts: N texts.
        labels: class numbers, int64 [N]; or multi-hot [N, C] where a text may have several.
        label_names: the C names of the classes.
        tokenizer: the model's own fast tokenizer.
        settings: how to mine.
        data_name: of the set, for the file.

    Returns:
        Constructs, the highest score first.

    Raises:
        DataError: texts and labels do not fit together, or a label number has no name.
        ModelError: the tokenizer is a slow one.
    """
    settings = settings or MiningSettings()
    labels = _checked(texts, labels, label_names)
    corpus = tokenise(tokenizer, texts, settings.max_length)
    found = candidates(corpus, settings.longest, settings.gap, settings.min_support)
    table = class_table(found, labels, len(label_names))
    total = len(texts)
    p = fisher_p_values(*table.counts, total)
    tests = len(found) * int((table.sizes > 0).sum())
    q = bh_q_values(p, tests)
    significant = np.flatnonzero((q <= settings.q) & (p < 1))
    counts = {"texts": total, "candidates": len(found), "tests": tests}
    counts["significant"] = len(significant)
    kept = _thinned(significant, table, found, corpus, settings)
    counts["irredundant"] = len(kept)
    # Benjamini & Hochberg's critical value: what all texts must stay under, a resample must, too.
    threshold = settings.q * len(significant) / max(tests, 1)
    stable = stabilities(
        found, labels, table.take(kept), threshold, settings.resamples, settings.seed
    )
    kept, stable = kept[stable >= settings.min_stability], stable[stable >= settings.min_stability]
    counts["stable"] = len(kept)
    chosen = table.take(kept)
    if settings.score == "log_odds":
        score = log_odds_z(*chosen.counts, total, settings.prior_strength)
    else:
        score = mutual_information(*chosen.counts, total)
    tokens = [found.tokens(group, corpus.ids) for group in chosen.group.tolist()]
    order = sorted(
        range(len(kept)),
        key=lambda m: (-score[m], -int(chosen.y[m]), int(chosen.label[m]), tokens[m]),
    )[: settings.limit]
    written = surfaces(found, corpus, labels, chosen, settings.examples)
    items = tuple(
        Construct(
            tokens=tokens[m],
            gap=settings.gap if found.gapped[chosen.group[m]] else None,
            text=written[m][0],
            label=str(label_names[chosen.label[m]]),
            score=float(score[m]),
            q_value=float(q[kept[m]]),
            support=int(chosen.y[m]),
            frequency=int(chosen.k[m]),
            stability=float(stable[m]),
            examples=written[m][1],
        )
        for m in order
    )
    _log.info("%s: %d constructs, %s", data_name or "constructs", len(items), counts)
    return Constructs(
        items=items,
        labels=tuple(str(name) for name in label_names),
        data_name=data_name,
        data_hash=_digest(texts, labels, label_names),
        tokenizer_hash=fingerprint(tokenizer),
        settings=asdict(settings),
        counts=counts,
    )


def _thinned(
    significant: NDArray[np.int64],
    table: ClassTable,
    found: Candidates,
    corpus: TokenisedTexts,
    settings: MiningSettings,
) -> NDArray[np.int64]:
    if not settings.remove_redundant or not len(significant):
        return significant
    part = table.take(significant)
    groups = [
        (found.tokens(group, corpus.ids), bool(found.gapped[group]))
        for group in part.group.tolist()
    ]
    keep = irredundant(groups, part.label, part.y, part.k, gap=settings.gap)
    return significant[keep]


def _checked(
    texts: Sequence[str], labels: NDArray[Any], label_names: Sequence[str]
) -> NDArray[np.int64]:
    numbers = np.asarray(labels)
    if len(texts) != len(numbers) or numbers.ndim not in (1, 2) or not len(label_names):
        raise DataError(
            f"expected one row of labels for each of {len(texts)} texts and names for them, got "
            f"labels of shape {list(numbers.shape)} and {len(label_names)} names; "
            "check the columns."
        )
    numbers = numbers.astype(np.int64)
    if numbers.ndim == 2:
        valid = numbers.shape[1] == len(label_names) and bool(np.isin(numbers, (0, 1)).all())
    else:
        valid = bool(((numbers >= 0) & (numbers < len(label_names))).all())
    if not valid:
        raise DataError(
            f"expected class numbers below {len(label_names)}, or as many columns of 0 and 1, got "
            f"others in labels of shape {list(numbers.shape)}; check the labels."
        )
    return numbers


def _digest(texts: Sequence[str], labels: NDArray[np.int64], names: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps([str(name) for name in names]).encode())
    for text, label in zip(texts, labels.tolist(), strict=True):
        digest.update(json.dumps([text, label]).encode() + b"\n")
    return digest.hexdigest()
