"""The retriever finetuned whole, by sentence-transformers (Reimers and Gurevych, EMNLP 2019).

An optional package: `pip install 'sparseft[retriever]'`.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from sparseft import files
from sparseft.config import ModelConfig
from sparseft.errors import ModelError
from sparseft.routing.pairs.grades import Grades, apart_from, draw_pairs
from sparseft.routing.retriever import SentenceEncoder, load_encoder
from sparseft.training.devices import unchanged_random_state
from sparseft.training.retriever.finetuned import FinetunedRetriever, agreement
from sparseft.training.retriever.settings import RetrieverSettings

__all__ = ["finetune_with_library"]

_LR = 2e-5
_WARM_UP = 0.1  # of the steps


def finetune_with_library(
    config: ModelConfig,
    grades: Grades,
    settings: RetrieverSettings,
    folder: str | Path,
    *,
    tested: Collection[str] = (),
) -> FinetunedRetriever:
    """Finetune all weights of the encoder on drawn pairs and write the whole model.

    The contrastive loss takes pairs of a grade of 0.5 and more for alike (Hadsell et al. 2006, on
    the hard pairs of a batch). The last epoch is kept.

    Args:
        folder: of the model, which `load_encoder` reads with the source "path"; one that is there
            is replaced.
        grades, tested: as in `finetune_sparse`.

    Raises:
        ModelError: sentence-transformers is not installed, or the encoder is missing.
        DataError: a text is of a tested dialogue, or too few dialogues.
    """
    training, held = apart_from(grades, tested).split(settings.held_out, settings.seed)
    library = _library()
    encoder = load_encoder(config)
    before = agreement(encoder, held)
    pairs = draw_pairs(training, settings.pairs, settings.seed)
    wanted = pairs.grades
    if settings.loss == "contrastive":
        wanted = (wanted >= 0.5).astype(wanted.dtype)
    started = time.perf_counter()
    rows = {"a": list(pairs.first), "b": list(pairs.second), "score": wanted.tolist()}
    with tempfile.TemporaryDirectory() as scratch, unchanged_random_state():
        _train(library, encoder, rows, settings, scratch)
    encoder.backbone.eval()
    encoder.forget()
    with files.directory(folder) as path, _no_bars():
        encoder.backbone.save_pretrained(path)  # type: ignore[operator]
        encoder.tokenizer.save_pretrained(path)
    facts = {
        "trainer": "sentence-transformers",
        "texts": len(training),
        "held_out_texts": len(held),
        "pairs": len(pairs),
        "rank_correlation": {"before": before, "after": agreement(encoder, held)},
        "seconds": time.perf_counter() - started,
        "trained": sum(weight.numel() for weight in encoder.backbone.parameters()),
        "density": 1.0,
        "grades": grades.facts,
    }
    return FinetunedRetriever(encoder, Path(folder), facts)


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """No progress bar of transformers for one small file."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _library() -> Any:
    try:
        import sentence_transformers
    except ImportError as error:
        raise ModelError(
            f"expected the package sentence-transformers, got none ({error}); run pip install "
            "'sparseft[retriever]', or use the sparse method."
        ) from error
    return sentence_transformers


def _as_library_model(library: Any, encoder: SentenceEncoder) -> Any:
    """The same weights, tokens and pooling under the library's interface; nothing is copied."""
    from sentence_transformers.sentence_transformer.modules import InputModule, Pooling

    class Backbone(InputModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = encoder.backbone
            self.tokenizer = encoder.tokenizer
            self.max_seq_length = encoder.max_length

        def preprocess(self, inputs: list[str], **_: Any) -> dict[str, Any]:
            return dict(encoder.encode(inputs))

        def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
            names = ("input_ids", "attention_mask")
            hidden = self.backbone(**{name: features[name] for name in names})
            return {**features, "token_embeddings": hidden.last_hidden_state}

        def save(self, output_path: str, *_: Any, **__: Any) -> None:
            self.backbone.save_pretrained(output_path)  # type: ignore[operator]

    width = int(encoder.backbone.config.hidden_size)  # type: ignore[union-attr,arg-type]
    device = str(next(encoder.backbone.parameters()).device)
    return library.SentenceTransformer(modules=[Backbone(), Pooling(width)], device=device)


def _train(
    library: Any,
    encoder: SentenceEncoder,
    rows: dict[str, Any],
    settings: RetrieverSettings,
    folder: str,
) -> None:
    from datasets import Dataset
    from sentence_transformers.sentence_transformer import losses
    from transformers import PrinterCallback

    model = _as_library_model(library, encoder)
    loss: Any
    if settings.loss == "cosent":
        loss = losses.CoSENTLoss(model, scale=settings.scale)
    elif settings.loss == "regression":
        loss = losses.CosineSimilarityLoss(model)
    else:
        loss = losses.OnlineContrastiveLoss(model)
    steps = math.ceil(len(rows["a"]) / settings.batch_size) * settings.epochs
    arguments = library.SentenceTransformerTrainingArguments(
        output_dir=folder,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=_LR if settings.lr is None else settings.lr,
        warmup_steps=math.ceil(_WARM_UP * steps),
        seed=settings.seed,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )

    class Trainer(library.SentenceTransformerTrainer):
        def add_model_card_callback(self, *_: Any, **__: Any) -> None:
            """No card: it would look at every row, with a progress bar."""

    trainer = Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict(rows), loss=loss)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
