"""The retriever finetuned by a method of ours: units of its own weights, a delta on disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from torch import Tensor

from sparseft import sparse
from sparseft.config import ModelConfig, TrainingConfig
from sparseft.errors import ConfigError
from sparseft.methods import MethodContext, Prepared, get
from sparseft.models.similarity import SimilarityModel
from sparseft.routing.pairs.grades import Grades, apart_from
from sparseft.routing.retriever import load_encoder
from sparseft.training.loop import train
from sparseft.training.prefix_cache import PrefixCache
from sparseft.training.record import MetricsLog
from sparseft.training.retriever.batches import GradedBatches
from sparseft.training.retriever.finetuned import FinetunedRetriever, agreement
from sparseft.training.retriever.settings import RetrieverSettings

__all__ = ["finetune_sparse"]

_LR = 1e-3
_CACHE_BYTES = 2 << 30
METRIC = "rank_correlation"


@dataclass(frozen=True)
class _Held:
    metrics: Mapping[str, float]


def finetune_sparse(
    config: ModelConfig,
    grades: Grades,
    settings: RetrieverSettings,
    folder: str | Path,
    *,
    tested: Collection[str] = (),
    start: str | Path | None = None,
) -> FinetunedRetriever:
    """Finetune the encoder with a sparse method and write the delta.

    Units are chosen by their sensitivity to the similarity loss of some training batches, then
    trained by the one loop; the epoch with the best rank correlation on held-out dialogues is kept.

    Args:
        config: the encoder's.
        grades: of the training texts; some of their dialogues are held out.
        folder: of the delta; one that is there is replaced.
        tested: dialogues that will be tested, for a check.
        start: a delta of an earlier finetuning to go on from: its units are trained, no others.

    Raises:
        DataError: a text is of a tested dialogue, or too few dialogues.
        ConfigError: a setting or an option of the method is wrong, or its trained weights are no
            delta.
        ModelError: the encoder is missing.
        DeltaError: `start` is missing, damaged, or of another encoder.
    """
    training, held = apart_from(grades, tested).split(settings.held_out, settings.seed)
    encoder = load_encoder(config)
    model = SimilarityModel(encoder.backbone, settings.loss, settings.scale)
    batches = GradedBatches(training, encoder, settings.batch_size, settings.seed)
    prepared = _chosen(model, batches, settings) if start is None else _continued(model, start)
    assert prepared.selection is not None
    model.eval()
    before = agreement(encoder, held)
    cache = None
    if settings.cache and prepared.selection.lowest_layer > 0:
        cache = PrefixCache.build(model, batches.every_text(), max_bytes=_CACHE_BYTES)
    own = TrainingConfig(
        epochs=settings.epochs, batch_size=settings.batch_size, progress="off", measure_flops=False
    )

    def validate() -> _Held:
        model.eval()
        encoder.forget()
        found = agreement(encoder, held)
        return _Held({METRIC: found, "loss": 0.0})

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, MetricsLog(Path(scratch) / "log.jsonl") as log:
        outcome = train(
            prepared,
            batches,
            validate,
            own,
            lr=(_LR if settings.lr is None else settings.lr) * prepared.lr_factor,
            metric=METRIC,
            seed=settings.seed,
            log=log,
            cache=cache,
        )
    model.eval()
    encoder.forget()
    facts = {
        "trainer": "sparse",
        "texts": len(training),
        "held_out_texts": len(held),
        METRIC: {"before": before, "after": outcome.score},
        "best_epoch": outcome.best_epoch,
        "seconds": time.perf_counter() - started,
        "analysis_seconds": prepared.analysis_seconds,
        "trained": prepared.selection.trained,
        "density": prepared.selection.density,
        "start": None if start is None else Path(start).name,
        "grades": grades.facts,
    }
    sparse.save_delta(model, folder, extra={"retriever": facts})
    return FinetunedRetriever(encoder, Path(folder), facts)


def _chosen(
    model: SimilarityModel, batches: GradedBatches, settings: RetrieverSettings
) -> Prepared:
    """The model with the units that the method takes for sensitive."""
    options = {key: value for key, value in settings.method.items() if key not in ("name", "lr")}
    context = MethodContext(
        lambda most: list(islice(_shuffled(batches), most)),
        settings.seed,
        int(model.backbone.config.num_hidden_layers),  # type: ignore[union-attr,arg-type]
        options,
    )
    found = get(str(settings.method["name"]))(model, context)
    if found.selection is None:
        raise ConfigError(
            f"expected a method whose weights are a delta, got {settings.method['name']!r}; use "
            "sparse or one of its controls, or the library's trainer."
        )
    return found


def _continued(model: SimilarityModel, start: str | Path) -> Prepared:
    """The model with the units and values of an earlier delta."""
    sparse.load_delta(model, start)
    return Prepared(
        model,
        list(sparse.trainable(model)),
        [],
        optimizer="sparse_adamw",
        selection=sparse.selection_of(model),
    )


def _shuffled(batches: GradedBatches) -> Iterator[dict[str, Tensor]]:
    """The batches of one epoch after another."""
    for epoch in count():
        batches.set_epoch(epoch)
        yield from batches.batches()
