"""The boundary to transformers: embedded, local or hub models with the head of a task."""

from sparseft.models.classifier import (
    Pooling,
    TextClassifier,
    last_token_pooling,
    mean_pooling,
)
from sparseft.models.embedded import EMBEDDED, embedded_gguf, embedded_path
from sparseft.models.language import AnswerModel, LoadedLanguageModel, load_language
from sparseft.models.load import LoadedModel, LoadedSegmentModel, is_encoder, load, load_segments
from sparseft.models.prefix import FrozenPrefix
from sparseft.models.segments import SegmentLayout, SegmentModel
from sparseft.models.task_model import TaskModel, TaskOutput

__all__ = [
    "EMBEDDED",
    "AnswerModel",
    "FrozenPrefix",
    "LoadedLanguageModel",
    "LoadedModel",
    "LoadedSegmentModel",
    "Pooling",
    "SegmentLayout",
    "SegmentModel",
    "TaskModel",
    "TaskOutput",
    "TextClassifier",
    "embedded_gguf",
    "embedded_path",
    "is_encoder",
    "last_token_pooling",
    "load",
    "load_language",
    "load_segments",
    "mean_pooling",
]
