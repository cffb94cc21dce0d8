"""Serving an evaluator: files of transcripts line by line, and over HTTP."""

from typing import TYPE_CHECKING, Any

from sparseft.compliance.serving.attempts import Evaluates
from sparseft.compliance.serving.stream import Counts, evaluate_stream

if TYPE_CHECKING:
    from sparseft.compliance.serving.service import make_app

__all__ = ["Counts", "Evaluates", "evaluate_stream", "make_app"]


def __getattr__(name: str) -> Any:
    # Only when it is used: it needs the packages of the extra `serve`.
    if name == "make_app":
        from sparseft.compliance.serving.service import make_app

        return make_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
