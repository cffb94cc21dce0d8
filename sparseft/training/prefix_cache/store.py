"""One flat array of states: in memory, or a file of it that is whole or absent.

The file is a safetensors file with one tensor, `states`. Its metadata holds the key of what it was
computed from and the SHA-256 of its bytes, both checked before it is used; it is written in one
pass, chunk by chunk, and mapped into memory, so it may be larger than that. A file is replaced or
removed safely while runs use it; only shortening it in place would end them.

Legend: N states, H hidden size.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sparseft.errors import SparseftError

__all__ = ["fill_memory", "read_file", "write_file"]

_log = logging.getLogger(__name__)

_CODES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
_ABANDONED_AFTER = 3600.0  # seconds without a write


def fill_memory(
    chunks: Iterable[Tensor], shape: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The chunks [n, H] below one another, as one tensor [N, H] on the device.

    Raises:
        SparseftError: the device's memory is full.
    """
    try:
        states = torch.empty(shape, dtype=dtype, device=device)
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        raise SparseftError(
            f"expected memory of {device.type} for a prefix cache of shape {list(shape)}, got: "
            f"{str(error).splitlines()[0]}; choose a folder for a memory-mapped file."
        ) from error
    filled = 0
    for chunk in chunks:
        states[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return states


def write_file(
    path: Path,
    chunks: Iterable[Tensor],
    shape: tuple[int, int],
    dtype: torch.dtype,
    key: str,
) -> Tensor:
    """Write the chunks [n, H] below one another, under a temporary name that becomes `path`.

    Returns:
        The states [N, H], mapped into memory.

    Args:
        path: of the file; its folder exists.
        chunks: N states in all; computed one at a time, while the file is written.
        shape: (N, H).
        dtype: of the states in the file.
        key: of what the states are computed from.

    Raises:
        SparseftError: the disk is full or the folder not writable; nothing of the file is left.
    """
    _remove_abandoned(path)
    started = time.perf_counter()
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=_partial(path))
        with os.fdopen(descriptor, "wb") as stream:
            # As long as the true one, which is known at the end only.
            stream.write(_header(shape, dtype, key, "0" * 64, 0.0))
            digest = hashlib.sha256()
            for chunk in chunks:
                content = _bytes_of(chunk.to(dtype))
                digest.update(content)
                stream.write(content)
            stream.seek(0)
            seconds = time.perf_counter() - started
            stream.write(_header(shape, dtype, key, digest.hexdigest(), seconds))
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise SparseftError(
            f"expected to write the prefix cache {path}, got: {error.strerror or error}; free some "
            "space or choose another folder. Nothing was left half-written."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    with safe_open(path, framework="pt") as file:
        states: Tensor = file.get_tensor("states")
    return states


def read_file(
    path: Path, shape: tuple[int, int], dtype: torch.dtype, key: str
) -> tuple[Tensor, float] | None:
    """The states [N, H] of a file, mapped into memory, and the seconds that they once took.

    None where there is no file; one that is damaged or of something else is logged and is none.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            if facts.get("key") != key:
                raise ValueError("it was computed from something else")
            states: Tensor = file.get_tensor("states")
        if tuple(states.shape) != shape or states.dtype != dtype:
            raise ValueError(f"it holds {list(states.shape)} of {states.dtype}")
        if hashlib.sha256(_bytes_of(states)).hexdigest() != facts.get("sha256"):
            raise ValueError("its bytes are not those that were written")
        return states, float(facts["build_seconds"])
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        _log.warning("the prefix cache %s cannot be used (%s): building it again", path, error)
        return None


def _bytes_of(states: Tensor) -> memoryview:
    flat = states.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _header(
    shape: tuple[int, int], dtype: torch.dtype, key: str, sha256: str, seconds: float
) -> bytes:
    size = shape[0] * shape[1] * dtype.itemsize
    content = {
        "__metadata__": {
            "format": "pt",
            "key": key,
            "sha256": sha256,
            "build_seconds": f"{seconds:012.3f}",  # of one width
        },
        "states": {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [0, size]},
    }
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 64)  # so that the states are aligned
    return len(text).to_bytes(8, "little") + text


def _partial(path: Path) -> str:
    return f".{path.name}."


def _remove_abandoned(path: Path) -> None:
    """Remove what builds of this file left that were killed; a running one still writes to its."""
    for left in path.parent.glob(_partial(path) + "*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_AFTER:
                left.unlink()
