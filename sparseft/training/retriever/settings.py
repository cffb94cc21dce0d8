"""What decides a finetuning of the retriever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from sparseft.errors import ConfigError
from sparseft.models.similarity import SimilarityLoss

__all__ = ["RetrieverSettings"]


@dataclass(frozen=True)
class RetrieverSettings:
    """Of either trainer.

    Attributes:
        loss: cosent, contrastive or regression, see `sparseft.models.similarity`.
        epochs: passes over the texts (sparse) or over the pairs (library).
        batch_size: texts of a step, each compared with all others (sparse); pairs of a step
            (library).
        lr: peak learning rate; None: 1e-3 for the sparse method, 2e-5 for the library.
        pairs: that the library's trainer draws; the sparse one compares whole batches.
        scale: of cosines in cosent and contrastive.
        held_out: share of the dialogues that choose the best epoch (sparse; no pair of them is
            trained on, by either trainer).
        method: name and options of the method of `finetune_sparse`, beside the learning rate.
        cache: whether outputs of the frozen layers are kept in memory between epochs (sparse).
        seed: of everything that is drawn.
    """

    loss: str = "cosent"
    epochs: int = 3
    batch_size: int = 32
    lr: float | None = None
    pairs: int = 8000
    scale: float = 20.0
    held_out: float = 0.1
    method: Mapping[str, Any] = field(
        default_factory=lambda: {"name": "sparse", "density": 0.05, "depth": 0.5, "folds": 0}
    )
    cache: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in get_args(SimilarityLoss):
            raise ConfigError(
                f"expected a loss of {', '.join(get_args(SimilarityLoss))}, got {self.loss!r}; "
                "change it."
            )
        for name, least in (("epochs", 1), ("batch_size", 2), ("pairs", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"expected {name} of {least} or more, got {value!r}; change it.")
        if (self.lr is not None and not self.lr > 0) or not self.scale > 0:
            raise ConfigError(
                f"expected lr and scale above 0, got {self.lr} and {self.scale}; change them."
            )
        if not 0 < self.held_out < 1:
            raise ConfigError(
                f"expected a held_out share between 0 and 1, got {self.held_out}; change it."
            )
        if not isinstance(self.method.get("name"), str):
            raise ConfigError(
                f"expected a method with a name, got {dict(self.method)}; give its name."
            )
