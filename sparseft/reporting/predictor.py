"""Labels, probabilities and salient words of new texts.

Legend: B batch, S tokens of the longest text, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseft import models
from sparseft.config import ModelConfig
from sparseft.constructs import TOKENS_FILE, tokenizer_of
from sparseft.errors import ConfigError, DeltaError
from sparseft.models import TextClassifier
from sparseft.reporting.words import words_of
from sparseft.saliency import token_saliency
from sparseft.sparse import load_delta, read_delta
from sparseft.training.devices import resolve_device

__all__ = ["Prediction", "Predictor", "load"]

_THRESHOLD = 0.5  # of the probability of each label, where a text may have several


@dataclass(frozen=True)
class Prediction:
    """What the model says of one text.

    Attributes:
        labels: the predicted label; none for a text without any token; any number of them where a
            text may have several.
        probabilities: one for each of `labels`.
        words: of the text, in its order; empty where saliency was not asked for.
        saliency: one weight for each of `words`; a token's mean is 1, a word's is the sum of its
            pieces'.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    words: tuple[str, ...] = ()
    saliency: tuple[float, ...] = ()

    def salient(self, count: int) -> list[tuple[str, float]]:
        """The `count` words with the most weight, the weightiest first."""
        pairs = zip(self.words, self.saliency, strict=True)
        # Sorting is stable: of equals, the one that stands earlier in the text comes first.
        return sorted(pairs, key=lambda pair: -pair[1])[:count]


class Predictor:
    """A trained classifier with its tokenizer and the names of its labels.

    Args:
        model: put into eval mode by each call and back afterwards.
        tokenizer: a fast tokenizer with a padding token.
        label_names: of the model's outputs, in order.
        max_length: tokens that a longer text is cut to.
    """

    def __init__(
        self,
        model: TextClassifier,
        tokenizer: Any,
        label_names: Sequence[str],
        max_length: int = 128,
    ) -> None:
        if len(label_names) != model.num_labels:
            raise ConfigError(
                f"expected {model.num_labels} label names, got {len(label_names)}; "
                "give those that the head was trained with."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.label_names = tuple(label_names)
        self.multi_label = model.multi_label
        self.max_length = max_length

    def predict(
        self, texts: Sequence[str], batch_size: int = 32, saliency: bool = False
    ) -> list[Prediction]:
        """One prediction per text, in order.

        Texts of like length share a batch. Saliency costs a second forward and one backward; it is
        measured on the loss of the predicted labels. A text without a token of its own (it is
        empty, or the tokenizer drops all of it) gets no label.

        Raises:
            ConfigError: `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ConfigError(f"expected a batch size of 1 or more, got {batch_size}; change it.")
        found = [Prediction((), ())] * len(texts)
        if not texts:
            return found
        encodings = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.max_length,
            padding=False,
            return_token_type_ids=False,
        ).encodings
        kept = [i for i, e in enumerate(encodings) if any(w is not None for w in e.word_ids)]
        kept.sort(key=lambda i: (-len(encodings[i].ids), i))
        mode = self.model.training
        self.model.eval()
        try:
            for start in range(0, len(kept), batch_size):
                places = kept[start : start + batch_size]
                answers = self._batch(
                    [texts[i] for i in places], [encodings[i] for i in places], saliency
                )
                for place, answer in zip(places, answers, strict=True):
                    found[place] = answer
        finally:
            self.model.train(mode)
        return found

    def _batch(
        self, texts: Sequence[str], encodings: Sequence[Any], saliency: bool
    ) -> list[Prediction]:
        batch = self._padded([encoding.ids for encoding in encodings])
        with torch.no_grad():
            logits = self.model(**batch).logits.float()  # [B, C]
        if self.multi_label:
            probabilities = logits.sigmoid()
            chosen = probabilities >= _THRESHOLD  # [B, C]
            labels = chosen.to(torch.float32)
        else:
            probabilities = logits.softmax(dim=-1)
            labels = logits.argmax(dim=-1)  # [B]
            chosen = torch.nn.functional.one_hot(labels, logits.shape[-1]).bool()
        weights = self._weights({**batch, "labels": labels}, encodings) if saliency else None
        answers = []
        for row, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
            picked = sorted(
                chosen[row].nonzero().flatten().tolist(),
                key=lambda c: -float(probabilities[row, c]),
            )
            words: tuple[list[str], list[float]] = ([], [])
            if weights is not None:
                words = words_of(text, encoding.offsets, encoding.word_ids, weights[row])
            answers.append(
                Prediction(
                    tuple(self.label_names[c] for c in picked),
                    tuple(float(probabilities[row, c]) for c in picked),
                    tuple(words[0]),
                    tuple(words[1]),
                )
            )
        return answers

    def _padded(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        length = max(map(len, rows))
        left = self.tokenizer.padding_side == "left"
        input_ids = torch.full((len(rows), length), int(self.tokenizer.pad_token_id))  # [B, S]
        mask = torch.zeros(len(rows), length, dtype=torch.int64)
        for place, row in enumerate(rows):
            real = slice(length - len(row), length) if left else slice(len(row))
            input_ids[place, real] = torch.tensor(row)
            mask[place, real] = 1
        device = next(self.model.parameters()).device
        return {"input_ids": input_ids.to(device), "attention_mask": mask.to(device)}

    def _weights(self, batch: Mapping[str, Tensor], encodings: Sequence[Any]) -> list[list[float]]:
        weights = token_saliency(self.model, batch, method="gradient_x_input").cpu()  # [B, S]
        real = batch["attention_mask"].bool().cpu()
        return [row[keep].tolist() for row, keep in zip(weights, real, strict=True)]


def load(folder: str | Path, device: str = "auto") -> Predictor:
    """The predictor of a saved delta: its base model is loaded and the delta applied.

    Tokens that the delta brings join the base's tokenizer.

    Args:
        folder: a delta's folder, or that of the run that wrote it.
        device: "auto", "cpu", "cuda", …

    Raises:
        DeltaError: no delta there, a damaged one, or one that does not say how its base is loaded.
        ModelError: the base model is missing.
        ConfigError: no such device.
    """
    path = Path(folder)
    if not (path / "delta.safetensors").exists() and (path / "delta").is_dir():
        path = path / "delta"
    where = resolve_device(device)
    delta = read_delta(path)
    config, names, multi_label = _facts(delta.extra, path)
    loaded = models.load(config, len(names), multi_label)
    if delta.added is not None and TOKENS_FILE not in delta.config.get("beside", {}):
        raise DeltaError(
            f"expected {TOKENS_FILE} beside the rows of added tokens in {path}, got none; save the "
            f"delta with beside={{'{TOKENS_FILE}': Additions.of(…).to_json()}}."
        )
    tokenizer = tokenizer_of(path, loaded.tokenizer)
    model = load_delta(loaded.model, delta).to(where).eval()
    return Predictor(model, tokenizer, names, config.max_length)


def _facts(extra: Mapping[str, Any], path: Path) -> tuple[ModelConfig, list[str], bool]:
    """How to load the base, what the labels are called, whether a text may have several."""
    section, names = extra.get("model"), extra.get("label_names")
    multi_label = extra.get("multi_label", False)
    known = {entry.name for entry in fields(ModelConfig)}
    complete = (
        isinstance(section, Mapping)
        and "name" in section
        and set(section) <= known
        and isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and isinstance(multi_label, bool)
    )
    if not complete:
        raise DeltaError(
            f"expected model and label_names in the extra facts of {path / 'config.json'}, got "
            f"{sorted(extra)}; save the delta with extra={{'model': …, 'label_names': […], "
            "'multi_label': …}, as sparseft.run does."
        )
    assert isinstance(section, Mapping) and isinstance(names, list)
    return ModelConfig(**section), names, multi_label
