"""Hard negatives where the model is weak: more of the kinds that it confuses on validation.

The variants of validation examples only measure; those that are trained on come from training
examples alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparseft.compliance import Example

__all__ = ["Target", "draw_variants", "targets"]

Variants = Callable[[Example, Sequence[str] | None, int], list[Example]]

_FLOOR = 0.1  # of the error rate, so that no kind is left out altogether


@dataclass(frozen=True)
class Target:
    """A kind of hard negative: variants of validation examples, and how many were misjudged."""

    kind: str
    rows: int
    wrong: int

    @property
    def weight(self) -> float:
        """Share of wrong ones, with a prior of one in two rows, and never below the floor."""
        return max(_FLOOR, (self.wrong + 0.5) / (self.rows + 1))


def targets(kinds: Sequence[str], right: Mapping[str, Sequence[bool]]) -> list[Target]:
    """One target of each kind.

    Args:
        right: by kind, whether the critical field of each of its variants was right.
    """
    found = []
    for kind in kinds:
        judged = right.get(kind, ())
        found.append(Target(kind, len(judged), sum(not each for each in judged)))
    return found


def draw_variants(
    examples: Sequence[Example],
    variants: Variants,
    aims: Sequence[Target],
    count: int,
    seed: int,
) -> list[Example]:
    """At most `count` variants of training examples, kinds drawn by their targets' weights.

    Every (example, kind) is used once at most; where a kind runs out, the others fill up.

    Args:
        variants: gives the hard negatives of an example, of the kinds asked for.
        seed: of the draw, and of the variants' wording.
    """
    random = np.random.default_rng(seed)
    pools = {
        aim.kind: [examples[place] for place in random.permutation(len(examples))] for aim in aims
    }
    weights = {aim.kind: aim.weight for aim in aims}
    drawn: list[Example] = []
    while len(drawn) < count and pools:
        kinds = sorted(pools)
        shares = np.array([weights[kind] for kind in kinds])
        kind = kinds[int(random.choice(len(kinds), p=shares / shares.sum()))]
        made: list[Example] = []
        while pools[kind] and not made:
            made = variants(pools[kind].pop(), (kind,), seed)
        if not pools[kind]:
            del pools[kind]
        drawn.extend(made[: count - len(drawn)])
    return drawn
