"""Hard negatives: more of what is confused, each once, from training examples alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from sparseft.compliance import Example, Transcript, Turn
from sparseft.training.compliance.targeting import draw_variants, targets


def _example(number: int) -> Example:
    return Example(Transcript(str(number), (Turn("agent", "hello"),)), {}, group=str(number))


def _variants(example: Example, kinds: Sequence[str] | None, seed: int) -> list[Example]:
    kind = (kinds or ("a",))[0]
    if kind == "rare" and int(example.group) % 10:
        return []
    name = f"{example.group}-{kind}-{seed}"
    return [Example(Transcript(name, ()), {}, (kind,), example.group)]


_EXAMPLES = [_example(number) for number in range(40)]


def _kinds(drawn: Sequence[Example]) -> Counter[str]:
    return Counter(example.tags[0] for example in drawn)


def test_weights_follow_the_share_of_wrong_ones() -> None:
    found = {
        aim.kind: aim for aim in targets(("a", "b", "c"), {"a": [True] * 99, "b": [False] * 9})
    }
    assert (found["b"].rows, found["b"].wrong) == (9, 9)
    assert found["b"].weight == pytest.approx(0.95)
    assert found["a"].weight == 0.1  # never left out
    assert found["c"].weight == 0.5  # nothing is known of it


def test_confused_kinds_are_drawn_more_often() -> None:
    aims = targets(("a", "b"), {"a": [True] * 20, "b": [False] * 20})
    drawn = draw_variants(_EXAMPLES, _variants, aims, 30, seed=0)
    kinds = _kinds(drawn)
    assert len(drawn) == 30 and kinds["b"] > 2 * kinds["a"] > 0
    assert len({example.transcript.id for example in drawn}) == 30
    assert drawn == draw_variants(_EXAMPLES, _variants, aims, 30, seed=0)


def test_a_kind_that_runs_out_is_filled_up_by_others() -> None:
    aims = targets(("rare", "b"), {"rare": [False] * 20, "b": [True] * 20})
    kinds = _kinds(draw_variants(_EXAMPLES, _variants, aims, 30, seed=0))
    assert kinds == {"rare": 4, "b": 26}


def test_no_more_than_there_are() -> None:
    aims = targets(("a",), {})
    assert len(draw_variants(_EXAMPLES, _variants, aims, 1000, seed=0)) == len(_EXAMPLES)
