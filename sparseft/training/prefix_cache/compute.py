"""What a cache is computed from: batches of new texts, and the key of the outcome.

Legend: B rows of a batch, T its width, n new states, H hidden size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from sparseft.errors import DataError
from sparseft.models import FrozenPrefix
from sparseft.training.prefix_cache.index import Rows, TextIndex, read_rows

__all__ = ["Part", "compute", "key_of", "read_parts"]

_FORMAT = "sparseft.prefix_cache.1"
_HIDE_BAR = {"auto": None, "on": False, "off": True}  # None: shown on a terminal


@dataclass(frozen=True)
class Part:
    """The new texts of a batch, on the CPU."""

    input_ids: np.ndarray  # int32 [B, T]
    mask: np.ndarray  # bool [B, T]
    rows: Rows

    def ids(self, device: torch.device) -> Tensor:
        """input_ids, int64 [B, T] on the device."""
        return torch.from_numpy(self.input_ids).to(device, torch.int64)


def read_parts(batches: Iterable[Mapping[str, Tensor]], index: TextIndex) -> list[Part]:
    """The new texts of the batches, which the index gets.

    Raises:
        DataError: no texts, or a broken attention mask.
    """
    parts: list[Part] = []
    for batch in batches:
        rows = read_rows(batch["input_ids"], batch["attention_mask"])
        new = index.add(rows)
        if new.any():
            ids = batch["input_ids"].cpu().numpy().astype(np.int32)[new]
            mask = batch["attention_mask"].cpu().numpy()[new] != 0
            parts.append(Part(ids, mask, rows.of(new)))
    if not parts:
        raise DataError("expected texts for the prefix cache, got no batch; check the data.")
    return parts


def compute(
    prefix: FrozenPrefix, parts: Sequence[Part], device: torch.device, progress: str
) -> Iterator[Tensor]:
    """The states [n, H] of each part's new texts, in the order of the index."""
    for part in tqdm(parts, desc="prefix cache", disable=_HIDE_BAR[progress], leave=False):
        mask = torch.from_numpy(part.mask).to(device)
        states = prefix.states(part.ids(device), mask.to(torch.int64))  # [B, T, H] or [B, H]
        yield states if prefix.whole else states[mask]


def key_of(
    prefix: FrozenPrefix, parts: Iterable[Part], dtype: torch.dtype, device: torch.device
) -> str:
    """SHA-256 of all that decides the bits of the states.

    The batches are part of it, not only their texts: with another width a kernel may sum in another
    order, and a file that is reused should hold what building it again would give.
    """
    digest = hashlib.sha256()
    on = torch.is_autocast_enabled(device.type)
    autocast = torch.get_autocast_dtype(device.type) if on else None
    for fact in (_FORMAT, prefix.digest(), dtype, autocast, torch.__version__, device.type):
        digest.update(f"{fact}|".encode())
    for part in parts:
        digest.update(f"{part.input_ids.shape}|".encode())
        digest.update(part.input_ids.tobytes() + part.mask.tobytes())
    return digest.hexdigest()
