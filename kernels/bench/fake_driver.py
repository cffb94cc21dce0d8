"""A Triton driver for a GPU that is not there: kernels compile, nothing is launched.

The launch code of the operations runs as it is, on CPU tensors. Where Triton would load a binary
onto the device, the binary's own table of resources is read instead. Works with Triton 3.4 to 3.9;
needs a process without TRITON_INTERPRET. Imported only by the worker processes of `aot`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Its value is the default; set, it keeps Triton 3.9 from warning about a change to come.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

__all__ = ["TARGETS", "Binary", "Target", "use"]


@dataclass(frozen=True)
class Target:
    """A kind of GPU: compute capability, shared memory of one program, multiprocessors."""

    capability: int
    shared_bytes: int
    multiprocessors: int


# CUDA C++ programming guide, "Technical specifications per compute capability": the largest
# dynamic shared memory of one thread block; multiprocessors of an A100 and an H100.
TARGETS = {
    80: Target(80, 163 * 1024, 108),
    90: Target(90, 227 * 1024, 132),
}


@dataclass(frozen=True)
class Binary:
    """What one compiled kernel takes: registers a thread, stack bytes a thread, shared bytes."""

    kernel: str
    registers: int
    stack_bytes: int
    shared_bytes: int


def _read(kernel: str, cubin: bytes, shared: int) -> Binary:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+)", text), re.search(r"STACK:(\d+)", text)
    if registers is None or stack is None:
        raise RuntimeError(f"expected REG and STACK from cuobjdump, got {text!r}")
    return Binary(kernel, int(registers[1]), int(stack[1]), shared)


class _Utils:
    def __init__(self, target: Target, found: Callable[[Binary], None]) -> None:
        self._target, self._found = target, found

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {
            "max_shared_mem": self._target.shared_bytes,
            "multiprocessor_count": self._target.multiprocessors,
            "warpSize": 32,
        }

    def load_binary(
        self, name: str, cubin: bytes, shared: int, device: int
    ) -> tuple[int, int, int, int, int]:
        binary = _read(name, cubin, shared)
        self._found(binary)
        return 0, 0, binary.registers, 0, 1024

    def unload_module(self, module: object) -> None:
        """Nothing was loaded."""


class _Driver:
    """As much of triton.backends.driver.DriverBase as a launch uses."""

    def __init__(self, target: Target, found: Callable[[Binary], None]) -> None:
        self._target = target
        self.utils = _Utils(target, found)

    def launcher_cls(self, source: object, metadata: object) -> Callable[..., None]:
        return lambda *arguments, **keywords: None

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._target.capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def _kernels() -> Iterator[JITFunction[Any]]:
    """Every kernel of the operations that are loaded."""
    for name, module in list(sys.modules.items()):
        if name.startswith("sparseft_kernels.") and module is not None:
            for value in vars(module).values():
                inner = getattr(value, "fn", value) if not isinstance(value, JITFunction) else value
                if isinstance(inner, JITFunction):
                    yield inner


def use(target: Target, found: Callable[[Binary], None]) -> None:
    """Compile for `target` from now on; `found` hears of each binary that a launch would load."""
    from triton.compiler import compiler

    from sparseft_kernels import device

    driver.set_active(_Driver(target, found))
    for name in ("max_shared_mem", "_max_shared_mem"):
        clear = getattr(getattr(compiler, name, None), "cache_clear", None)
        if clear is not None:
            clear()
    for kernel in _kernels():
        kernel.device_caches.clear()
    # The launch code splits its work by the number of multiprocessors, also on CPU tensors.
    device._INTERPRETED = target.multiprocessors
    device.multiprocessors.cache_clear()
