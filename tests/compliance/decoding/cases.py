"""What several tests of decoding share: tiny vocabularies, a tiny model, random real vocabulary."""

from __future__ import annotations

from functools import cache

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from sparseft.compliance.decoding import Vocabulary
from sparseft.models import AnswerModel
from tests.tiny import tiny_byte_tokenizer, tiny_language_model


@cache
def byte_vocabulary() -> Vocabulary:
    """One token per byte."""
    tokenizer = tiny_byte_tokenizer()
    return Vocabulary(tokenizer, len(tokenizer))


@cache
def byte_model() -> AnswerModel:
    """A random Llama of it."""
    return AnswerModel(tiny_language_model())


def byte_ids(text: str) -> list[int]:
    """A prompt."""
    ids: list[int] = tiny_byte_tokenizer()(text)["input_ids"]
    return ids


@cache
def wide_model(size: int) -> AnswerModel:
    """A random Llama of many tokens."""
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AnswerModel(AutoModelForCausalLM.from_config(config).eval()).eval()
