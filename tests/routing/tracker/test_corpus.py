"""Which dialogues a tracker is trained and tested on."""

from __future__ import annotations

import pytest

from sparseft.config import DataConfig
from sparseft.errors import ConfigError
from sparseft.paths import default_data_root
from sparseft.routing.tracker import load_dialogues, with_gold


def test_built_in_dialogues_depend_on_their_number_alone() -> None:
    few = load_dialogues(DataConfig("d", "dialogues", rows=3, test_rows=2), 0, 5)
    more = load_dialogues(DataConfig("d", "dialogues", rows=6), 1, 5)
    assert few.train == more.train[: len(few.train)]
    assert few.report["dialogues"] == {"train": 3, "validation": 5, "test": 2}
    assert few.sha256 != more.sha256


def test_contexts_carry_the_gold_state_before() -> None:
    turns = load_dialogues(DataConfig("d", "dialogues", rows=2), 0, 1).train
    contexts, deltas = with_gold(turns)
    by_id = {turn.id: turn for turn in turns}
    for context, delta in zip(contexts, deltas, strict=True):
        assert delta == by_id[context.id].delta
        before = by_id.get((context.dialogue, context.number - 1))
        assert context.previous == (before.state if before else {})


@pytest.mark.skipif(default_data_root() is None, reason="the folder of public data sets is absent")
def test_no_recorded_dialogue_of_multiwoz_is_trained_on() -> None:
    some = load_dialogues(DataConfig("m", "multiwoz"), 0, 100)
    every = load_dialogues(DataConfig("m", "multiwoz", train="all"), 0, 100)
    tested = {turn.dialogue for turn in some.test}
    assert len(tested) == 200 and some.test == every.test
    for corpus in (some, every):
        trained = {turn.dialogue for turn in corpus.train}
        assert not trained & (tested | {turn.dialogue for turn in corpus.validation})
    assert some.report["dialogues"]["train"] == 538
    assert every.report["dialogues"]["train"] > 1000


def test_another_training_split_is_refused() -> None:
    if default_data_root() is None:
        pytest.skip("the folder of public data sets is absent")
    with pytest.raises(ConfigError, match=r"data\.train=all"):
        load_dialogues(DataConfig("m", "multiwoz", train="most"), 0, 100)
