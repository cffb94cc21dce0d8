"""Answers of a decoder under a schema's grammar, and how sure it was of them."""

from sparseft.compliance.decoding.confidence import FieldScore, field_scores
from sparseft.compliance.decoding.distribution import Asked, value_probabilities
from sparseft.compliance.decoding.drafts import Drafts, draft_answers
from sparseft.compliance.decoding.generate import Choice, Decoded, generate, generate_freely
from sparseft.compliance.decoding.length import check_length, longest_answer
from sparseft.compliance.decoding.steps import LanguageModel
from sparseft.compliance.decoding.vocabulary import GrammarState, Vocabulary

__all__ = [
    "Asked",
    "Choice",
    "Decoded",
    "Drafts",
    "FieldScore",
    "GrammarState",
    "LanguageModel",
    "Vocabulary",
    "check_length",
    "draft_answers",
    "field_scores",
    "generate",
    "generate_freely",
    "longest_answer",
    "value_probabilities",
]
