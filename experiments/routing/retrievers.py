"""Votes of neighbours in finetuned spaces, cross-fitted; what has its file is not done again.

python experiments/routing/retrievers.py                        # everything: see README.md
python experiments/routing/retrievers.py --pairs bm25 --retrievers vanilla hardness --seeds 0
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from run import costs_of, kept
from settings import PAIRS, K, Pair
from sklearn.metrics import roc_auc_score

from sparseft import files
from sparseft.config import ModelConfig
from sparseft.results import environment
from sparseft.routing import Router, Turn, dialogues_of
from sparseft.routing.comparison import Answers, Metric, end_routers
from sparseft.routing.dialogues import read_multiwoz, recorded_turns
from sparseft.routing.dialogues.tables import data_file
from sparseft.routing.experts import RecordedExpert
from sparseft.routing.judging import dialogue_pool, only_large, right_turns
from sparseft.routing.pairs import (
    Grades,
    expert_grades,
    gold_grades,
    hardness_grades,
    published_hardness,
)
from sparseft.routing.pairs.hardness import read_published
from sparseft.routing.pools import Pool
from sparseft.routing.retriever import SentenceEncoder, load_encoder
from sparseft.routing.rollout import contexts_of
from sparseft.routing.routers import Classifier, MajorityVote, WeightedVote
from sparseft.routing.study import halves, held_out_scores, thresholds
from sparseft.routing.texts import query_of
from sparseft.training.retriever import (
    RetrieverSettings,
    finetune_sparse,
    finetune_with_library,
)

RESULTS = Path(__file__).parent / "results" / "retrievers"
COMPARED = ("bm25", "sbert", "random-plain", "ftsbert-gpt", "tuned-5p")
RATES = (0.5,)  # wanted shares of large calls
# Chosen on each pool's own folds, for every retriever alike.
NEIGHBOURS = (10, 50, 150)
TEMPERATURES = (0.02, 0.05, 0.2)
MINILM = ModelConfig(name="minilm", source="embedded", id="minilm", max_length=128, dropout=0.0)

CHOOSING = 150  # of the 1,000 test dialogues: no retriever is finetuned on these

# The method's defaults; the epoch is chosen on held-out dialogues of what is trained on. Few
# batches are analysed where there are few texts. The library's rate is the better one of 2e-5 and
# 1e-4 by the rank correlation on held-out dialogues.
_FEW = {"name": "sparse", "density": 0.05, "depth": 0.5, "folds": 0, "batches": 8}
SHARED = {
    "hardness, sparse": RetrieverSettings(epochs=2),
    "task, sparse": RetrieverSettings(epochs=1, method=_FEW),
    "task, library": RetrieverSettings(epochs=1, pairs=2000, lr=1e-4),
}
OF_POOL = {
    "expert, sparse": RetrieverSettings(epochs=8, method=_FEW),
    "hardness then expert, sparse": RetrieverSettings(epochs=8, lr=3e-4),
}
# Only the lowest layers, pretrained or finetuned as the retriever of that name without them.
LOWEST = {
    "vanilla, 1 layer": ("vanilla", 1),
    "vanilla, 2 layers": ("vanilla", 2),
    "hardness, sparse, 2 layers": ("hardness, sparse", 2),
    "task, sparse, 2 layers": ("task, sparse", 2),
}
RETRIEVERS = ("vanilla", *SHARED, *OF_POOL, *LOWEST)


@cache
def hardness() -> Grades:
    """Of the test split of MultiWOZ 2.1, by ten published systems: none of the recorded turns."""
    path = data_file(None, "multiwoz_test_small_model_predictions", "predictions.parquet")
    grades = hardness_grades(
        *published_hardness(read_multiwoz("2.1", "test"), read_published(path))
    )
    names = sorted(set(grades.groups))
    kept = set(np.random.default_rng(7).permutation(names)[CHOOSING:].tolist())
    return grades.subset([row for row, group in enumerate(grades.groups) if group in kept])


@cache
def task() -> Grades:
    """Of the 538 training dialogues."""
    return gold_grades(read_multiwoz("2.1", "train"))


def trained(name: str, models: Path, tested: Collection[str]) -> SentenceEncoder:
    """A retriever that does not depend on the pool, finetuned once."""
    kind, layers = LOWEST.get(name, (name, None))
    model = replace(MINILM, layers=layers)
    if kind == "vanilla":
        return load_encoder(model)
    folder, record = models / _file(name), RESULTS / "trainings" / f"{_file(name)}.json"
    library = kind.endswith("library")
    if not (folder.is_dir() and record.is_file()):
        grades = hardness() if kind.startswith("hardness") else task()
        finetune = finetune_with_library if library else finetune_sparse
        found = finetune(model, grades, SHARED[kind], folder, tested=tested)
        _write(record, {"retriever": name, "facts": found.facts, **_environment()})
    if library:
        return load_encoder(replace(MINILM, source="path", id=str(folder)))
    return load_encoder(model, delta=folder)


def of_pool(name: str, pool: Pool, folder: Path, models: Path, tested: Collection[str]) -> Any:
    """A retriever that is finetuned on the pool's own exemplars."""
    start = models / _file("hardness, sparse") if name.startswith("hardness") else None
    return finetune_sparse(
        MINILM, expert_grades(pool), OF_POOL[name], folder, tested=tested, start=start
    )


def makers(
    pool: Pool, encoder: SentenceEncoder, queries: Sequence[Any], needed: np.ndarray, seed: int
) -> tuple[dict[str, Callable[[Pool], Router]], dict[str, Any]]:
    """The routers, and the weighted vote's settings: those of the best area on the pool's folds."""
    areas = {
        (k, t): roc_auc_score(
            needed,
            held_out_scores(
                pool, lambda own, k=k, t=t: WeightedVote(own, encoder, k, t), queries, seed=seed
            ),
        )
        for k in NEIGHBOURS
        for t in TEMPERATURES
    }
    k, temperature = max(areas, key=lambda each: areas[each])
    return {
        "knn": lambda own: MajorityVote(own, encoder, K),
        "weighted knn": lambda own: WeightedVote(own, encoder, k, temperature),
    }, {"k": k, "temperature": temperature, "pool_area": areas[k, temperature]}


def run(pair: Pair, seed: int, name: str, path: Path, models: Path) -> dict[str, Any]:
    """One pair, one retriever, one drawing of the halves: both ways."""
    started = time.perf_counter()
    dialogues = dialogues_of(recorded_turns())
    small, large = (RecordedExpert.from_parquet(path, each) for each in (pair.small, pair.large))
    answers = Answers(small, large, Metric(normalise=False, separator="|"))
    curves: dict[str, list[dict[str, Any]]] = {}
    scores: dict[str, list[Any]] = {}
    chosen, facts = [], []
    shared = None if name in OF_POOL else trained(name, models, set(dialogues))
    for number, split in enumerate(halves(dialogues, seed)):
        pool = dialogue_pool(split.pool, small, large, normalise=False, separator="|")
        encoder = shared
        if encoder is None:
            folder = models / f"{pair.name}.seed{seed}.half{number}.{_file(name)}"
            found = of_pool(name, pool, folder, models, set(split.test))
            encoder = found.encoder
            facts.append(found.facts)
        queries, needed = _needed(split.pool, small, large)
        routers, weighted = makers(pool, encoder, queries, needed, seed)
        chosen.append(weighted)
        tested, wanted = _needed(split.test, small, large)
        # In the same space, scored but not rolled out.
        logistic = Classifier(pool, encoder, 0.3).scores(tested)
        scores.setdefault("classifier", []).append([float(f"{each:.5g}") for each in logistic])
        for router_name, make in routers.items():
            router = make(pool)
            scores.setdefault(router_name, []).append(
                [float(f"{value:.5g}") for value in router.scores(tested)]
            )
            held_out = held_out_scores(pool, make, queries, seed=seed)
            for rate, threshold in zip(RATES, thresholds(held_out, RATES), strict=True):
                costs = costs_of(pair, router, pool)
                _, judged = answers.judged(split.test, router, threshold, costs)
                curves.setdefault(router_name, []).append(kept(judged, rate=rate))
        scores.setdefault("needed", []).append("".join(map(str, wanted.astype(int))))
        scores.setdefault("groups", []).append([query.group for query in tested])
        if name == "vanilla":
            for end, router in end_routers(split.test, answers).items():
                costs = costs_of(pair, router, pool)
                _, judged = answers.judged(split.test, router, 0.5, costs)
                curves.setdefault(end, []).append(kept(judged, rate=None))
    return {
        "pair": pair.name,
        "retriever": name,
        "seed": seed,
        "weighted": chosen,
        "finetuning": facts,
        "scores": scores,
        "curves": curves,
        "seconds": time.perf_counter() - started,
        **_environment(),
    }


def _needed(
    dialogues: Mapping[str, Sequence[Turn]], small: RecordedExpert, large: RecordedExpert
) -> tuple[list[Any], np.ndarray]:
    """Contexts of the small model alone, and which of them only the large one gets right."""
    contexts = contexts_of(dialogues, small)
    turns = [turn for own in dialogues.values() for turn in own]
    right = [
        right_turns(turns, contexts, expert, normalise=False, separator="|")
        for expert in (small, large)
    ]
    return [query_of(context) for context in contexts], only_large(*right)


def _file(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def _environment() -> dict[str, Any]:
    return {"environment": environment("cpu", torch.get_num_threads())}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    files.write_text(path, json.dumps(content, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="*", choices=COMPARED, default=COMPARED)
    parser.add_argument("--retrievers", nargs="*", choices=RETRIEVERS, default=RETRIEVERS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--models", type=Path, default=Path("runs/retrievers"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = data_file(None, "multiwoz24_dev_llm_predictions", "predictions.parquet")
    by_name = {pair.name: pair for pair in PAIRS}
    for seed in arguments.seeds:
        for pair in arguments.pairs:
            for name in arguments.retrievers:
                file = RESULTS / f"{pair}.seed{seed}.{_file(name)}.json"
                if file.is_file():
                    continue
                if name.startswith("hardness then"):
                    trained("hardness, sparse", arguments.models, ())
                content = run(by_name[pair], seed, name, path, arguments.models)
                _write(file, content)
                print(f"{pair}, {name}, seed {seed}: {content['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
