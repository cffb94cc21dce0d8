"""The boundary to transformers: embedded, local or hub models with the head of a task."""

from sparseft.models.classifier import (
    Pooling,
    TextClassifier,
    last_token_pooling,
    mean_pooling,
)
from sparseft.models.embedded import EMBEDDED, embedded_gguf, embedded_path
from sparseft.models.language import AnswerModel, LoadedLanguageModel, load_language
from sparseft.models.load import LoadedModel, load
from sparseft.models.prefix import FrozenPrefix
from sparseft.models.task_model import TaskModel, TaskOutput

__all__ = [
    "EMBEDDED",
    "AnswerModel",
    "FrozenPrefix",
    "LoadedLanguageModel",
    "LoadedModel",
    "Pooling",
    "TaskModel",
    "TaskOutput",
    "TextClassifier",
    "embedded_gguf",
    "embedded_path",
    "last_token_pooling",
    "load",
    "load_language",
    "mean_pooling",
]
