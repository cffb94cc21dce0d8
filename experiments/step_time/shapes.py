"""The models of the GPU benchmark: random weights in known shapes, made on the device.

| name | weights | layers | batch x tokens | steps a turn | rounds | held at once |
|---|---|---|---|---|---|---|
| llama-1b | Llama-3.2-1B without its language-model head | 16 | 8 x 512 | 3 | 10 | all methods |
| minilm | all-MiniLM-L6 | 6 | 32 x 128 | 5 | 12 | all methods |
| bert-base | BERT-base | 12 | 32 x 128 | 5 | 12 | all methods |
| modernbert-base | ModernBERT-base | 22 | 32 x 128 | 5 | 12 | all methods |
| llama-8b | Llama-3.1-8B without its language-model head | 32 | 1 x 1024 | 2 | 6 | one |

Every text fills its row, so there is no padding and attention gets no mask: all methods, with and
without CUDA graphs, run the same attention kernels. With the mask of a batch, transformers looks
at its values when it may (and drops it) and cannot look inside a capture (and keeps it), and the
two would be compared with different kernels. ModernBERT's sliding layers thereby see all of the
128 tokens, of which their window would hide a quarter of the pairs; no method gains by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AttentionInterface,
    AutoModel,
    BertConfig,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedConfig,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sparseft.models.classifier import TextClassifier

__all__ = ["SHAPES", "Shape", "build", "count_parameters", "static_batch"]

LABELS = 16
# torch's scaled_dot_product_attention under a name that transformers builds no mask for.
_ATTENTION = "sdpa_full_rows"


@dataclass(frozen=True)
class Shape:
    """One model and how it is run; the table above."""

    config: type[PreTrainedConfig]
    settings: Mapping[str, Any]
    batch: int
    length: int
    steps_a_turn: int
    rounds: int
    together: bool = True

    def tiny(self) -> Shape:
        """The same family and options in miniature, for a check of the code without a GPU."""
        small = {
            "vocab_size": 64,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "max_position_embeddings": 32,
        }
        kept = {k: v for k, v in self.settings.items() if k not in small}
        if "num_key_value_heads" in kept:
            kept["num_key_value_heads"] = 2
        for name in ("pad", "bos", "eos", "cls", "sep"):
            small[f"{name}_token_id"] = 1
        return replace(
            self, settings={**kept, **small}, batch=2, length=8, steps_a_turn=1, rounds=3
        )


_ENCODER = {"batch": 32, "length": 128, "steps_a_turn": 5, "rounds": 12}
_LLAMA = {"vocab_size": 128256, "num_key_value_heads": 8, "use_cache": False}

# In order of importance: time may run out.
SHAPES: dict[str, Shape] = {
    "llama-1b": Shape(
        LlamaConfig,
        {
            **_LLAMA,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
        },
        batch=8,
        length=512,
        steps_a_turn=3,
        rounds=10,
    ),
    "minilm": Shape(
        BertConfig,
        {
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
        },
        **_ENCODER,
    ),
    "bert-base": Shape(BertConfig, {}, **_ENCODER),
    "modernbert-base": Shape(ModernBertConfig, {}, **_ENCODER),
    "llama-8b": Shape(
        LlamaConfig,
        {
            **_LLAMA,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
        },
        batch=1,
        length=1024,
        steps_a_turn=2,
        rounds=6,
        together=False,
    ),
}


def build(shape: Shape, device: torch.device, seed: int = 0) -> TextClassifier:
    """A classifier of that shape in bfloat16, its weights drawn on the device; head in float32."""
    AttentionInterface.register(_ATTENTION, sdpa_attention_forward)
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.device(device),
    ):
        torch.manual_seed(seed)
        backbone = AutoModel.from_config(
            shape.config(**shape.settings), dtype=torch.bfloat16, attn_implementation=_ATTENTION
        )
    backbone.config.use_cache = False
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None
    pooling = "last" if shape.config is LlamaConfig else "mean"
    return TextClassifier(backbone, LABELS, pooling=pooling, seed=seed).to(device)


def count_parameters(shape: Shape) -> int:
    """The parameters of the backbone, without making them."""
    with torch.device("meta"):
        backbone = AutoModel.from_config(shape.config(**shape.settings))
    return sum(parameter.numel() for parameter in backbone.parameters())


def static_batch(shape: Shape, device: torch.device, seed: int = 0) -> dict[str, Tensor]:
    """One random batch of full rows, the same tensors for every step and method."""
    generator = torch.Generator().manual_seed(seed)
    vocabulary = shape.config(**shape.settings).vocab_size
    rows = (shape.batch, shape.length)
    batch = {
        "input_ids": torch.randint(0, vocabulary, rows, generator=generator),
        "attention_mask": torch.ones(rows, dtype=torch.int64),
        "labels": torch.randint(0, LABELS, rows[:1], generator=generator),
    }
    return {name: value.to(device) for name, value in batch.items()}
