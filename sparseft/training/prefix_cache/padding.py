"""Does a text's state depend on its padding? Then stored states could not be used."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseft.errors import ModelError
from sparseft.models import FrozenPrefix
from sparseft.training.prefix_cache.index import Rows

__all__ = ["PaddingCheck"]

# Wrong positions change a state by about its own size, rounding by far less.
_TOLERANCE = 0.05
_TOKENS, _PADS = 8, 3


class PaddingCheck:
    """Tries a text with and without padding, once for each side that batches are padded on.

    Models with learned absolute positions (BERT) give a text that is padded on the left other
    states in every batch; where that is so, or where the mask is not heeded, it is refused.
    """

    def __init__(self, prefix: FrozenPrefix) -> None:
        self._prefix = prefix
        self._passed: set[str] = set()

    def check(self, rows: Rows, input_ids: Tensor) -> None:
        """Check the sides on which this batch is padded.

        Args:
            rows: the batch's texts.
            input_ids: [B, T] of the batch, on the model's device.

        Raises:
            ModelError: the states depend on the padding.
        """
        for side, padded in (("left", rows.padded_left), ("right", rows.padded_right)):
            if side in self._passed or not padded.any():
                continue
            row = int(padded.argmax())
            start = int(rows.first[row])
            text = input_ids[row, start : start + min(int(rows.lengths[row]), _TOKENS)]
            self._compare(text, input_ids[row, 0 if side == "left" else -1], side)
            self._passed.add(side)

    def _compare(self, text: Tensor, pad: Tensor, side: str) -> None:
        pads = pad.expand(_PADS)
        kept, masked = torch.ones_like(text), torch.zeros_like(pads)
        left = side == "left"
        ids = torch.cat((pads, text) if left else (text, pads))[None]
        mask = torch.cat((masked, kept) if left else (kept, masked))[None]
        alone = self._prefix.states(text[None], kept[None]).float()  # [1, n, H] or [1, H]
        among = self._prefix.states(ids, mask).float()
        if not self._prefix.whole:
            among = among[:, _PADS:] if left else among[:, :-_PADS]
        difference = float((among - alone).norm() / alone.norm())
        if not difference < _TOLERANCE:
            raise ModelError(
                f"expected a model whose states do not depend on padding on the {side}, got a "
                f"difference of {difference:.0%}: stored states cannot stand for every batch; pad "
                "on the other side (tokenizer.padding_side), or do without the prefix cache."
            )
