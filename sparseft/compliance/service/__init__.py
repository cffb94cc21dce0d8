"""A simulator of customer-service conversations with exact gold records.

Fernlink, an invented provider of home internet and phone lines, has a procedure book
(`book.yaml`): ten kinds of requests, nine sensitive actions, and what must come before each, some
of it under a condition only. A conversation is made in three steps:

1. `planner.py` draws a worked case (`scenarios.py`), perhaps puts a flaw into it (`edits.py`) and
   adds life: small talk, interruptions, ids that are corrected, further requests. The gold record
   follows from this plan (`plan.py`), before a word is written.
2. `scripts.py` and `render.py` turn events into turns with the phrasings of `phrases/`, which are
   disjoint between the splits, as are names, numbers and addresses.
3. Nothing is read back from the text: the rules (`rules.py`), which do that, share no code with
   the planner and are tested against it.

`hard_negatives` makes minimal pairs of a conversation across the verdict's boundary.
"""

from __future__ import annotations

from sparseft.compliance.service import rules as rules  # registers the schema's rules
from sparseft.compliance.service.facts import SPLITS
from sparseft.compliance.service.hard_negatives import KINDS, hard_negatives
from sparseft.compliance.service.planner import draw_plan
from sparseft.compliance.service.render import render_with_evidence
from sparseft.compliance.transcript import Example

__all__ = ["KINDS", "SPLITS", "TEST_COUNT", "TRAIN_COUNT", "hard_negatives", "simulate"]

TRAIN_COUNT, TEST_COUNT = 219, 53  # the usual sizes


def simulate(count: int = TRAIN_COUNT, seed: int = 0, split: str = "train") -> list[Example]:
    """Conversations with gold records of the schema `service`.

    Args:
        count: how many; the first of more are the same.
        seed: 0 or more; the same seed and split give the same conversations.
        split: train, validation or test; they share no phrasing, name or number.

    Returns:
        Examples with tags (case, flaw or "clean", and what makes the surface hard), each a group
        of its own.

    Raises:
        ConfigError: an unknown split, or a negative seed.
    """
    examples = []
    for index in range(count):
        plan = draw_plan(split, seed, index)
        transcript, shown = render_with_evidence(plan)
        examples.append(Example(transcript, plan.gold(), plan.tags(), plan.name, shown))
    return examples
