"""Serving an evaluator: files of transcripts line by line, and over HTTP.

`sparseft.compliance.serving.service.make_app` needs the extra `serve`, so it is not imported here.
"""

from sparseft.compliance.serving.attempts import Evaluates
from sparseft.compliance.serving.stream import Counts, evaluate_stream

__all__ = ["Counts", "Evaluates", "evaluate_stream"]
