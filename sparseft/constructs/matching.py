"""Find constructs in batches of ids, without a loop over rows or constructs.

The groups form a trie whose edges are sorted numbers (node x alphabet + token), so one level is one
binary search over the whole batch. A gapped pair is an edge at a distance.

Legend: B rows, S positions, G distinct groups, A letters (ids that occur in a group, and "other").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Matcher"]

_NONE = torch.iinfo(torch.int64).max


@dataclass
class _Tables:
    """The trie on one device."""

    letter: Tensor  # [largest id + 2]; 0: an id of no group
    levels: list[tuple[Tensor, Tensor, Tensor]]  # edges, nodes they lead to, group of each node
    pairs: list[tuple[Tensor, Tensor]]  # for each distance from 2 on: edges, groups


class Matcher:
    """Finds token groups.

    Args:
        tokens: the ids of each construct.
        gaps: None for an n-gram, the most tokens between for a pair.
        labels: the class of each construct.
    """

    def __init__(
        self,
        tokens: Sequence[tuple[int, ...]],
        gaps: Sequence[int | None],
        labels: Sequence[int],
    ) -> None:
        groups: dict[tuple[tuple[int, ...], int | None], int] = {}
        # The first construct of a group is its strongest.
        self._construct_of: list[int] = []
        self._keys: list[tuple[int, int, int]] = []  # group, label, construct
        for number, (ids, gap, label) in enumerate(zip(tokens, gaps, labels, strict=True)):
            group = groups.setdefault((ids, gap), len(groups))
            if group == len(self._construct_of):
                self._construct_of.append(number)
            self._keys.append((group, label, number))
        self._groups = list(groups)
        self._on: dict[torch.device, _Tables] = {}

    def match(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """See `Constructs.match`."""
        best = torch.full_like(input_ids, _NONE, dtype=torch.int64)
        construct_of = torch.tensor(self._construct_of, dtype=torch.int64, device=input_ids.device)
        for group, offsets in self._occurrences(input_ids, attention_mask):
            number = torch.where(group >= 0, construct_of[group.clamp_min(0)], _NONE)
            _cover(best, number, offsets, torch.minimum)
        return torch.where(best == _NONE, -1, best)

    def weights(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        weight: Tensor,
        labels: Tensor | None = None,
    ) -> Tensor:
        """The largest weight of a construct that holds each token.

        Args:
            input_ids: int64 [B, S].
            attention_mask: [B, S] or None.
            weight: float32, one for each construct, 0 or more.
            labels: int64 [B]; only constructs of a row's class count. None: all count.

        Returns:
            float32 [B, S], 0 where there is none.
        """
        result = torch.zeros(input_ids.shape, dtype=torch.float32, device=input_ids.device)
        if not self._groups:
            return result
        keys = torch.tensor(self._keys, device=input_ids.device)
        group_of, label_of, construct = keys.unbind(1)
        if labels is None:
            table = torch.zeros(len(self._groups), device=input_ids.device)
            table = table.scatter_reduce(0, group_of, weight[construct], "amax")
        else:
            width = int(label_of.max()) + 1
            edges, order = (group_of * width + label_of).sort()
        for group, offsets in self._occurrences(input_ids, attention_mask):
            if labels is None:
                value = table[group.clamp_min(0)]
            else:
                known = (labels >= 0) & (labels < width)
                wanted = group * width + labels[:, None]
                found, where = _find(edges, torch.where(known[:, None], wanted, -1))
                value = torch.where(found, weight[construct[order[where]]], 0.0)
            _cover(result, torch.where(group >= 0, value, 0.0), offsets, torch.maximum)
        return result

    def _occurrences(
        self, input_ids: Tensor, attention_mask: Tensor | None
    ) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
        """Groups [B, S'] that begin at each position (-1: none), and which positions they cover."""
        if not self._groups or input_ids.numel() == 0:
            return
        tables = self._tables(input_ids.device)
        inside = (input_ids >= 0) & (input_ids < len(tables.letter))
        letters = torch.where(inside, tables.letter[input_ids.where(inside, 0)], 0)  # [B, S]
        if attention_mask is not None:
            letters = letters.masked_fill(attention_mask == 0, 0)
        width = int(tables.letter.max()) + 1
        length = letters.shape[1]
        node = torch.zeros_like(letters)
        for depth, (edges, nodes, groups) in enumerate(tables.levels):
            if depth >= length:
                break
            node, here = node[:, : length - depth], letters[:, depth:]
            wanted = torch.where((node >= 0) & (here > 0), node * width + here, -1)
            found, where = _find(edges, wanted)
            node = torch.where(found, nodes[where], -1)
            yield (
                torch.where(found, groups[where], -1),
                tuple(range(depth + 1)),
            )
        for distance, (edges, groups) in enumerate(tables.pairs, 2):
            if distance >= length:
                break
            near, far = letters[:, :-distance], letters[:, distance:]
            wanted = torch.where((near > 0) & (far > 0), near * width + far, -1)
            found, where = _find(edges, wanted)
            yield torch.where(found, groups[where], -1), (0, distance)

    def _tables(self, device: torch.device) -> _Tables:
        if device not in self._on:
            self._on[device] = self._build(device)
        return self._on[device]

    def _build(self, device: torch.device) -> _Tables:
        alphabet = sorted({token for tokens, _ in self._groups for token in tokens})
        letter = torch.zeros(alphabet[-1] + 2, dtype=torch.int64)
        letter[torch.tensor(alphabet)] = torch.arange(1, len(alphabet) + 1)
        number = {token: place for place, token in enumerate(alphabet, 1)}
        width = len(alphabet) + 1
        levels: list[dict[int, int]] = []  # edge to node, by depth
        ends: list[dict[int, int]] = []  # node to group, by depth
        by_distance: list[dict[int, int]] = []
        for group, (tokens, gap) in enumerate(self._groups):
            if gap is not None:
                by_distance += [{} for _ in range(gap - len(by_distance))]
                for edges in by_distance[:gap]:
                    # Of pairs that differ in their gap alone, the stronger comes first.
                    edges.setdefault(number[tokens[0]] * width + number[tokens[1]], group)
                continue
            node = 0
            levels += [{} for _ in range(len(tokens) - len(levels))]
            ends += [{} for _ in range(len(tokens) - len(ends))]
            for depth, token in enumerate(tokens):
                node = levels[depth].setdefault(node * width + number[token], len(levels[depth]))
            ends[len(tokens) - 1][node] = group

        def tensors(edges: dict[int, int], value: dict[int, int] | None) -> list[Tensor]:
            keys = sorted(edges)
            nodes = [edges[key] for key in keys]
            columns = [keys, nodes]
            if value is not None:
                columns.append([value.get(node, -1) for node in nodes])
            return [torch.tensor(column, dtype=torch.int64, device=device) for column in columns]

        return _Tables(
            letter.to(device),
            [
                (edges, nodes, groups)
                for edges, nodes, groups in (
                    tensors(level, end) for level, end in zip(levels, ends, strict=True)
                )
            ],
            [(edges, groups) for edges, groups in (tensors(d, None) for d in by_distance)],
        )


def _find(edges: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Which of `wanted` are in the sorted `edges`, and where."""
    if not edges.numel():
        return torch.zeros_like(wanted, dtype=torch.bool), torch.zeros_like(wanted)
    where = torch.searchsorted(edges, wanted.contiguous()).clamp_max(edges.numel() - 1)
    return edges[where] == wanted, where


def _cover(
    best: Tensor,
    value: Tensor,
    offsets: tuple[int, ...],
    better: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Write `value` of each occurrence to the positions that it covers, where it is better."""
    for offset in offsets:
        part = best[:, offset : offset + value.shape[1]]
        part.copy_(better(part, value))
