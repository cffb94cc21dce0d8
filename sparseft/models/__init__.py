"""The boundary to transformers: embedded, local or hub models with a classification head."""

from sparseft.models.classifier import (
    ClassifierOutput,
    Pooling,
    TextClassifier,
    last_token_pooling,
    mean_pooling,
)
from sparseft.models.embedded import EMBEDDED, embedded_gguf, embedded_path
from sparseft.models.load import LoadedModel, load
from sparseft.models.prefix import FrozenPrefix

__all__ = [
    "EMBEDDED",
    "ClassifierOutput",
    "FrozenPrefix",
    "LoadedModel",
    "Pooling",
    "TextClassifier",
    "embedded_gguf",
    "embedded_path",
    "last_token_pooling",
    "load",
    "mean_pooling",
]
