"""An encoder that reads a text's segments: what each shows, and what they say together.

One linear map scores every segment (the mean over its tokens), one every token. From these come
three kinds of answers, without any weight of their own beyond the two maps:

- *tags*: each segment shows one of K things or none; in order they are a list.
- *labels* and *choices*: what holds of the whole text, by the log-sum-exp over its segments, so
  that one clear segment is enough (multiple-instance pooling: Ramon and De Raedt 2000).
- *pointers*: one of the text's candidates (an id, a sum), or none.

Where it is known which segments show a thing, the loss says so; else lists are learned by
connectionist temporal classification (Graves et al. 2006) and labels from the pooled score.

Legend: R windows of a batch, L tokens of the longest, H hidden size, B texts, N segments of all of
them, M candidates of one pointer, K tags of one list, C values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from sparseft.models.classifier import mean_pooling
from sparseft.models.task_model import TaskModel, TaskOutput, hidden_size_of

__all__ = [
    "Places",
    "SegmentLabels",
    "SegmentLayout",
    "SegmentModel",
    "SegmentScores",
    "Tagged",
    "Targets",
]

_HEAD_STD = 0.02
_ALIKE, _NARROWER = 16, 0.75  # windows of a group at least, and its width before another begins
_SELDOM = -4.0  # first bias of a tag or label: most segments show nothing
_TAG_SHARE = 0.5  # of a list's loss, which is a sum over segments, beside the others'


@dataclass(frozen=True)
class SegmentLayout:
    """Names and sizes of what a head gives; names are unique over all kinds.

    Attributes:
        tags: K of each list.
        labels: C of each set of independent values.
        choices: C of each exclusive choice.
        pointers: names of the pointers.
        neighbours: a segment's map also sees the segment before and the one after it.
    """

    tags: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    choices: Mapping[str, int] = field(default_factory=dict)
    pointers: tuple[str, ...] = ()
    neighbours: bool = False

    @property
    def widths(self) -> dict[str, int]:
        """Columns of the segments' map, by name, in order; a list has one more, for nothing."""
        return {
            **{name: count + 1 for name, count in self.tags.items()},
            **self.labels,
            **self.choices,
        }


@dataclass(frozen=True, eq=False)
class Places:
    """Where segments and candidates stand in a batch of windows.

    Attributes:
        texts: B.
        segments: int64 [N, 3]: window, first token, end (exclusive); never empty spans.
        owner: int64 [N], the text of each segment, ascending.
        shows: bool [N], whether the segment can show a tag; the text's first piece, a summary, does
            not.
        candidates: by pointer int64 [M, 3], as segments.
        owners: by pointer int64 [M].
    """

    texts: int
    segments: Tensor
    owner: Tensor
    shows: Tensor
    candidates: Mapping[str, Tensor]
    owners: Mapping[str, Tensor]

    def to(self, device: torch.device) -> Places:
        """The same on a device."""
        return Places(
            self.texts,
            self.segments.to(device),
            self.owner.to(device),
            self.shows.to(device),
            {name: places.to(device) for name, places in self.candidates.items()},
            {name: owner.to(device) for name, owner in self.owners.items()},
        )


@dataclass(frozen=True)
class Tagged:
    """A list's true items: tags 1 … K in order, and for each the segments that show it.

    Attributes:
        where: numbers of segments within the batch, one tuple for each item; None: not known.
    """

    items: tuple[int, ...]
    where: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True, eq=False)
class Targets:
    """What is true of the texts of a batch.

    Attributes:
        tags: by list one `Tagged` for each text.
        labels: by name float32 [B, C].
        shown: by name of a label bool [N, C]: the segments that show it, where that is known.
        known: by name of a label bool [B, C]: whether `shown` has all of that value's segments.
        choices: by name int64 [B].
        right: by pointer bool [M], the true candidates.
        absent: by pointer bool [B], none is meant. A text with neither is not learned from.
    """

    tags: Mapping[str, tuple[Tagged, ...]]
    labels: Mapping[str, Tensor]
    shown: Mapping[str, Tensor]
    known: Mapping[str, Tensor]
    choices: Mapping[str, Tensor]
    right: Mapping[str, Tensor]
    absent: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class SegmentLabels:
    """Places and, in training, targets: what a batch carries beside its token ids."""

    places: Places
    targets: Targets | None = None

    def __len__(self) -> int:
        """B, the texts of the batch."""
        return self.places.texts


@dataclass(frozen=True, eq=False)
class SegmentScores:
    """What the model says of a batch.

    Attributes:
        tags: by list log-probabilities [N, K + 1], the first of nothing.
        segments: by label and choice the segments' scores [N, C].
        labels: by name pooled logits [B, C].
        choices: by name pooled logits [B, C].
        pointers: by name the candidates' scores [M].
        nothing: by pointer the score of no candidate, a scalar.
    """

    tags: Mapping[str, Tensor]
    segments: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    choices: Mapping[str, Tensor]
    pointers: Mapping[str, Tensor]
    nothing: Mapping[str, Tensor]


class SegmentHead(nn.Module):
    """The two linear maps, always in fp32."""

    def __init__(self, hidden_size: int, layout: SegmentLayout, seed: int) -> None:
        super().__init__()
        self.layout = layout
        widths = layout.widths
        seen = 3 * hidden_size if layout.neighbours else hidden_size
        self.segment = nn.utils.skip_init(nn.Linear, seen, max(1, sum(widths.values())))
        self.token = nn.utils.skip_init(nn.Linear, hidden_size, max(1, len(layout.pointers)))
        self.nothing = nn.Parameter(torch.zeros(max(1, len(layout.pointers))))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for linear in (self.segment, self.token):
                linear.weight.normal_(0.0, _HEAD_STD, generator=generator)
                linear.bias.zero_()
            start = 0
            for name, width in widths.items():
                if name in layout.tags:
                    self.segment.bias[start + 1 : start + width] = _SELDOM
                elif name in layout.labels:
                    self.segment.bias[start : start + width] = _SELDOM
                start += width

    def forward(
        self, vectors: Tensor, candidates: Mapping[str, Tensor], places: Places
    ) -> SegmentScores:
        """Scores from segments' vectors [N, H] and those of each pointer's candidates [M, H]."""
        with torch.autocast(vectors.device.type, enabled=False):
            widths = self.layout.widths
            vectors = vectors.float()
            if self.layout.neighbours:
                vectors = with_neighbours(vectors, places.owner)
            columns = self.segment(vectors).split(list(widths.values()), dim=1)
            by_name = dict(zip(widths, columns, strict=True))
            pooled = {
                name: pool(by_name[name], places.owner, places.texts)
                for name in (*self.layout.labels, *self.layout.choices)
            }
            pointers = {}
            for number, name in enumerate(self.layout.pointers):
                weight, bias = self.token.weight[number], self.token.bias[number]
                pointers[name] = candidates[name].float() @ weight + bias
        return SegmentScores(
            tags={name: by_name[name].log_softmax(dim=-1) for name in self.layout.tags},
            segments={name: by_name[name] for name in pooled},
            labels={name: pooled[name] for name in self.layout.labels},
            choices={name: pooled[name] for name in self.layout.choices},
            pointers=pointers,
            nothing={name: self.nothing[k] for k, name in enumerate(self.layout.pointers)},
        )


class SegmentModel(TaskModel):
    """A backbone whose tokens are read by segments.

    The head is drawn from `seed` alone.

    Args:
        backbone: an encoder, or a decoder without its language-model head.
        layout: what the head gives.
        seed: of the head's values.

    Raises:
        ModelError: the backbone has no hidden size.
    """

    head: SegmentHead

    def __init__(self, backbone: nn.Module, layout: SegmentLayout, seed: int = 0) -> None:
        super().__init__()
        hidden_size = hidden_size_of(backbone)
        self.backbone = backbone
        self.head = SegmentHead(hidden_size, layout, seed)

    def vectors(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        places: Places,
        most_tokens: int | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Segments' vectors [N, H] and by pointer the candidates' [M, H], in fp32.

        Windows of like length go through the backbone together, so that little is padding; without
        a graph, equal windows go once.

        Args:
            input_ids: [R, L], padded on the right.
            attention_mask: [R, L], 1 at real tokens.
            most_tokens: of one call of the backbone, with padding; None: any number.
        """
        spans = {"": places.segments, **places.candidates}
        if self.whole_batches:
            every = torch.arange(len(input_ids), device=input_ids.device)
            groups = [(every, input_ids.shape[1])]
            group_of, place_of = torch.zeros_like(every), every
        else:
            groups, (group_of, place_of) = _groups(input_ids, attention_mask, most_tokens)
        found: dict[str, list[Tensor]] = {name: [] for name in spans}
        order: dict[str, list[Tensor]] = {name: [] for name in spans}
        for number, (rows, width) in enumerate(groups):
            self.part = rows, width
            try:
                hidden = self.backbone(
                    input_ids=input_ids[rows, :width], attention_mask=attention_mask[rows, :width]
                ).last_hidden_state.float()
            finally:
                self.part = None
            # Means over spans are differences of one running sum.
            sums = functional.pad(hidden.cumsum(dim=1), (0, 0, 1, 0))  # [rows, width + 1, H]
            for name, own in spans.items():
                inside = (group_of[own[:, 0]] == number).nonzero()[:, 0]
                window, start, end = own[inside].unbind(dim=1)
                window = place_of[window]
                means = (sums[window, end] - sums[window, start]) / (end - start)[:, None]
                found[name].append(means)
                order[name].append(inside)
        whole = {
            name: torch.cat(parts)[torch.cat(order[name]).argsort()]
            for name, parts in found.items()
        }
        return whole.pop(""), whole

    def scores(self, input_ids: Tensor, attention_mask: Tensor, places: Places) -> SegmentScores:
        """What the model says of a batch of windows."""
        return self.head(*self.vectors(input_ids, attention_mask, places), places)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: SegmentLabels | None = None
    ) -> TaskOutput:
        """The mean loss over the texts of a batch; for what the model says see `scores`.

        Args:
            input_ids: [R, L].
            attention_mask: [R, L].
            labels: with targets; without labels the segments' map is given each window's mean.
        """
        if labels is None:
            outputs = self.backbone(input_ids=input_ids, attention_mask=attention_mask)
            means = mean_pooling(outputs.last_hidden_state, attention_mask)
            if self.head.layout.neighbours:
                means = functional.pad(means, (0, 2 * means.shape[1]))
            return TaskOutput(logits=self.head.segment(means))
        assert labels.targets is not None
        scores = self.scores(input_ids, attention_mask, labels.places)
        return TaskOutput(loss=segment_loss(scores, labels.places, labels.targets))


def with_neighbours(vectors: Tensor, owner: Tensor) -> Tensor:
    """[N, H] to [N, 3H]: a segment, the one before and the one after it; zero beyond the text."""
    same = (owner[1:] == owner[:-1])[:, None].to(vectors.dtype)  # [N - 1, 1]
    before = functional.pad(vectors[:-1] * same, (0, 0, 1, 0))
    after = functional.pad(vectors[1:] * same, (0, 0, 0, 1))
    return torch.cat([vectors, before, after], dim=1)


def pool(scores: Tensor, owner: Tensor, texts: int) -> Tensor:
    """Log-sum-exp over each text's segments: [N, C] to [B, C]; every text has a segment."""
    index = owner[:, None].expand_as(scores)
    lowest = scores.new_full((texts, scores.shape[1]), -torch.inf)
    highest = lowest.scatter_reduce(0, index, scores.detach(), "amax")  # [B, C]
    sums = scores.new_zeros(highest.shape).index_add(0, owner, (scores - highest[owner]).exp())
    return highest + sums.log()


def segment_loss(scores: SegmentScores, places: Places, targets: Targets) -> Tensor:
    """The sum over fields of the mean loss over texts, a scalar."""
    parts: list[Tensor] = []
    for name, tagged in targets.tags.items():
        total = _located_loss(scores.tags[name], places, tagged)
        total = total + _sequence_loss(scores.tags[name], places, tagged)
        parts.append(_TAG_SHARE * total / places.texts)
    for name, truth in targets.labels.items():
        parts.append(_label_loss(scores, name, places, targets, truth))
    for name, truth in targets.choices.items():
        parts.append(functional.cross_entropy(scores.choices[name], truth))
    for name, right in targets.right.items():
        parts.append(_pointer_loss(scores, name, places, right, targets.absent[name]))
    return torch.stack(parts).sum()


def _groups(
    input_ids: Tensor, attention_mask: Tensor, most_tokens: int | None
) -> tuple[list[tuple[Tensor, int]], tuple[Tensor, Tensor]]:
    """Windows of like length: rows and width of each group; of each window, group and place."""
    device = input_ids.device
    if torch.is_grad_enabled():
        same = first = torch.arange(len(input_ids), device=device)
    else:
        _, same = torch.unique(input_ids, dim=0, return_inverse=True)
        first = torch.full((int(same.max()) + 1,), len(input_ids), device=device)
        rows = torch.arange(len(input_ids), device=device)
        first = first.scatter_reduce(0, same, rows, "amin")
    lengths, by_length = attention_mask[first].sum(dim=1).sort(descending=True, stable=True)
    groups: list[tuple[Tensor, int]] = []
    group_of, place_of = (torch.empty(len(first), dtype=torch.long, device=device) for _ in "ab")
    start, widths = 0, lengths.tolist()
    for stop in range(1, len(widths) + 1):
        width, count = max(1, widths[start]), stop - start
        full = most_tokens is not None and width * (count + 1) > most_tokens
        short = stop < len(widths) and count >= _ALIKE and widths[stop] < _NARROWER * width
        if stop == len(widths) or full or short:
            own = by_length[start:stop]
            group_of[own] = len(groups)
            place_of[own] = torch.arange(count, device=device)
            groups.append((first[own], width))
            start = stop
    return groups, (group_of[same], place_of[same])


def _located_loss(tags: Tensor, places: Places, truths: Sequence[Tagged]) -> Tensor:
    """Negative log-likelihood of the lists whose items' segments are known, summed.

    Each item is shown by exactly one of its segments, and everything else shows nothing.
    """
    located = torch.tensor([t.where is not None for t in truths], device=tags.device)
    total = -tags[:, 0][places.shows & located[places.owner]].sum()
    segments: list[int] = []
    columns: list[int] = []
    numbers: list[int] = []
    items = 0
    for truth in truths:
        for item, where in zip(truth.items, truth.where or (), strict=False):
            if where:
                segments.extend(where)
                columns.extend([item] * len(where))
                numbers.extend([items] * len(where))
                items += 1
    if items:
        at, number = (torch.tensor(each, device=tags.device) for each in (segments, numbers))
        gain = tags[at, torch.tensor(columns, device=tags.device)] - tags[at, 0]
        total = total - pool(gain[:, None], number, items).sum()
    return total


def _sequence_loss(tags: Tensor, places: Places, truths: Sequence[Tagged]) -> Tensor:
    """Connectionist temporal classification of the lists whose items' segments are not known."""
    texts = [text for text, truth in enumerate(truths) if truth.where is None]
    rows = [tags[(places.owner == text) & places.shows] for text in texts]
    # A text without a segment says nothing, and has no loss.
    kept = [(row, truths[text].items) for text, row in zip(texts, rows, strict=True) if len(row)]
    if not kept:
        return tags.new_zeros(())
    return functional.ctc_loss(
        nn.utils.rnn.pad_sequence([row for row, _ in kept]),
        torch.tensor([item for _, items in kept for item in items], device=tags.device),
        torch.tensor([len(row) for row, _ in kept]),
        torch.tensor([len(items) for _, items in kept]),
        reduction="sum",
        zero_infinity=True,
    )


def _label_loss(
    scores: SegmentScores, name: str, places: Places, targets: Targets, truth: Tensor
) -> Tensor:
    """Cross-entropy of the pooled score; where the segments are known, of those and the rest."""
    own = scores.segments[name]
    known = targets.known[name]
    loss = functional.binary_cross_entropy_with_logits(scores.labels[name], truth, reduction="none")
    if bool(known.any()):
        shown = targets.shown[name]
        lowest = torch.finfo(own.dtype).min / 4
        inside = pool(own.masked_fill(~shown, lowest), places.owner, places.texts)
        outside = pool(own.masked_fill(shown, lowest), places.owner, places.texts)
        # Softplus of a score that says no, and of one that says yes, as cross-entropies.
        exact = functional.softplus(outside) + torch.where(
            truth > 0.5, functional.softplus(-inside), 0.0
        )
        loss = torch.where(known, exact, loss)
    return loss.sum() / places.texts


def _pointer_loss(
    scores: SegmentScores, name: str, places: Places, right: Tensor, absent: Tensor
) -> Tensor:
    """Negative log-likelihood of the true candidates together, or of none."""
    own, owner = scores.pointers[name], places.owners[name]
    nothing = scores.nothing[name].expand(places.texts)
    every = torch.cat([own, nothing])[:, None]
    owners = torch.cat([owner, torch.arange(places.texts, device=own.device)])
    true = torch.cat([right, absent])
    lowest = torch.finfo(own.dtype).min / 4
    all_of = pool(every, owners, places.texts)[:, 0]
    true_of = pool(every.masked_fill(~true[:, None], lowest), owners, places.texts)[:, 0]
    learned = absent.clone().index_put(
        (owner[right],), torch.ones_like(owner[right], dtype=torch.bool)
    )
    return torch.where(learned, all_of - true_of, 0.0).sum() / places.texts
