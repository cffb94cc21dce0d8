"""A decoder that answers: trained on the tokens of its answers only.

Legend: B batch, L tokens of the longest row, H hidden size, V vocabulary, A trained tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from sparseft.errors import ModelError
from sparseft.models.classifier import last_token_pooling
from sparseft.models.load import load_pretrained
from sparseft.models.task_model import TaskModel, TaskOutput

if TYPE_CHECKING:
    from sparseft.config import ModelConfig

__all__ = ["IGNORED", "AnswerModel", "LoadedLanguageModel", "load_language"]

IGNORED = -100  # the label of a token that is not trained


class VocabularyHead(nn.Module):
    """Logits by the pretrained output embedding, which no method trains on its own.

    Where it is tied to the token embedding, that weight is used as it is at the moment; else the
    checkpoint's own is kept as a buffer.
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, hidden: Tensor, tied: Tensor) -> Tensor:
        """[…, H] to [..., V]."""
        weight = tied if self.weight is None else self.weight
        return functional.linear(hidden, weight)


class AnswerModel(TaskModel):
    """A causal language model whose loss is that of the labelled tokens.

    Args:
        language_model: of transformers, with a decoder `model` and an `lm_head`.

    Raises:
        ModelError: it has neither.
    """

    head: VocabularyHead

    def __init__(self, language_model: Any) -> None:
        super().__init__()
        backbone = getattr(language_model, "model", None)
        output = language_model.get_output_embeddings()
        if backbone is None or output is None or getattr(output, "bias", None) is not None:
            raise ModelError(
                "expected a causal language model with a decoder and an output embedding without "
                f"bias, got {type(language_model).__name__}; use a Llama- or Qwen-shaped model."
            )
        tied = output.weight is language_model.get_input_embeddings().weight
        self.backbone = backbone
        self.head = VocabularyHead(None if tied else output.weight.detach())

    @property
    def vocabulary_size(self) -> int:
        """V, rows of the output embedding."""
        decoder: Any = self.backbone
        weight = self.head.weight
        return len(decoder.get_input_embeddings().weight if weight is None else weight)

    def logits(self, hidden: Tensor) -> Tensor:
        """[…, H], the backbone's last hidden states, to [..., V]."""
        decoder: Any = self.backbone
        return self.head(hidden, decoder.get_input_embeddings().weight)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None
    ) -> TaskOutput:
        """The mean cross-entropy over all labelled tokens, each predicted from those before it.

        Args:
            input_ids: [B, L].
            attention_mask: [B, L], 1 at real tokens.
            labels: [B, L], the token's own id where it is trained, `IGNORED` elsewhere.

        Returns:
            loss and logits [A, V] in row order; without labels the logits [B, V] behind each row's
            last token.
        """
        outputs = self.backbone(input_ids=input_ids, attention_mask=attention_mask)
        hidden = outputs.last_hidden_state  # [B, L, H]
        if labels is None:
            return TaskOutput(logits=self.logits(last_token_pooling(hidden, attention_mask)))
        targets = labels[:, 1:]
        trained = targets != IGNORED  # [B, L - 1]
        logits = self.logits(hidden[:, :-1][trained]).float()  # [A, V]
        return TaskOutput(loss=functional.cross_entropy(logits, targets[trained]), logits=logits)


@dataclass(frozen=True)
class LoadedLanguageModel:
    """A model in eval mode on the CPU, its tokenizer (right padding), and the model's name."""

    model: AnswerModel
    tokenizer: Any
    name: str


def load_language(config: ModelConfig, seed: int = 0) -> LoadedLanguageModel:
    """Load the causal language model that `config` names; its `pooling` is not used.

    Raises:
        ModelError: missing, unreachable, damaged, or no causal language model.
        ConfigError: `max_length` is more than the model has positions for.
    """
    model, tokenizer = load_pretrained(config, AutoModelForCausalLM, seed)
    with torch.no_grad():
        answer = AnswerModel(model)
    return LoadedLanguageModel(answer.eval(), tokenizer, config.name)
