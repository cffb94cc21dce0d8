"""Turns as padded batches for a `TrackerModel`.

A turn is one text: the state so far, the system's utterance, the user's. Where it is too long, the
user's utterance is kept before the state, and both before the system's.

Legend: B turns, L tokens, S slots, C choices, M candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sparseft.data.bucketed import BucketedBatches
from sparseft.errors import ConfigError
from sparseft.models.tracker import TrackerLabels
from sparseft.routing.states import State
from sparseft.routing.tracker.candidates import plain, stretches, written_state
from sparseft.routing.tracker.vocabulary import Vocabulary
from sparseft.routing.turns import Context
from sparseft.routing.values import normalised

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["Encoded", "TurnBatches", "TurnEncoder"]


@dataclass(frozen=True)
class Encoded:
    """One turn.

    Attributes:
        ids: tokens.
        spans: int64 [M, 2]: first token and end of each candidate.
        values: what the candidates say, as it is written, [M].
        cut: tokens that did not fit.
        choices: numbers of the right choices; None where the truth is not known.
        right: (candidate, slot) numbers that are right.
        changed: numbers of the slots that change.
    """

    ids: list[int]
    spans: np.ndarray
    values: tuple[str, ...]
    cut: int
    choices: tuple[int, ...] | None = None
    right: tuple[tuple[int, int], ...] = ()
    changed: tuple[int, ...] = ()


class TurnEncoder:
    """Contexts as batches.

    Args:
        tokenizer: a fast one with padding, and a first and last token of its own or none.
        vocabulary: of the tracker.
        max_length: the most tokens of a turn.
        separator: of several accepted values in the gold.

    Raises:
        ConfigError: turns are too short.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        vocabulary: Vocabulary,
        max_length: int,
        separator: str | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self.max_length = max_length
        self._separator = separator
        self._tokenizer = tokenizer
        frame: list[int] = list(tokenizer("")["input_ids"])
        half = len(frame) // 2 if len(frame) > 1 else len(frame)
        self._first, self._last = frame[:half], frame[half:]
        self._between = self._last or [int(tokenizer.eos_token_id)]
        self.room = max_length - len(self._first) - len(self._last) - 2 * len(self._between)
        if self.room < 16:
            raise ConfigError(
                f"expected room for a turn in model.max_length={max_length} tokens, got "
                f"{self.room}; set a larger one."
            )
        self._pad = int(tokenizer.pad_token_id or 0)
        self._names = [_holds_name(slot) for slot in vocabulary.slots]

    def encode(self, context: Context, delta: State | None = None) -> Encoded:
        """A turn's tokens and candidates; with `delta`, also what is right."""
        state, copied = written_state(context.previous)
        texts = (state, context.system, context.user)
        found: tuple[list[tuple[int, int, str]], ...] = (
            copied,
            [(a, b, texts[1][a:b]) for a, b in stretches(texts[1], self.vocabulary)],
            [(a, b, texts[2][a:b]) for a, b in stretches(texts[2], self.vocabulary)],
        )
        pieces = self._tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
        kept = self._kept([len(ids) for ids in pieces["input_ids"]])
        ids, spans, values = list(self._first), [], []
        for part, (begin, end) in enumerate(kept):
            if part:
                ids += self._between
            start = len(ids)
            ids += pieces["input_ids"][part][begin:end]
            offsets = pieces["offset_mapping"][part]
            starts = np.array([a for a, _ in offsets[begin:end]], dtype=np.int64)
            ends = np.array([b for _, b in offsets[begin:end]], dtype=np.int64)
            for first, last, text in found[part]:
                # Tokens that reach into the stretch; those of a stretch that was cut are missing.
                low = int(np.searchsorted(ends, first, side="right"))
                high = int(np.searchsorted(starts, last, side="left"))
                if low < high and starts[low] <= first and ends[high - 1] >= last:
                    spans.append((start + low, start + high))
                    values.append(text)
        ids += self._last
        cut = sum(len(p) - (b - a) for p, (a, b) in zip(pieces["input_ids"], kept, strict=True))
        places = np.array(spans, dtype=np.int64).reshape(-1, 2)
        if delta is None:
            return Encoded(ids, places, tuple(values), cut)
        return Encoded(ids, places, tuple(values), cut, *self._truth(values, delta))

    def collate(self, rows: Sequence[Encoded], device: torch.device) -> dict[str, Any]:
        """`input_ids` and `attention_mask` int64 [B, L], and `labels`: a `TrackerLabels`."""
        width = max(len(row.ids) for row in rows)
        input_ids = np.full((len(rows), width), self._pad, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for place, row in enumerate(rows):
            input_ids[place, : len(row.ids)] = row.ids
            mask[place, : len(row.ids)] = 1
        counts = [len(row.spans) for row in rows]
        turns = np.repeat(np.arange(len(rows)), counts)
        spans = np.column_stack([turns, np.concatenate([row.spans for row in rows])])
        known = all(row.choices is not None for row in rows)
        labels = TrackerLabels(
            len(rows),
            torch.from_numpy(spans).to(device),
            *(self._flags(rows, np.cumsum([0, *counts]), device) if known else ()),
        )
        return {
            "input_ids": torch.from_numpy(input_ids).to(device),
            "attention_mask": torch.from_numpy(mask).to(device),
            "labels": labels,
        }

    def _kept(self, lengths: Sequence[int]) -> list[tuple[int, int]]:
        """Of state, system and user the first kept token and the end."""
        state, system, user = lengths
        user = min(user, self.room)
        state = min(state, self.room - user)
        left = min(system, self.room - user - state)
        return [(0, state), (system - left, system), (0, user)]

    def _truth(
        self, values: Sequence[str], delta: State
    ) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...]]:
        choices: list[int] = []
        right: list[tuple[int, int]] = []
        changed: list[int] = []
        place = 0
        forms = [(plain(value, False), plain(value, True)) for value in values]
        for number, (slot, own) in enumerate(self.vocabulary.choices.items()):
            text = delta.get(slot)
            if text is not None:
                changed.append(number)
                several = text.split(self._separator) if self._separator else [text]
                accepted = {normalised(slot, value) for value in several}
                choices += [place + k for k, v in enumerate(own) if normalised(slot, v) in accepted]
                name = self._names[number]
                right += [(k, number) for k, form in enumerate(forms) if form[name] in accepted]
            place += len(own)
        return tuple(choices), tuple(right), tuple(changed)

    def _flags(
        self, rows: Sequence[Encoded], first: np.ndarray, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        slots = len(self.vocabulary.slots)
        count = sum(map(len, self.vocabulary.choices.values()))
        choices = np.zeros((len(rows), count), dtype=bool)
        candidates = np.zeros((int(first[-1]), slots), dtype=bool)
        unchanged = np.ones((len(rows), slots), dtype=bool)
        for place, row in enumerate(rows):
            choices[place, list(row.choices or ())] = True
            unchanged[place, list(row.changed)] = False
            for number, slot in row.right:
                candidates[int(first[place]) + number, slot] = True
        flags = (torch.from_numpy(each).to(device) for each in (choices, candidates, unchanged))
        return tuple(flags)  # type: ignore[return-value]


class TurnBatches(BucketedBatches):
    """Batches of turns, bucketed by length, in an order that can be resumed.

    Args:
        contexts: of the split.
        deltas: what each turn changes.
        encoder: makes the batches.
        batch_size: turns of a batch.
        seed: of the order; None keeps one order, the longest turns first.
        device: where the batches are put.

    Raises:
        ConfigError: the batch size is below 1.
    """

    def __init__(
        self,
        contexts: Sequence[Context],
        deltas: Sequence[State],
        encoder: TurnEncoder,
        batch_size: int,
        seed: int | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"expected batch_size of 1 or more, got {batch_size}; change it.")
        self.encoder = encoder
        self.encoded = [
            encoder.encode(context, delta) for context, delta in zip(contexts, deltas, strict=True)
        ]
        lengths = np.array([len(row.ids) for row in self.encoded], dtype=np.int64)
        super().__init__(lengths, batch_size, seed, device)

    def collate(self, rows: np.ndarray) -> dict[str, Any]:
        """The batch of the rows at the positions `rows`, int64 [B], with `indices`."""
        batch = self.encoder.collate([self.encoded[row] for row in rows], self.device)
        return {**batch, "indices": torch.from_numpy(rows.astype(np.int64))}


def _holds_name(slot: str) -> bool:
    """Whether number words stay words in the slot's values."""
    return normalised(slot, "two") == "two"
