"""Texts in segments as padded batches of windows, with what is true of them.

A long text becomes several windows: each repeats some of what stands before it, so that no segment
is read without its context, and nothing is left out.

Legend: B texts of a batch, R its windows, L tokens of the longest, N segments, M candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sparseft.data.bucketed import BucketedBatches
from sparseft.errors import ConfigError
from sparseft.models.segments import Places, SegmentLabels, SegmentLayout, Tagged, Targets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["RowTargets", "SegmentBatches", "SegmentEncoder", "SegmentRow"]

_CONTEXT = 0.25  # of a window: repeated from the one before


@dataclass(frozen=True)
class RowTargets:
    """What is true of one text; segments are counted from 0.

    Attributes:
        tags: by list the items 1 … K, in order.
        where: by list the segments that show each item; without the name: not known.
        labels: by name the numbers of the values that hold.
        shown: by name, for each value that holds, the segments that show it; without the name: not
            known.
        choices: by name the number of the true value.
        right: by pointer the numbers of the true candidates; empty where none is meant; None where
            the truth is not among them, so that there is nothing to learn.
    """

    tags: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    where: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    shown: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    choices: Mapping[str, int] = field(default_factory=dict)
    right: Mapping[str, tuple[int, ...] | None] = field(default_factory=dict)


@dataclass(frozen=True)
class SegmentRow:
    """One text.

    Attributes:
        segments: in order.
        candidates: by pointer (segment, first character, end) of each, in the order of the text.
        targets: None where nothing is known.
    """

    segments: tuple[str, ...]
    candidates: Mapping[str, tuple[tuple[int, int, int], ...]]
    targets: RowTargets | None = None


@dataclass(frozen=True)
class _Encoded:
    windows: list[list[int]]
    segments: np.ndarray  # [N + 1, 3]; the first is the summary
    candidates: dict[str, np.ndarray]  # [M, 3]
    kept: dict[str, list[int]]  # by pointer the candidates that have tokens
    targets: RowTargets | None


class SegmentEncoder:
    """Rows as batches for a `SegmentModel`.

    Args:
        tokenizer: a fast one with padding, and a first and last token of its own or none.
        layout: of the model's head.
        max_length: the most tokens of a window.
        apart: every segment has a window of its own, as sentence encoders were trained.

    Raises:
        ConfigError: windows are too short.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        layout: SegmentLayout,
        max_length: int,
        apart: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.apart = apart
        self.layout = layout
        self.max_length = max_length
        frame: list[int] = tokenizer("")["input_ids"]
        half = len(frame) // 2 if len(frame) > 1 else len(frame)
        # A text's first piece stands for the whole: without a first token it is the end token.
        first = list(frame[:half]) or [tokenizer.eos_token_id]
        self._first, self._last = first, list(frame[half:])
        self.room = max_length - len(self._first) - len(self._last)
        if self.room < 16:
            raise ConfigError(
                f"expected room for text in windows of model.max_length={max_length} tokens, got "
                f"{self.room}; set a larger one."
            )
        self._pad = int(tokenizer.pad_token_id or 0)

    def encode(self, row: SegmentRow) -> _Encoded:
        """A row's windows and the places in them."""
        texts = list(row.segments)
        pieces = (
            self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
            if texts
            else {"input_ids": [], "offset_mapping": []}
        )
        windows: list[list[int]] = [list(self._first)]
        places = [(0, 0, len(self._first))]
        keep = int(_CONTEXT * self.room)
        base = len(self._first)
        for ids in pieces["input_ids"]:
            ids = ids[: self.room]  # of a segment that alone is longer: its beginning
            if self.apart:
                windows.append(list(self._first))
            elif len(windows[-1]) - base + len(ids) > self.room:
                behind = windows[-1][base:]
                context = behind[len(behind) - min(keep, self.room - len(ids), len(behind)) :]
                windows.append([*self._first, *context])
            start = len(windows[-1])
            windows[-1].extend(ids)
            places.append((len(windows) - 1, start, start + len(ids)))
        candidates, kept = {}, {}
        for name in self.layout.pointers:
            spans, numbers = [], []
            for number, (segment, first, end) in enumerate(row.candidates.get(name, ())):
                window, start, stop = places[segment + 1]
                offsets = pieces["offset_mapping"][segment][: stop - start]
                inside = [k for k, (a, b) in enumerate(offsets) if a < end and b > first]
                if inside:
                    spans.append((window, start + inside[0], start + inside[-1] + 1))
                    numbers.append(number)
            candidates[name] = np.array(spans, dtype=np.int64).reshape(-1, 3)
            kept[name] = numbers
        whole = [[*ids, *self._last] for ids in windows]
        spans_of = np.array(places, dtype=np.int64)
        return _Encoded(whole, spans_of, candidates, kept, row.targets)

    def collate(self, rows: Sequence[_Encoded], device: torch.device) -> dict[str, Any]:
        """`input_ids` and `attention_mask` int64 [R, L], and `labels`: a `SegmentLabels`.

        Segments without tokens of their own take the place of their text's first piece.
        """
        windows = [window for row in rows for window in row.windows]
        width = max(map(len, windows))
        input_ids = np.full((len(windows), width), self._pad, dtype=np.int64)
        mask = np.zeros((len(windows), width), dtype=np.int64)
        for place, window in enumerate(windows):
            input_ids[place, : len(window)] = window
            mask[place, : len(window)] = 1
        shift = np.cumsum([0, *(len(row.windows) for row in rows)])
        segments, owner, shows = [], [], []
        candidates: dict[str, list[np.ndarray]] = {name: [] for name in self.layout.pointers}
        owners: dict[str, list[np.ndarray]] = {name: [] for name in self.layout.pointers}
        for text, row in enumerate(rows):
            spans = row.segments.copy()
            empty = spans[:, 1] == spans[:, 2]
            spans[empty] = spans[0]
            spans[:, 0] += shift[text]
            segments.append(spans)
            owner.append(np.full(len(spans), text))
            shows.append((np.arange(len(spans)) > 0) & ~empty)
            for name, own in row.candidates.items():
                candidates[name].append(own + np.array([shift[text], 0, 0]))
                owners[name].append(np.full(len(own), text))
        places = Places(
            len(rows),
            torch.from_numpy(np.concatenate(segments)),
            torch.from_numpy(np.concatenate(owner).astype(np.int64)),
            torch.from_numpy(np.concatenate(shows)),
            {name: torch.from_numpy(np.concatenate(own)) for name, own in candidates.items()},
            {
                name: torch.from_numpy(np.concatenate(own).astype(np.int64))
                for name, own in owners.items()
            },
        )
        labels = SegmentLabels(places.to(device), self._targets(rows, device))
        return {
            "input_ids": torch.from_numpy(input_ids).to(device),
            "attention_mask": torch.from_numpy(mask).to(device),
            "labels": labels,
        }

    def _targets(self, rows: Sequence[_Encoded], device: torch.device) -> Targets | None:
        if any(row.targets is None for row in rows):
            return None
        known = [row.targets for row in rows if row.targets is not None]
        counts = [len(row.segments) for row in rows]
        first = np.cumsum([0, *counts])  # of each text's pieces, the summary included
        tags: dict[str, tuple[Tagged, ...]] = {}
        for name in self.layout.tags:
            tagged = []
            for text, truth in enumerate(known):
                where = truth.where.get(name)
                begin = int(first[text]) + 1
                at = where and tuple(tuple(begin + s for s in each) for each in where)
                tagged.append(Tagged(truth.tags[name], at if where is not None else None))
            tags[name] = tuple(tagged)
        labels, shown, complete = {}, {}, {}
        for name, count in self.layout.labels.items():
            truth_of = np.zeros((len(rows), count), dtype=np.float32)
            seen = np.zeros((int(first[-1]), count), dtype=bool)
            sure = np.zeros((len(rows), count), dtype=bool)
            for text, truth in enumerate(known):
                values = truth.labels[name]
                truth_of[text, list(values)] = 1.0
                where = truth.shown.get(name)
                if where is None:
                    continue
                sure[text] = True
                for value, each in zip(values, where, strict=True):
                    seen[[int(first[text]) + 1 + s for s in each], value] = True
                    sure[text, value] = bool(each)
            labels[name] = torch.from_numpy(truth_of).to(device)
            shown[name] = torch.from_numpy(seen).to(device)
            complete[name] = torch.from_numpy(sure).to(device)
        choices = {
            name: torch.tensor([truth.choices[name] for truth in known], device=device)
            for name in self.layout.choices
        }
        right, absent = {}, {}
        for name in self.layout.pointers:
            true: list[bool] = []
            none: list[bool] = []
            for row, truth in zip(rows, known, strict=True):
                meant = truth.right[name]
                true.extend(meant is not None and k in meant for k in row.kept[name])
                none.append(meant is not None and not meant)
            right[name] = torch.tensor(true, dtype=torch.bool, device=device)
            absent[name] = torch.tensor(none, dtype=torch.bool, device=device)
        return Targets(tags, labels, shown, complete, choices, right, absent)


class SegmentBatches(BucketedBatches):
    """Batches of rows with targets, bucketed by length, in an order that can be resumed.

    Args:
        rows: of the split.
        encoder: makes the batches.
        batch_size: texts of a batch.
        seed: of the order; None keeps one order, the longest rows first.
        device: where the batches are put.

    Raises:
        ConfigError: the batch size is below 1.
    """

    def __init__(
        self,
        rows: Sequence[SegmentRow],
        encoder: SegmentEncoder,
        batch_size: int,
        seed: int | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"expected batch_size of 1 or more, got {batch_size}; change it.")
        self.encoder = encoder
        self._rows = [encoder.encode(row) for row in rows]
        lengths = [sum(map(len, row.windows)) for row in self._rows]
        super().__init__(np.array(lengths, dtype=np.int64), batch_size, seed, device)

    def collate(self, rows: np.ndarray) -> dict[str, Any]:
        """The batch of the rows at the positions `rows`, int64 [B], with `indices`."""
        batch = self.encoder.collate([self._rows[row] for row in rows], self.device)
        return {**batch, "indices": torch.from_numpy(rows.astype(np.int64))}
