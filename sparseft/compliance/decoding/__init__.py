"""Answers of a decoder under a schema's grammar, and how sure it was of them."""

from sparseft.compliance.decoding.confidence import FieldScore, field_scores, value_probabilities
from sparseft.compliance.decoding.generate import Choice, Decoded, generate, generate_freely
from sparseft.compliance.decoding.steps import LanguageModel
from sparseft.compliance.decoding.vocabulary import GrammarState, Vocabulary

__all__ = [
    "Choice",
    "Decoded",
    "FieldScore",
    "GrammarState",
    "LanguageModel",
    "Vocabulary",
    "field_scores",
    "generate",
    "generate_freely",
    "value_probabilities",
]
