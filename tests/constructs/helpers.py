"""Small tokenizers of every supported kind, and texts whose constructs are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from sparseft.constructs import Construct, Constructs, fingerprint

KINDS = ("wordpiece", "wordlevel", "bytelevel", "llama3", "metaspace", "unigram", "spaceless")

CORPUS = (
    "please pay me back my money today",
    "Please pay me back my money, now!",
    "where is my contactless card? it's lost",
    "my contactless card doesn't work, what is wrong",
    "the exchange rate is too high; change the exchange rate",
    "can I top-up my card by 100 euros, or 20?",
    "good exchange rate, or a bad exchange rate?",
    "is my card? what is contactless about it",
    "your old exchange rate was contactless too",
    "what is the exchange rate of euros today",
    "is there a fee to pay me by contactless card",
    "how do I change my pin, how do I top-up",
    "café naïve résumé — top-up my card 中文 100€",
) * 3

# Splits as Llama 3 and Qwen do.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def make_tokenizer(kind: str) -> Any:
    """A tokenizer of that kind, trained on CORPUS where it is trained at all."""
    build = {
        "wordpiece": _wordpiece,
        "wordlevel": _wordlevel,
        "bytelevel": lambda: _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False)),
        "llama3": _llama3,
        "metaspace": _metaspace_bpe,
        "unigram": _unigram,
        "spaceless": _normalizer_bpe,
    }[kind]
    core = build()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", core.token_to_id("[CLS]")), ("[SEP]", core.token_to_id("[SEP]"))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def _trained(core: Tokenizer, trainer: Any) -> Tokenizer:
    core.train_from_iterator(CORPUS, trainer)
    return core


def _wordpiece() -> Tokenizer:
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    # Small, so that "contactless" and "exchange" are several pieces.
    return _trained(
        core, trainers.WordPieceTrainer(vocab_size=88, special_tokens=_SPECIAL, show_progress=False)
    )


def _wordlevel() -> Tokenizer:
    core = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return _trained(core, trainers.WordLevelTrainer(special_tokens=_SPECIAL))


def _byte_level(splitter: Any) -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = splitter
    core.decoder = decoders.ByteLevel()
    return _trained(
        core,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=_SPECIAL,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )


def _llama3() -> Tokenizer:
    from tokenizers import Regex

    return _byte_level(
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_LLAMA3), "isolated"),
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    )


def _metaspace_bpe() -> Tokenizer:
    core = Tokenizer(models.BPE(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    return _trained(
        core, trainers.BpeTrainer(vocab_size=90, special_tokens=_SPECIAL, show_progress=False)
    )


def _unigram() -> Tokenizer:
    core = Tokenizer(models.Unigram())
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    core.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=_SPECIAL, unk_token="[UNK]", show_progress=False
    )
    return _trained(core, trainer)


def _normalizer_bpe() -> Tokenizer:
    """As Llama 2: the normalizer writes ▁, and nothing splits the text."""
    core = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    _trained(core, trainers.BpeTrainer(vocab_size=90, special_tokens=_SPECIAL, show_progress=False))
    core.pre_tokenizer = None
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return core


def ids_of(tokenizer: Any, text: str) -> tuple[int, ...]:
    """The ids of a text without special tokens."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def constructs_of(tokenizer: Any, texts: Sequence[str], labels: Sequence[str] = ()) -> Constructs:
    """Constructs that are given as texts; a leading space counts where the tokenizer keeps it."""
    names = tuple(labels) or ("a",) * len(texts)
    return Constructs(
        tuple(
            Construct(ids_of(tokenizer, text), None, text.strip(), name, 1.0, 0.0, 1, 1, 1.0)
            for text, name in zip(texts, names, strict=True)
        ),
        tuple(dict.fromkeys(names)),
        tokenizer_hash=fingerprint(tokenizer),
    )


def planted(rows: int = 120, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts of random words with a phrase of their class: 0 "word1 word2", 1 "word3", 2 nothing."""
    random = np.random.default_rng(seed)
    texts, labels = [], []
    for row in range(rows):
        words = [f"word{n}" for n in random.integers(10, 54, 6)]
        phrase = (["word1", "word2"], ["word3"], [])[row % 3]
        place = int(random.integers(0, 6))
        texts.append(" ".join([*words[:place], *phrase, *words[place:]]))
        labels.append(row % 3)
    return texts, np.array(labels)
