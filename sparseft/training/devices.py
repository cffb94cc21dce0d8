"""Which device a run uses, its precision, and all of torch's random state."""

from __future__ import annotations

import contextlib
import platform
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from sparseft.errors import CheckpointError, ConfigError

__all__ = [
    "autocast",
    "device_name",
    "random_state",
    "resolve_device",
    "restore_random_state",
    "seed_everything",
    "synchronize",
    "unchanged_random_state",
]


def resolve_device(name: str) -> torch.device:
    """The device called `name`; "auto" is cuda where there is one, else cpu.

    Raises:
        ConfigError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"expected device to be auto, cpu or a device of this machine, got {name!r} "
            f"({reason}); set device=auto."
        ) from error
    return device


def device_name(device: torch.device) -> str:
    """What results call the device, such as "NVIDIA H100 80GB HBM3" or "cpu (x86_64)"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()})"


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given; a no-op on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def autocast(setting: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The precision of forward passes: "auto" is bfloat16 on a CUDA device that has it.

    bfloat16 has fp32's range, so no gradient scaler is needed.
    """
    use = setting == "bfloat16" or (
        setting == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    if not use:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def seed_everything(seed: int) -> None:
    """Seed the global generators. Only dropout draws from them; every other draw has its own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of the generators of Python, NumPy and torch, as plain values and tensors."""
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    keys = numpy_state["state"]["key"]
    return {
        "python": random.getstate(),
        "numpy": {
            **numpy_state,
            "state": {"pos": numpy_state["state"]["pos"], "key": keys.tolist()},
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set the global generators to what `random_state` returned.

    Raises:
        CheckpointError: the state was taken on a machine with another number of GPUs.
    """
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if len(state["cuda"]) != devices:
        raise CheckpointError(
            f"expected the random state of {devices} CUDA devices, got {len(state['cuda'])}; "
            "resume on a machine like the first one, or start again with rerun=true."
        )
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    key = np.array(state["numpy"]["state"]["key"], dtype=np.uint32)
    np.random.set_state({**state["numpy"], "state": {**state["numpy"]["state"], "key": key}})
    torch.set_rng_state(state["torch"])
    if devices:
        torch.cuda.set_rng_state_all(state["cuda"])


@contextlib.contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Leave the global generators as they were, whatever the block draws."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)
