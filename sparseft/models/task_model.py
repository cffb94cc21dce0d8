"""What every model of a task is: a pretrained backbone and a head.

Methods freeze, wrap and select in the backbone; the training loop calls the model with a batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from sparseft.errors import ModelError

__all__ = [
    "TaskModel",
    "TaskOutput",
    "hidden_size_of",
    "in_whole_batches",
    "no_input_gradients",
]


@dataclass
class TaskOutput(ModelOutput):
    """`loss` (only where labels were given) and `logits`, as the task's model shapes them."""

    loss: Tensor | None = None
    logits: Tensor | None = None


class TaskModel(nn.Module):
    """A backbone, of transformers or PEFT's wrapper of one, and a head, perhaps without weights.

    Called as `model(input_ids, attention_mask, labels=None)` it gives a `TaskOutput`. Parameter
    names are `backbone.…` and `head.…`.

    Attributes:
        part: rows int64 [b] and width of the part of the batch that the backbone is given now; None
            where it is given all of it.
        whole_batches: the backbone is given nothing but whole batches, see `in_whole_batches`.
    """

    backbone: nn.Module
    head: nn.Module
    part: tuple[Tensor, int] | None = None
    whole_batches: bool = False

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        """Recompute the backbone's activations in backward; the settings of transformers.

        transformers makes the embeddings' output require a gradient then, which only reentrant
        checkpointing needs. It is undone here: backward still stops at the lowest trained layer.

        Raises:
            ModelError: reentrant checkpointing is asked for, or the backbone has a trained prefix,
                which recomputing would drop.
        """
        settings = {"use_reentrant": False, **(activation_checkpointing_kwargs or {})}
        if settings["use_reentrant"]:
            raise ModelError(
                "expected use_reentrant=False for gradient checkpointing, got True, which sends "
                "backward through frozen layers; leave the setting out."
            )
        adapter = getattr(self.backbone, "active_peft_config", None)
        if getattr(adapter, "is_prompt_learning", False):
            raise ModelError(
                "expected no gradient checkpointing with prefix tuning, got it switched on: the "
                "recomputed layers would run without the prefix; set "
                "training.gradient_checkpointing=false."
            )
        with no_input_gradients(self.backbone):
            _checkpointing(self.backbone, "enable")(settings, **options)

    def activation_checkpointing_disable(self) -> None:
        """Keep the backbone's activations again."""
        _checkpointing(self.backbone, "disable")()

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        """`activation_checkpointing_enable` by its older name."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs)

    def gradient_checkpointing_disable(self) -> None:
        """`activation_checkpointing_disable` by its older name."""
        self.activation_checkpointing_disable()


@contextlib.contextmanager
def in_whole_batches(model: TaskModel) -> Iterator[None]:
    """Within the block each forward calls the backbone once, as an analysis of tokens needs it."""
    before, model.whole_batches = model.whole_batches, True
    try:
        yield
    finally:
        model.whole_batches = before


def hidden_size_of(backbone: nn.Module) -> int:
    """The width of a backbone's last layer.

    Raises:
        ModelError: its config has none.
    """
    hidden_size = getattr(getattr(backbone, "config", None), "hidden_size", None)
    if not isinstance(hidden_size, int):
        raise ModelError(
            f"expected a transformers model whose config has a hidden_size, got "
            f"{type(backbone).__name__}; use an encoder or a decoder for text."
        )
    return hidden_size


@contextlib.contextmanager
def no_input_gradients(backbone: Any) -> Iterator[None]:
    """Undo that the block makes the embeddings' output require a gradient (a forward hook).

    With that hook, backward runs through every frozen layer down to the embeddings, for nothing.
    """
    remove = getattr(backbone, "disable_input_require_grads", lambda: None)
    remove()  # transformers remembers one set of hooks only, so an older one would be lost
    try:
        yield
    finally:
        remove()


def _checkpointing(backbone: nn.Module, action: str) -> Callable[..., None]:
    # transformers renamed these in 5.2x; the old names warn there and are the only ones before.
    for name in (f"activation_checkpointing_{action}", f"gradient_checkpointing_{action}"):
        method = getattr(backbone, name, None)
        if method is not None:
            return cast("Callable[..., None]", method)
    raise ModelError(
        f"expected a transformers model for gradient checkpointing, got {type(backbone).__name__}; "
        "set training.gradient_checkpointing=false."
    )
