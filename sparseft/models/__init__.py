"""The boundary to transformers: embedded, local or hub models with a classification head."""

from sparseft.models.classifier import (
    ClassifierOutput,
    Pooling,
    TextClassifier,
    last_token_pooling,
    mean_pooling,
)

__all__ = [
    "ClassifierOutput",
    "Pooling",
    "TextClassifier",
    "last_token_pooling",
    "mean_pooling",
]
