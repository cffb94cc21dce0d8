"""Tiny random models of every supported family, batches and a tokenizer, for tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    DistilBertConfig,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)

from sparseft.models.classifier import TextClassifier

FAMILIES = ("bert", "roberta", "distilbert", "modernbert", "llama", "qwen2", "qwen3")
DECODERS = ("llama", "qwen2", "qwen3")
LAYERS = 3
HIDDEN = 16
INTERMEDIATE = 32
HEADS = 2
VOCABULARY = 60
PAD = 0

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = (*_SPECIAL, *(f"word{number}" for number in range(VOCABULARY - len(_SPECIAL))))


def tiny_config(family: str) -> PreTrainedConfig:
    """3 layers, hidden 16, 2 heads, 60 tokens, pad id 0, no dropout."""
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 64,
        "pad_token_id": PAD,
        # A wider spread than usual: with 0.02 a tiny model is nearly linear, and tests of
        # gradients and of what changes would compare noise.
        "initializer_range": 0.2,
    }
    encoder = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    decoder = {"num_key_value_heads": 1, "bos_token_id": 2, "eos_token_id": 3, "use_cache": False}
    if family == "bert":
        return BertConfig(**shape, **encoder)
    if family == "roberta":
        return RobertaConfig(**shape, **encoder, bos_token_id=2, eos_token_id=3)
    if family == "distilbert":
        return DistilBertConfig(
            vocab_size=VOCABULARY,
            dim=HIDDEN,
            hidden_dim=INTERMEDIATE,
            n_layers=LAYERS,
            n_heads=HEADS,
            max_position_embeddings=64,
            pad_token_id=PAD,
            initializer_range=0.2,
            dropout=0.0,
            attention_dropout=0.0,
        )
    if family == "modernbert":
        return ModernBertConfig(
            **shape,
            bos_token_id=2,
            eos_token_id=3,
            cls_token_id=2,
            sep_token_id=3,
            global_attn_every_n_layers=2,
            local_attention=8,
        )
    if family == "llama":
        return LlamaConfig(**shape, **decoder)
    if family == "qwen2":
        return Qwen2Config(**shape, **decoder)
    if family == "qwen3":
        return Qwen3Config(**shape, **decoder, head_dim=HIDDEN // HEADS)
    raise ValueError(f"expected one of {FAMILIES}, got {family!r}")


def tiny(
    family: str, num_labels: int = 3, seed: int = 0, multi_label: bool = False
) -> TextClassifier:
    """A random classifier of `family` in eval mode; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = AutoModel.from_config(tiny_config(family), attn_implementation="sdpa")
    backbone.config.use_cache = False
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None
    return TextClassifier(
        backbone.eval(),
        num_labels,
        pooling="last" if family in DECODERS else "mean",
        multi_label=multi_label,
        seed=seed,
    ).eval()


def tiny_batch(
    model: TextClassifier,
    rows: int = 4,
    length: int = 7,
    seed: int = 0,
    padding_side: str = "right",
) -> dict[str, Tensor]:
    """Random ids of unequal lengths (the first row is full), with labels of the model's kind."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(5, VOCABULARY, (rows, length), generator=generator)
    sizes = torch.randint(min(2, length), length + 1, (rows,), generator=generator)
    sizes[0] = length
    mask = (torch.arange(length)[None, :] < sizes[:, None]).long()
    if model.multi_label:
        labels = torch.randint(0, 2, (rows, model.num_labels), generator=generator).float()
    else:
        labels = torch.randint(0, model.num_labels, (rows,), generator=generator)
    input_ids = input_ids.masked_fill(mask == 0, PAD)
    if padding_side == "left":
        input_ids, mask = _to_left(input_ids, mask), mask.flip(1)
    return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}


def _to_left(input_ids: Tensor, mask: Tensor) -> Tensor:
    rows = [
        torch.cat([row[keep == 0], row[keep == 1]])
        for row, keep in zip(input_ids, mask, strict=True)
    ]
    return torch.stack(rows)


def tiny_tokenizer(path: str | os.PathLike[str] | None = None) -> PreTrainedTokenizerFast:
    """A word-level tokenizer of `word0` … `word54` ([CLS] text [SEP]), saved to a given path."""
    core = Tokenizer(
        WordLevel({word: number for number, word in enumerate(_WORDS)}, unk_token="[UNK]")
    )
    core.pre_tokenizer = Whitespace()
    core.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )
    if path is not None:
        tokenizer.save_pretrained(path)
    return tokenizer


def save_tiny_model(path: str | os.PathLike[str], family: str = "bert", seed: int = 0) -> Path:
    """A folder with config, weights and tokenizer, as `source="path"` loads it."""
    target = Path(path)
    tiny(family, seed=seed).backbone.save_pretrained(target)  # type: ignore[operator]
    tiny_tokenizer(target)
    return target


def tiny_byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: one token per byte, then <pad> and <end>."""
    symbols = sorted(ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate(symbols)}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    fast.padding_side = "right"
    return fast


def tiny_language_model(seed: int = 0, positions: int = 4096, layers: int = LAYERS) -> Any:
    """A random Llama for `tiny_byte_tokenizer`, its output embedding tied, in eval mode."""
    tokens = len(ByteLevel.alphabet())
    config = LlamaConfig(
        vocab_size=tokens + 2,
        hidden_size=2 * HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=1,
        max_position_embeddings=positions,
        pad_token_id=tokens,
        eos_token_id=tokens + 1,
        bos_token_id=tokens + 1,
        initializer_range=0.2,
        tie_word_embeddings=True,
        use_cache=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


def save_tiny_language_model(folder: Path, seed: int = 0) -> Path:
    """Both of them, as `save_pretrained` writes them."""
    tiny_language_model(seed).save_pretrained(folder)
    tiny_byte_tokenizer().save_pretrained(folder)
    return folder
