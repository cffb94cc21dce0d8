"""Both trainers bring alike contexts together, and what they wrote gives the same vectors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sparseft import sparse
from sparseft.config import ModelConfig
from sparseft.errors import ConfigError, DataError, DeltaError, ModelError
from sparseft.routing import Query
from sparseft.routing.pairs import Grades, expert_grades, hardness_grades
from sparseft.routing.pools import build_pool
from sparseft.routing.retriever import load_encoder
from sparseft.routing.routers import MajorityVote
from sparseft.routing.saved import load_router, save_router
from sparseft.training.retriever import (
    FinetunedRetriever,
    RetrieverSettings,
    finetune_sparse,
    finetune_with_library,
)
from sparseft.training.retriever.batches import GradedBatches
from sparseft.training.retriever.finetuned import agreement, rank_correlation
from tests.tiny import save_tiny_model

_SETTINGS = RetrieverSettings(
    epochs=3,
    batch_size=16,
    lr=1e-2,
    pairs=200,
    held_out=0.3,
    method={"name": "sparse", "density": 0.2, "depth": 0.5, "folds": 0},
)
Finetune = Callable[..., FinetunedRetriever]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    folder = save_tiny_model(tmp_path_factory.mktemp("encoder"))
    return ModelConfig(name="tiny", source="path", id=str(folder), max_length=32)


@pytest.fixture(scope="module")
def queries() -> list[Query]:
    """One word of each text says which kind it is of."""
    rng = np.random.default_rng(0)
    return [
        Query(
            str(k),
            " ".join([*(f"word{w}" for w in rng.integers(0, 40, 4)), f"word{50 + k % 2}"]),
            f"dialogue {k // 2}",
        )
        for k in range(60)
    ]


@pytest.fixture(scope="module")
def grades(queries: list[Query]) -> Grades:
    return hardness_grades(queries, np.arange(60) % 2)


@pytest.fixture(scope="module", params=[finetune_sparse, finetune_with_library])
def finetuned(
    request: pytest.FixtureRequest,
    config: ModelConfig,
    grades: Grades,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, FinetunedRetriever]:
    if request.param is finetune_with_library:
        pytest.importorskip("sentence_transformers")
    folder = tmp_path_factory.mktemp("finetuned") / "retriever"
    return request.param.__name__, request.param(config, grades, _SETTINGS, folder)


def test_like_texts_come_nearer(finetuned: tuple[str, FinetunedRetriever]) -> None:
    figures = finetuned[1].facts["rank_correlation"]
    assert figures["after"] > figures["before"] + 0.2


def test_what_was_written_gives_the_same_vectors(
    finetuned: tuple[str, FinetunedRetriever], config: ModelConfig, grades: Grades
) -> None:
    name, found = finetuned
    if name == "finetune_sparse":
        again = load_encoder(config, delta=found.folder)
    else:
        again = load_encoder(replace(config, id=str(found.folder)))
    vectors = again.embed(grades.texts)
    np.testing.assert_array_equal(vectors, found.encoder.embed(grades.texts))
    assert not np.allclose(vectors, load_encoder(config).embed(grades.texts), atol=1e-3)


def test_a_saved_router_brings_its_retriever(
    config: ModelConfig, queries: list[Query], grades: Grades, tmp_path: Path
) -> None:
    found = finetune_sparse(config, grades, replace(_SETTINGS, epochs=1), tmp_path / "delta")
    pool = build_pool(queries, [k % 2 == 0 for k in range(60)], [True] * 60)
    save_router(tmp_path / "router", "knn", pool, config, 0.5, {"k": 3}, delta=tmp_path / "delta")
    direct = MajorityVote(pool, found.encoder, 3).scores(queries)
    np.testing.assert_array_equal(load_router(tmp_path / "router").router.scores(queries), direct)
    assert not np.array_equal(direct, MajorityVote(pool, load_encoder(config), 3).scores(queries))
    with pytest.raises(DeltaError):
        save_router(tmp_path / "other", "knn", pool, config, 0.5, delta=tmp_path / "none")
    assert not (tmp_path / "other").exists()
    (tmp_path / "router" / "retriever" / "config.json").unlink()
    with pytest.raises(DeltaError):
        load_router(tmp_path / "router")


@pytest.mark.parametrize("loss", ["contrastive", "regression"])
def test_other_losses_and_a_continued_training(
    loss: str, config: ModelConfig, queries: list[Query], grades: Grades, tmp_path: Path
) -> None:
    first = finetune_sparse(config, grades, replace(_SETTINGS, loss=loss), tmp_path / "first")
    figures = first.facts["rank_correlation"]
    assert figures["after"] > figures["before"] + 0.1
    pool = build_pool(queries, [k % 2 == 0 for k in range(60)], [True] * 60)
    second = finetune_sparse(
        config, expert_grades(pool), _SETTINGS, tmp_path / "second", start=first.folder
    )
    # The same dialogues are held out, and their grades are the same.
    assert second.facts["rank_correlation"]["before"] == pytest.approx(figures["after"])
    units = [sparse.read_delta(each.folder).selection.modules for each in (first, second)]
    for before, after in zip(*units, strict=True):
        np.testing.assert_array_equal(before.index, after.index)
    np.testing.assert_array_equal(
        load_encoder(config, delta=second.folder).embed(grades.texts),
        second.encoder.embed(grades.texts),
    )


@pytest.mark.parametrize("finetune", [finetune_sparse, finetune_with_library])
def test_tested_dialogues_and_too_few_are_refused(
    finetune: Finetune, config: ModelConfig, grades: Grades, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="not tested"):
        finetune(config, grades, _SETTINGS, tmp_path / "x", tested={"dialogue 3"})
    with pytest.raises(DataError, match="four dialogues"):
        finetune(config, grades.subset(range(6)), _SETTINGS, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_wrong_settings_are_refused(
    config: ModelConfig, grades: Grades, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in (
        {"loss": "triplet"},
        {"epochs": 0},
        {"batch_size": 1},
        {"pairs": 0},
        {"lr": 0.0},
        {"held_out": 1.0},
        {"method": {}},
    ):
        with pytest.raises(ConfigError, match=r"expected .* got"):
            RetrieverSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="delta"):
        finetune_sparse(config, grades, replace(_SETTINGS, method={"name": "full"}), tmp_path / "x")
    with pytest.raises(DeltaError):
        load_encoder(config, delta=tmp_path / "none")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModelError, match="pip install"):
        finetune_with_library(config, grades, _SETTINGS, tmp_path / "x")


def test_epochs_see_as_many_of_each_side(config: ModelConfig, queries: list[Query]) -> None:
    pool = build_pool(queries, [k % 6 > 0 for k in range(60)], [True] * 60)
    batches = GradedBatches(expert_grades(pool), load_encoder(config), 8, seed=0)
    for epoch in range(2):
        batches.set_epoch(epoch)
        found = list(batches.batches())
        assert len(found) == len(batches) == 2 and sum(len(b["labels"]) for b in found) == 20
        again = list(batches.batches(1))
        assert all((again[0][key] == found[1][key]).all() for key in ("input_ids",))
        for batch in found:
            wanted = batch["labels"].numpy()
            np.testing.assert_array_equal(wanted, wanted.T)
    # A pool that repeats its rare side only: 10 large, 50 small, 10 of each an epoch.
    assert sum(len(batch["input_ids"]) for batch in batches.every_text()) == 60


def test_rank_correlation_takes_ties_at_their_mean(
    grades: Grades, queries: list[Query], config: ModelConfig
) -> None:
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([3.0, 5, 9])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 1, 2]), np.array([1.0, 2, 3])) == pytest.approx(
        0.8660254
    )
    assert np.isnan(rank_correlation(np.array([1.0, 1]), np.array([1.0, 2])))
    assert -1 <= agreement(load_encoder(config), grades) <= 1
    with pytest.raises(DataError, match="different grades"):
        agreement(load_encoder(config), hardness_grades(queries, np.ones(60)))
