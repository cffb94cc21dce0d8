"""An encoder that says how a turn changes a dialogue's state.

Every slot has one distribution over values: nothing (the slot stays as it is), the few values that
need not stand in the text (a choice), and whatever stands there (a candidate: a stretch of the
dialogue or a value of the state so far). What means the same value is added up, so nobody has to
say which of several places a value was read from (marginal likelihood, as for answer spans: Clark
and Gardner, ACL 2018; pointing and copying in tracking: TripPy, Heck et al., SIGDIAL 2020).

One linear map scores the choices at every token, pooled by log-sum-exp, so that one clear token is
enough; one scores a candidate by its first token, its last and its mean.

Legend: B turns, L tokens of the longest, H hidden size, S slots, C choices of all of them, M
candidates of all turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from sparseft.models.task_model import TaskModel, TaskOutput, hidden_size_of

__all__ = ["TrackerLabels", "TrackerLayout", "TrackerModel", "TrackerScores", "tracker_loss"]

_HEAD_STD = 0.02
_SELDOM = -6.0  # first bias of a choice, over all tokens: most turns leave most slots alone
_NEVER = -1e4  # log of no probability; finite, so that gradients are


@dataclass(frozen=True)
class TrackerLayout:
    """What the head scores.

    Attributes:
        values: by slot, in order, the choices; a slot without any has candidates alone.
    """

    values: Mapping[str, tuple[str, ...]]

    @property
    def slots(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(self.values)

    @property
    def owners(self) -> list[int]:
        """The number of each choice's slot, [C]."""
        return [place for place, own in enumerate(self.values.values()) for _ in own]


@dataclass(frozen=True, eq=False)
class TrackerLabels:
    """Candidates of a batch and, in training, which values are true.

    Attributes:
        turns: B.
        spans: int64 [M, 3]: turn, first token, end (exclusive); turns ascend, spans are not empty.
        choices: bool [B, C], right ones; None where nothing is known.
        candidates: bool [M, S], right ones.
        unchanged: bool [B, S]: the slot stays as it is. A slot that changes to a value that is
            neither choice nor candidate is only learned to change.
    """

    turns: int
    spans: Tensor
    choices: Tensor | None = None
    candidates: Tensor | None = None
    unchanged: Tensor | None = None

    def __len__(self) -> int:
        """B, the turns of the batch."""
        return self.turns


@dataclass(frozen=True, eq=False)
class TrackerScores:
    """Scores of values against that of nothing, which is 0.

    Attributes:
        choices: [B, C].
        candidates: [M, S].
    """

    choices: Tensor
    candidates: Tensor


class TrackerHead(nn.Module):
    """The two linear maps, always in fp32."""

    def __init__(self, hidden_size: int, layout: TrackerLayout, seed: int) -> None:
        super().__init__()
        owners = layout.owners
        self.choice = nn.utils.skip_init(nn.Linear, hidden_size, max(1, len(owners)))
        self.span = nn.utils.skip_init(nn.Linear, 3 * hidden_size, max(1, len(layout.slots)))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for linear in (self.choice, self.span):
                linear.weight.normal_(0.0, _HEAD_STD, generator=generator)
                linear.bias.fill_(_SELDOM)
        self.owners = owners

    def forward(self, hidden: Tensor, mask: Tensor, spans: Tensor) -> TrackerScores:
        """Scores from the tokens' vectors [B, L, H], their mask [B, L] and spans [M, 3]."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            tokens = self.choice(hidden)[..., : len(self.owners)]  # [B, L, C]
            tokens = tokens.masked_fill(mask[..., None] == 0, _NEVER)
            sums = functional.pad(hidden.cumsum(dim=1), (0, 0, 1, 0))  # [B, L + 1, H]
            turn, first, end = spans.unbind(dim=1)
            means = (sums[turn, end] - sums[turn, first]) / (end - first)[:, None]
            ends = torch.cat([hidden[turn, first], hidden[turn, end - 1], means], dim=1)
            return TrackerScores(tokens.logsumexp(dim=1), self.span(ends))


class TrackerModel(TaskModel):
    """A backbone whose tokens say how a state changes.

    The head is drawn from `seed` alone.

    Args:
        backbone: an encoder, or a decoder without its language-model head.
        layout: slots and choices.
        seed: of the head's values.

    Raises:
        ModelError: the backbone has no hidden size.
    """

    head: TrackerHead

    def __init__(self, backbone: nn.Module, layout: TrackerLayout, seed: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        self.layout = layout
        self.head = TrackerHead(hidden_size_of(backbone), layout, seed)

    def scores(self, input_ids: Tensor, attention_mask: Tensor, spans: Tensor) -> TrackerScores:
        """What the model says of a batch of turns."""
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.head(hidden, attention_mask, spans)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: TrackerLabels | None = None
    ) -> TaskOutput:
        """The mean loss over the turns of a batch; for what the model says see `scores`.

        Args:
            input_ids: [B, L], padded on the right.
            attention_mask: [B, L], 1 at real tokens.
            labels: with what is true; without labels there are only the choices' scores.
        """
        spans = input_ids.new_zeros((0, 3)) if labels is None else labels.spans
        scores = self.scores(input_ids, attention_mask, spans)
        if labels is None:
            return TaskOutput(logits=scores.choices)
        return TaskOutput(loss=tracker_loss(scores, labels, self.layout))


def tracker_loss(scores: TrackerScores, labels: TrackerLabels, layout: TrackerLayout) -> Tensor:
    """The sum over slots of the mean negative log-likelihood over turns, a scalar."""
    assert labels.choices is not None
    assert labels.candidates is not None
    assert labels.unchanged is not None
    owners = torch.tensor(layout.owners, dtype=torch.long, device=scores.choices.device)
    shape = (labels.turns, len(layout.slots))
    turns = labels.spans[:, 0]

    def by_slot(choices: Tensor, candidates: Tensor) -> Tensor:
        """Log-sum-exp of choices [B, C] and candidates [M, S] by turn and slot, [B, S]."""
        return torch.logaddexp(
            _pooled(choices.T, owners, shape[1]).T, _pooled(candidates, turns, shape[0])
        )

    value = by_slot(scores.choices, scores.candidates)
    right = by_slot(
        scores.choices.masked_fill(~labels.choices, _NEVER),
        scores.candidates.masked_fill(~labels.candidates, _NEVER),
    )
    reachable = _any_of(labels.choices.T, owners, shape[1]).T | _any_of(
        labels.candidates, turns, shape[0]
    )
    gain = torch.where(
        labels.unchanged, torch.zeros_like(value), torch.where(reachable, right, value)
    )
    return (functional.softplus(value) - gain).sum() / labels.turns


def _pooled(scores: Tensor, group: Tensor, groups: int) -> Tensor:
    """Log-sum-exp over the rows of each group: [N, K] to [groups, K]; of none it is `_NEVER`."""
    index = group[:, None].expand_as(scores)
    lowest = scores.new_full((groups, scores.shape[1]), _NEVER)
    highest = lowest.scatter_reduce(0, index, scores.detach(), "amax")
    sums = scores.new_zeros(highest.shape).index_add(0, group, (scores - highest[group]).exp())
    # A group without rows keeps `_NEVER`; the clamp is far below any sum that has a row.
    return highest + sums.clamp(min=1e-30).log() * (sums > 0)


def _any_of(flags: Tensor, group: Tensor, groups: int) -> Tensor:
    """Whether any row of each group is set: bool [N, K] to [groups, K]."""
    counts = torch.zeros((groups, flags.shape[1]), device=flags.device)
    return counts.index_add(0, group, flags.float()) > 0
