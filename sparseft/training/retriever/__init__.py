"""Finetuning the retriever of a router on graded texts, by the sparse method or by a library."""

from sparseft.training.retriever.finetuned import FinetunedRetriever
from sparseft.training.retriever.library import finetune_with_library
from sparseft.training.retriever.settings import RetrieverSettings
from sparseft.training.retriever.sparse import finetune_sparse

__all__ = [
    "FinetunedRetriever",
    "RetrieverSettings",
    "finetune_sparse",
    "finetune_with_library",
]
