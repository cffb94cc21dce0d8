"""Routers over recorded answers, cross-fitted; what has its file is not done again.

python experiments/routing/run.py                       # everything: see README.md
python experiments/routing/run.py --pairs bm25 --seeds 0
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from settings import COSTS, PAIRS, RATES, SEEDS, K, Pair

from sparseft import files
from sparseft.config import ModelConfig
from sparseft.results import environment
from sparseft.routing import Router, dialogues_of
from sparseft.routing.comparison import ENDS, Answers, Metric, compare_half, routers_of
from sparseft.routing.costs import Costs, RouterCost
from sparseft.routing.dialogues import recorded_turns
from sparseft.routing.dialogues.tables import data_file
from sparseft.routing.experts import RecordedExpert
from sparseft.routing.judging import Judged
from sparseft.routing.pools import Pool
from sparseft.routing.retriever import SentenceEncoder, load_encoder
from sparseft.routing.study import halves

_RESULTS = Path(__file__).parent / "results"
_FOLDER = "multiwoz24_dev_llm_predictions"
_SEPARATOR = "|"  # of several accepted values in the gold


# The records' names of the routers.
NAMES = {
    "knn, balanced pool": "knn_balanced",
    "weighted knn": "weighted_knn",
    "routellm sw": "routellm_sw",
}


def run(pair: Pair, seed: int, encoder: SentenceEncoder, path: Path) -> dict[str, Any]:
    """One pair with one drawing of the halves: every turn of every router at every rate."""
    started = time.perf_counter()
    turns = recorded_turns()
    dialogues = dialogues_of(turns)
    small, large = (RecordedExpert.from_parquet(path, name) for name in (pair.small, pair.large))
    for expert in (small, large):
        expert.check(turn.id for turn in turns)
    answers = Answers(small, large, Metric(normalise=False, separator=_SEPARATOR))
    known = {name: record for record, name in NAMES.items()}
    makers = routers_of((), encoder, K, scored=answers.scored(dialogues))
    curves: dict[str, list[dict[str, Any]]] = {}
    pools = []

    def costs(router: Router, pool: Pool) -> Costs:
        return costs_of(pair, router, pool)

    for split in halves(dialogues, seed):
        half = compare_half(split, answers, makers, RATES, costs, seed=seed)
        pools.append(dict(half.pool.provenance))
        for name, judged in half.runs.items():
            rates = [None] if name in ENDS else RATES
            curves.setdefault(known.get(name, name), []).extend(
                kept(each, rate=rate) for rate, each in zip(rates, judged, strict=True)
            )
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


def costs_of(pair: Pair, router: Router, pool: Pool) -> Costs:
    embeds = hasattr(router, "embedder")
    return Costs(
        COSTS[pair.small.split(".")[0]],
        COSTS[_model_of(pair.large)],
        RouterCost(22.6e6, len(pool), 384) if embeds else RouterCost(),
        "money" if _unit(pair) == "money" else "flops",
        lambda text: max(1, round(len(text) / 4)),
    )


def _model_of(system: str) -> str:
    return next(name for name in COSTS if system.startswith(name))


def _unit(pair: Pair) -> str:
    return "flops" if COSTS[_model_of(pair.large)].parameters else "money"


def kept(judged: Judged, rate: float | None) -> dict[str, Any]:
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
