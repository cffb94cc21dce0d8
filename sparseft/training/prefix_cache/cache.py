"""The outputs of a model's frozen lower layers, computed once per text and used in every epoch.

Legend: B rows of a batch, T its width, N stored states, H hidden size.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from sparseft.errors import ConfigError, ModelError
from sparseft.models import FrozenPrefix
from sparseft.training.prefix_cache.compute import compute, key_of, read_parts
from sparseft.training.prefix_cache.index import TextIndex, read_rows
from sparseft.training.prefix_cache.padding import PaddingCheck
from sparseft.training.prefix_cache.room import check_room, readable
from sparseft.training.prefix_cache.store import fill_memory, read_file, write_file

__all__ = ["PrefixCache", "replay"]

_log = logging.getLogger(__name__)


class PrefixCache:
    """Stored outputs of the layers below the lowest trained one; made by `PrefixCache.build`.

        cache = PrefixCache.build(model, batches)
        for batch in batches:
            with cache.replay(batch):
                loss = model(**batch).loss

    Inside `replay` the embeddings and the frozen layers do not run: the lowest trained layer gets
    the stored states, and everything else it needs (masks, positions, rotary angles) from the
    model's own forward. The states are those of eval mode, so dropout below the cut is off.

    Attributes:
        layers: frozen layers that are stored, from the lowest.
        whole: the whole backbone is; the states are then one feature vector per text.
        texts: different texts, by token ids.
        tokens: of these texts, without padding.
        bytes: of all states.
        seconds: that `build` took.
        build_seconds: that computing the states took; where `reused`, when the file was written.
        reused: the states come from a file that was there already.
    """

    def __init__(
        self,
        prefix: FrozenPrefix,
        index: TextIndex,
        padding: PaddingCheck,
        states: Tensor,
        device: torch.device,
        seconds: float,
        written_in: float | None = None,
    ) -> None:
        self._prefix = prefix
        self._index = index
        self._padding = padding
        self._states = states  # [N, H]
        self._device = device
        self.layers = prefix.layers
        self.whole = prefix.whole
        self.texts = index.texts
        self.tokens = index.tokens
        self.bytes = states.numel() * states.element_size()
        self.seconds = seconds
        self.reused = written_in is not None
        self.build_seconds = seconds if written_in is None else written_in

    @classmethod
    def build(
        cls,
        model: nn.Module,
        batches: Iterable[Mapping[str, Tensor]],
        *,
        where: str | Path = "memory",
        dtype: Literal["float32", "bfloat16"] = "float32",
        max_bytes: int | None = None,
        progress: Literal["auto", "on", "off"] = "auto",
    ) -> PrefixCache:
        """Compute and store the outputs of the frozen prefix for every text of the batches.

        The size is logged before anything is computed. Under `torch.autocast` the states are those
        of that precision.

        Args:
            model: ready to be trained: what requires a gradient now decides the cut.
            batches: with input_ids and attention_mask [B, T], as the model gets them. They may be
                composed otherwise than the training's; large ones of equal lengths are cheapest.
            where: "memory" (of the model's device), or a folder for a memory-mapped file that other
                runs with the same model, cut, texts and settings share.
            dtype: of the stored states; float32 stores them as they were computed.
            max_bytes: the most that may be stored.
            progress: a bar; auto: where stderr is a terminal.

        Raises:
            ModelError: no layer is frozen, or the model is compiled or of an unknown shape, or what
                it computes for a text depends on its padding.
            DataError: no texts, or a broken attention mask.
            ConfigError: the states are larger than `max_bytes` or than the free memory or disk.
            SparseftError: the file cannot be written.
        """
        started = time.perf_counter()
        if dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"expected dtype float32 or bfloat16, got {dtype!r}; change it.")
        prefix = FrozenPrefix(model)
        if prefix.layers == 0:
            raise ModelError(
                "expected frozen layers below the lowest trained one, got a model whose first "
                "layer or embeddings are trained: it has no prefix to store; train upper layers "
                "only, or do without the cache."
            )
        index = TextIndex(per_token=not prefix.whole)
        parts = read_parts(batches, index)
        device = next(model.parameters()).device
        padding = PaddingCheck(prefix)
        for part in parts:
            padding.check(part.rows, part.ids(device))
        stored = torch.bfloat16 if dtype == "bfloat16" else prefix.dtype
        shape = (index.states, prefix.width)
        size = shape[0] * shape[1] * stored.itemsize
        _log.info(
            "prefix cache of %s: %d texts, %d tokens, %d x %d states in %s: %s in %s",
            "the whole backbone" if prefix.whole else f"{prefix.layers} layers",
            index.texts,
            index.tokens,
            *shape,
            str(stored).removeprefix("torch."),
            readable(size),
            where,
        )
        chunks = compute(prefix, parts, device, progress)
        written_in: float | None = None
        if where == "memory":
            check_room(size, None, device, max_bytes)
            states = fill_memory(chunks, shape, stored, device)
        else:
            folder, key = _made(Path(where).expanduser()), key_of(prefix, parts, stored, device)
            path = folder / f"{key[:40]}.safetensors"
            if (found := read_file(path, shape, stored, key)) is None:
                check_room(size, folder, device, max_bytes)
                states = write_file(path, chunks, shape, stored, key)
            else:
                states, written_in = found
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
        return cls(prefix, index, padding, states, device, seconds, written_in)

    @contextlib.contextmanager
    def replay(self, batch: Mapping[str, Tensor]) -> Iterator[None]:
        """Within the block, calls of the model with this batch begin above the stored layers.

        Args:
            batch: input_ids and attention_mask [B, T] of stored texts, padded on either side.

        Raises:
            DataError: a text is not stored, or a broken attention mask.
            ModelError: a stored layer changed since, or the model's outputs for a text depend on
                its padding.
        """
        with self._prefix.replaced(self.states(batch)):
            yield

    def states(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The stored states of a batch, on the model's device.

        Returns:
            [B, T, H], where padding holds some state of its own text; [B, H] where `whole`.

        Raises:
            DataError, ModelError: as `replay`.
        """
        rows = read_rows(batch["input_ids"], batch["attention_mask"])
        places = torch.from_numpy(self._index.places(rows))  # [B, T] or [B]
        self._padding.check(rows, batch["input_ids"].to(self._device))
        flat = self._states.index_select(0, places.reshape(-1).to(self._states.device))
        states = flat.to(self._device, self._prefix.dtype)
        return states.reshape(*places.shape, -1)


def replay(
    cache: PrefixCache | None, batch: Mapping[str, Tensor]
) -> contextlib.AbstractContextManager[None]:
    """`cache.replay(batch)`, or a block that changes nothing where there is no cache."""
    return contextlib.nullcontext() if cache is None else cache.replay(batch)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"expected a folder for the prefix cache at {folder}, got: {error.strerror or error}; "
            "choose another one."
        ) from error
    return folder
