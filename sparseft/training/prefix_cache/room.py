"""Whether there is room for a cache, before it is built."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from sparseft.errors import ConfigError

__all__ = ["check_room", "free_memory", "readable"]

_CGROUP = Path("/sys/fs/cgroup")
# Limit, use, and the name of what the kernel gives back when it must, in groups of version 2 and 1.
_CGROUPS = (
    (_CGROUP / "memory.max", _CGROUP / "memory.current", "inactive_file"),
    (
        _CGROUP / "memory/memory.limit_in_bytes",
        _CGROUP / "memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def readable(count: int) -> str:
    """Bytes as people read them, such as "1.5 GB"."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"


def check_room(size: int, folder: Path | None, device: torch.device, limit: int | None) -> None:
    """Refuse a cache of `size` bytes that is over the limit or would not fit.

    Args:
        size: bytes.
        folder: where its file will be; None: in the memory of `device`.
        device: of the model.
        limit: bytes that were allowed; None allows any number.

    Raises:
        ConfigError: it is too large; nothing has been built.
    """
    if limit is not None and size > limit:
        raise ConfigError(
            f"expected a prefix cache of at most {readable(limit)}, got one of {readable(size)}; "
            "raise the limit (training.prefix_cache_max_bytes), store bfloat16, or switch it off."
        )
    if folder is None:
        free, place = free_memory(device), f"free memory of {device.type}"
        advice = "choose a folder for a memory-mapped file, store bfloat16, or switch it off."
    else:
        free, place = shutil.disk_usage(folder).free, f"free space in {folder}"
        advice = "free some space, choose another folder, store bfloat16, or switch it off."
    if free is not None and size > free:
        raise ConfigError(
            f"expected {readable(size)} of {place} for the prefix cache, got {readable(free)}; "
            + advice
        )


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be allocated, a container's limit included; None where unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [_available_of_the_machine(), *(_available_of_the_group(*files) for files in _CGROUPS)]
    return min((free for free in known if free is not None), default=None)


def _available_of_the_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _available_of_the_group(limit: Path, used: Path, reclaimable: str) -> int | None:
    try:
        most = int(limit.read_text(encoding="ascii"))
        now = int(used.read_text(encoding="ascii"))
        lines = (used.parent / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):  # no such group, or its limit is "max"
        return None
    values = dict(line.split(maxsplit=1) for line in lines)
    return max(0, most - now + int(values.get(reclaimable, 0)))
