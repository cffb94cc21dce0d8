"""Routers over recorded answers, cross-fitted; what has its file is not done again.

python experiments/routing/run.py                       # everything: see README.md
python experiments/routing/run.py --pairs bm25 --seeds 0
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from settings import COSTS, PAIRS, RATES, SEEDS, K, Pair

from sparseft import files
from sparseft.config import ModelConfig
from sparseft.results import environment
from sparseft.routing import Query, Router, Turn, dialogues_of
from sparseft.routing.costs import Costs, RouterCost
from sparseft.routing.dialogues import recorded_turns
from sparseft.routing.dialogues.tables import data_file
from sparseft.routing.expert import Expert
from sparseft.routing.experts import RecordedExpert
from sparseft.routing.judging import Judged, dialogue_pool, judge, only_large, right_turns
from sparseft.routing.pools import Pool
from sparseft.routing.retriever import SentenceEncoder, load_encoder
from sparseft.routing.rollout import contexts_of, roll_out
from sparseft.routing.routers import (
    AlwaysLarge,
    AlwaysSmall,
    Cascade,
    Chance,
    Classifier,
    MajorityVote,
    Oracle,
    SimilarityRanking,
    Verifier,
    WeightedVote,
)
from sparseft.routing.study import halves, held_out_scores, thresholds
from sparseft.routing.texts import query_of

_RESULTS = Path(__file__).parent / "results"
_FOLDER = "multiwoz24_dev_llm_predictions"
_SEPARATOR = "|"  # of several accepted values in the gold
Dialogues = Mapping[str, Sequence[Turn]]


def routers(encoder: SentenceEncoder, scored: bool) -> dict[str, Callable[[Pool], Router]]:
    """Every router that is built from a pool; the cascade only where the small model has scores."""
    found: dict[str, Callable[[Pool], Router]] = {
        "random": lambda pool: Chance(0),
        "knn": lambda pool: MajorityVote(pool, encoder, K),
        "knn, balanced pool": lambda pool: MajorityVote(pool.balanced(0), encoder, K),
        "weighted knn": lambda pool: WeightedVote(pool, encoder),
        "classifier": lambda pool: Classifier(pool, encoder, 0.3),
        "routellm sw": lambda pool: SimilarityRanking(pool, encoder),
        "verifier": lambda pool: Verifier(pool, encoder),
    }
    if scored:
        found["cascade"] = lambda pool: Cascade()
    return found


def run(pair: Pair, seed: int, encoder: SentenceEncoder, path: Path) -> dict[str, Any]:
    """One pair with one drawing of the halves: every turn of every router at every rate."""
    started = time.perf_counter()
    turns = recorded_turns()
    dialogues = dialogues_of(turns)
    small, large = (RecordedExpert.from_parquet(path, name) for name in (pair.small, pair.large))
    for expert in (small, large):
        expert.check(turn.id for turn in turns)
    scored = any(
        answer.score is not None for answer in small.predict(contexts_of(dialogues, small))
    )
    curves: dict[str, list[dict[str, Any]]] = {}
    pools = []
    for split in halves(dialogues, seed):
        pool = dialogue_pool(split.pool, small, large, normalise=False, separator=_SEPARATOR)
        pools.append(dict(pool.provenance))
        contexts = contexts_of(split.pool, small)
        asked = small.predict(contexts)
        for name, make in routers(encoder, scored).items():
            router = make(pool)
            said = asked if router.needs_confidence else [None] * len(contexts)
            queries = [query_of(c, own) for c, own in zip(contexts, said, strict=True)]
            held_out = held_out_scores(pool, make, queries, seed=seed)
            for rate, threshold in zip(RATES, thresholds(held_out, RATES), strict=True):
                judged = _judged(split.test, router, threshold, small, large, pair, pool, encoder)
                curves.setdefault(name, []).append(_kept(judged, rate=rate))
        for name, router in _ends(split.test, small, large).items():
            judged = _judged(split.test, router, 0.5, small, large, pair, pool, encoder)
            curves.setdefault(name, []).append(_kept(judged, rate=None))
    return {
        "pair": pair.name,
        "small": pair.small,
        "large": pair.large,
        "prompt": pair.prompt,
        "seed": seed,
        "unit": _unit(pair),
        "metric": "strict, any of the accepted values",
        "pools": pools,
        "curves": curves,
        "seconds": time.perf_counter() - started,
        "environment": environment("cpu", torch.get_num_threads()),
    }


def _ends(dialogues: Dialogues, small: Expert, large: Expert) -> dict[str, Router]:
    turns = [turn for own in dialogues.values() for turn in own]
    contexts = contexts_of(dialogues, small)
    right = [
        right_turns(turns, contexts, expert, normalise=False, separator=_SEPARATOR)
        for expert in (small, large)
    ]
    needed = only_large(*right)
    queries: list[Query] = [query_of(context) for context in contexts]
    oracle = Oracle({query.id: bool(up) for query, up in zip(queries, needed, strict=True)})
    return {"small alone": AlwaysSmall(), "large alone": AlwaysLarge(), "oracle": oracle}


def _judged(
    dialogues: Dialogues,
    router: Router,
    threshold: float,
    small: Expert,
    large: Expert,
    pair: Pair,
    pool: Pool,
    encoder: SentenceEncoder,
) -> Judged:
    embeds = hasattr(router, "embedder")
    router_cost = RouterCost(22.6e6, len(pool), 384) if embeds else RouterCost()
    costs = Costs(
        COSTS[pair.small.split(".")[0]],
        COSTS[_model_of(pair.large)],
        router_cost,
        "money" if _unit(pair) == "money" else "flops",
        lambda text: max(1, round(len(text) / 4)),
    )
    steps = roll_out(dialogues, router, threshold, small, large)
    gold = [turn for own in dialogues.values() for turn in own]
    return judge(gold, steps, costs, normalise=False, separator=_SEPARATOR)


def _model_of(system: str) -> str:
    return next(name for name in COSTS if system.startswith(name))


def _unit(pair: Pair) -> str:
    return "flops" if COSTS[_model_of(pair.large)].parameters else "money"


def _kept(judged: Judged, rate: float | None) -> dict[str, Any]:
    """Turns as strings of 0 and 1, so that a table can draw dialogues again."""
    return {
        "rate": rate,
        "turn": "".join(map(str, judged.turn.astype(int))),
        "state": "".join(map(str, judged.state.astype(int))),
        "large": "".join(map(str, judged.large.astype(int))),
        "cost": [float(f"{value:.5g}") for value in judged.cost],
        "groups": _runs(judged.groups),
    }


def _runs(groups: Sequence[str]) -> list[tuple[str, int]]:
    names, counts = np.unique(np.asarray(groups), return_counts=True)
    order = {name: place for place, name in enumerate(dict.fromkeys(groups))}
    pairs = sorted(zip(names.tolist(), counts.tolist(), strict=True), key=lambda p: order[p[0]])
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="*", choices=[pair.name for pair in PAIRS])
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    arguments = parser.parse_args()
    path = data_file(None, _FOLDER, "predictions.parquet")
    encoder = load_encoder(
        ModelConfig(name="minilm", source="embedded", id="minilm", max_length=128)
    )
    for seed in arguments.seeds:
        for pair in PAIRS:
            file = _RESULTS / f"{pair.name}.seed{seed}.json"
            if file.is_file() or (arguments.pairs and pair.name not in arguments.pairs):
                continue
            content = run(pair, seed, encoder, path)
            files.write_text(file, json.dumps(content, sort_keys=True) + "\n")
            print(f"{pair.name}, seed {seed}: {content['seconds']:.0f} s")


if __name__ == "__main__":
    main()
