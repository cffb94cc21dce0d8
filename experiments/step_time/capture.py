"""A whole training step as one CUDA graph: forward, backward, clipping and update."""

from __future__ import annotations

from typing import Any

import torch
from cases import Case

__all__ = ["CaptureError", "CapturedStep", "Capturer"]

_WARM_UP = 3


class CaptureError(Exception):
    """A step could not be captured; the message is the first line of the reason."""


class CapturedStep:
    """A captured step of a case, on its one static batch. Calling it takes the step."""

    def __init__(self, case: Case, graph: torch.cuda.CUDAGraph) -> None:
        self._case, self._graph = case, graph  # the case owns the tensors that the graph uses

    def __call__(self, _: int = 0) -> None:
        self._graph.replay()


class Capturer:
    """Captures cases on one side stream, with one memory pool for all.

    Steps take turns and leave nothing behind in the pool (gradients are used up inside the step),
    so the graphs may share its memory: several large models fit at once.

    After a failed capture torch's random generator stays in its capturing state, and nothing more
    can be captured in this process; `usable` is then False.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool: Any = torch.cuda.graph_pool_handle()
        self.usable = True
        with torch.cuda.stream(self._stream):
            # The stream's cuBLAS workspace, so that it is not counted as the first case's memory.
            square = torch.ones(64, 64, device=device, dtype=torch.bfloat16)
            _ = square @ square
        torch.cuda.synchronize(device)

    def capture(self, case: Case) -> CapturedStep:
        """Warm up on the side stream, then capture.

        Raises:
            CaptureError: something in the step cannot be captured, such as a wait for the device.
        """
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP):
                case.step()
        torch.cuda.current_stream().wait_stream(self._stream)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                case.step()
        except Exception as error:
            self.usable = False
            torch.cuda.set_stream(stream)  # the failed block may have left its own
            if isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            raise CaptureError(_reason(error)) from error
        return CapturedStep(case, graph)


def _reason(error: BaseException) -> str:
    """The first error of the chain: what ends a capture is often reported by the one after it."""
    while error.__context__ is not None:
        error = error.__context__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
