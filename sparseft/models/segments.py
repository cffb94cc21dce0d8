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

from collections.abc import Mapping
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
        self, input_ids: Tensor, attention_mask: Tensor, places: Places
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Segments' vectors [N, H] and by pointer the candidates' [M, H], in fp32.

        Args:
            input_ids: [R, L].
            attention_mask: [R, L], 1 at real tokens.
        """
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        hidden = hidden.float()
        # Means over spans are differences of one running sum.
        sums = functional.pad(hidden.cumsum(dim=1), (0, 0, 1, 0))  # [R, L + 1, H]
        segments = _means(sums, places.segments)
        return segments, {name: _means(sums, spans) for name, spans in places.candidates.items()}

    def scores(self, input_ids: Tensor, attention_mask: Tensor, places: Places) -> SegmentScores:
        """What the model says of a batch of windows."""
        return self.head(*self.vectors(input_ids, attention_mask, places), places)

    def vectors_of_parts(
        self, input_ids: Tensor, attention_mask: Tensor, places: Places, windows: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As `vectors`, with at most `windows` windows in the backbone at a time."""
        spans = {"": places.segments, **places.candidates}
        found: dict[str, Tensor] = {}
        for start in range(0, len(input_ids), windows):
            stop = start + windows
            inside = {
                name: ((own[:, 0] >= start) & (own[:, 0] < stop)).nonzero()[:, 0]
                for name, own in spans.items()
            }
            shift = torch.tensor([start, 0, 0], device=input_ids.device)
            part = Places(
                places.texts,
                spans[""][inside[""]] - shift,
                places.owner,
                places.shows,
                {name: spans[name][inside[name]] - shift for name in places.candidates},
                places.owners,
            )
            segments, more = self.vectors(input_ids[start:stop], attention_mask[start:stop], part)
            for name, vectors in {"": segments, **more}.items():
                if name not in found:
                    found[name] = vectors.new_zeros((len(spans[name]), vectors.shape[1]))
                found[name][inside[name]] = vectors
        return found.pop(""), found

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
        total = sum(
            (_tag_loss(scores.tags[name], text, places, each) for text, each in enumerate(tagged)),
            start=scores.tags[name].new_zeros(()),
        )
        parts.append(_TAG_SHARE * total / places.texts)
    for name, truth in targets.labels.items():
        parts.append(_label_loss(scores, name, places, targets, truth))
    for name, truth in targets.choices.items():
        parts.append(functional.cross_entropy(scores.choices[name], truth))
    for name, right in targets.right.items():
        parts.append(_pointer_loss(scores, name, places, right, targets.absent[name]))
    return torch.stack(parts).sum()


def _means(sums: Tensor, spans: Tensor) -> Tensor:
    window, start, end = spans.unbind(dim=1)
    return (sums[window, end] - sums[window, start]) / (end - start)[:, None]


def _tag_loss(tags: Tensor, text: int, places: Places, truth: Tagged) -> Tensor:
    """Negative log-likelihood of one text's list."""
    own = ((places.owner == text) & places.shows).nonzero()[:, 0]
    if truth.where is None:
        return _sequence_loss(tags[own], truth.items)
    # Each item is shown by exactly one of its segments, and everything else shows nothing.
    total = -tags[own, 0].sum()
    for item, where in zip(truth.items, truth.where, strict=True):
        if where:
            at = tags[list(where)]
            total = total - (at[:, item] - at[:, 0]).logsumexp(dim=0)
    return total


def _sequence_loss(tags: Tensor, items: tuple[int, ...]) -> Tensor:
    if not len(tags):
        return tags.sum()
    loss = functional.ctc_loss(
        tags[:, None],
        torch.tensor([items], dtype=torch.long, device=tags.device),
        torch.tensor([len(tags)]),
        torch.tensor([len(items)]),
        reduction="sum",
        zero_infinity=True,
    )
    return loss


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
