"""The boundary to transformers: embedded, local or hub models with the head of a task."""

from sparseft.models.classifier import (
    Pooling,
    TextClassifier,
    last_token_pooling,
    mean_pooling,
)
from sparseft.models.embedded import EMBEDDED, embedded_gguf, embedded_path
from sparseft.models.language import AnswerModel, LoadedLanguageModel, load_language
from sparseft.models.load import (
    LoadedModel,
    LoadedSegmentModel,
    LoadedTracker,
    is_encoder,
    load,
    load_segments,
    load_tracker,
)
from sparseft.models.prefix import FrozenPrefix
from sparseft.models.segments import SegmentLayout, SegmentModel
from sparseft.models.task_model import TaskModel, TaskOutput
from sparseft.models.tracker import TrackerLayout, TrackerModel

__all__ = [
    "EMBEDDED",
    "AnswerModel",
    "FrozenPrefix",
    "LoadedLanguageModel",
    "LoadedModel",
    "LoadedSegmentModel",
    "LoadedTracker",
    "Pooling",
    "SegmentLayout",
    "SegmentModel",
    "TaskModel",
    "TaskOutput",
    "TextClassifier",
    "TrackerLayout",
    "TrackerModel",
    "embedded_gguf",
    "embedded_path",
    "is_encoder",
    "last_token_pooling",
    "load",
    "load_language",
    "load_segments",
    "load_tracker",
    "mean_pooling",
]
