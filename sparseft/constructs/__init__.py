"""Constructs: token groups of the finetuning data that are informative about the labels.

`mine` finds them, `Constructs` holds, saves and matches them, `construct_saliency` weighs tokens by
them, `markdown_card` and `html_card` show them, and `adapt` makes them tokens of a model.
"""

from sparseft.constructs.adapt import Adapted, adapt, keep_rows, row_selection
from sparseft.constructs.additions import TOKENS_FILE, Additions, tokenizer_of
from sparseft.constructs.card import html_card, markdown_card
from sparseft.constructs.construct import Construct, Constructs, Example
from sparseft.constructs.mining import MiningSettings, mine
from sparseft.constructs.saliency import construct_saliency
from sparseft.constructs.saving import Saving, length_saving
from sparseft.constructs.texts import TokenisedTexts, fingerprint, tokenise
from sparseft.constructs.tokenizer import ExtendedTokenizer, extend_tokenizer

__all__ = [
    "TOKENS_FILE",
    "Adapted",
    "Additions",
    "Construct",
    "Constructs",
    "Example",
    "ExtendedTokenizer",
    "MiningSettings",
    "Saving",
    "TokenisedTexts",
    "adapt",
    "construct_saliency",
    "extend_tokenizer",
    "fingerprint",
    "html_card",
    "keep_rows",
    "length_saving",
    "markdown_card",
    "mine",
    "row_selection",
    "tokenise",
    "tokenizer_of",
]
