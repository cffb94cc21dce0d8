"""What a run costs: time of a step, FLOPs, peak memory, bytes of optimizer state."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from sparseft.training.devices import unchanged_random_state

__all__ = [
    "PeakMemory",
    "StepMeter",
    "count_flops",
    "optimizer_state_bytes",
    "tensor_bytes",
]

_log = logging.getLogger(__name__)


class StepMeter:
    """Milliseconds of optimizer steps: forward, backward, clipping and update, without loading.

    The first `skip` steps are left out: they pay for allocation, compilation and cold caches.
    """

    def __init__(self, skip: int = 3) -> None:
        self._skip = skip
        self.milliseconds: list[float] = []

    def add(self, seconds: float) -> None:
        """Record one step."""
        self.milliseconds.append(1000.0 * seconds)

    def summary(self) -> dict[str, float]:
        """Median, 20th and 80th percentile; of all steps where no more than `skip` were done."""
        steady = self.milliseconds[self._skip :] or self.milliseconds
        if not steady:
            return {"step_ms_median": 0.0, "step_ms_p20": 0.0, "step_ms_p80": 0.0}
        p20, median, p80 = np.percentile(steady, [20, 50, 80]).tolist()
        return {"step_ms_median": median, "step_ms_p20": p20, "step_ms_p80": p80}


class PeakMemory:
    """The highest memory use since construction, and how it was measured.

    On CUDA it is the allocator's peak. On a CPU it is the process's peak resident set (VmHWM),
    which Linux can reset; where it cannot be reset, earlier peaks of the process count too.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.source = "torch.cuda.max_memory_allocated"
        elif sys.platform == "linux" and _reset_high_water_mark():
            self.source = "resident set peak of the process since training began (VmHWM)"
        else:
            self.source = "resident set peak of the process since it began"

    def bytes(self) -> int | None:
        """The peak; None where this machine does not say."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        peak = _status("VmHWM")
        return _resource_peak() if peak is None else peak


def _reset_high_water_mark() -> bool:
    """Set VmHWM to the present resident set; False where the kernel cannot or only says it did."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    mark, now = _status("VmHWM"), _status("VmRSS")
    return mark is not None and now is not None and mark <= now + _SLACK


_SLACK = 32 * 1024**2  # what may be freed between two readings


def _status(name: str) -> int | None:
    """Bytes of a line of /proc/self/status."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _resource_peak() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """The bytes of the tensors' values."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def optimizer_state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """The bytes of all tensors in the optimizer's state."""
    return tensor_bytes(_tensors(dict(optimizer.state)))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def count_flops(model: nn.Module, backward: Callable[[], Any]) -> int | None:
    """The matrix-product FLOPs of `backward`: one step's forward and backward passes.

    Counted by torch's own `FlopCounterMode`, with the attention kernel of the CPU added, which it
    does not know. Random state is restored and all gradients are dropped, so that training
    afterwards is the same as without the count.

    Returns:
        The count; None where an operator of the model cannot run under the counter.
    """
    aten = torch.ops.aten
    attention = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
    }
    with unchanged_random_state():
        try:
            with FlopCounterMode(display=False, custom_mapping=attention) as counter:
                backward()
        except (NotImplementedError, TypeError) as error:
            _log.warning("FLOPs are not counted: %s", error)
            return None
        finally:
            model.zero_grad(set_to_none=True)
    total = counter.get_total_flops()
    return int(total) if math.isfinite(total) else None


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward_flops(
    gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any
) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))
