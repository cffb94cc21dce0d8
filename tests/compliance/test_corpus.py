"""Splits hold whole groups, and gold that fits its schema."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.compliance import Example, Transcript
from sparseft.compliance.corpus import Corpus, split_validation
from sparseft.compliance.schema import parse_schema
from sparseft.errors import ConfigError, DataError

_SCHEMA = parse_schema("name: x\nfields: {a: {kind: boolean}}", "x.yaml")


def _example(name: str, group: str = "", value: object = True) -> Example:
    return Example(Transcript(name, ()), {"a": value}, group=group)


@given(
    st.lists(st.sampled_from(["", "g", "h", "i", "j"]), min_size=12, max_size=60),
    st.floats(0.05, 0.5),
    st.integers(0, 5),
)
def test_groups_stay_together(groups: list[str], share: float, seed: int) -> None:
    examples = [_example(str(place), group) for place, group in enumerate(groups)]
    train, validation = split_validation(examples, share, seed)
    assert len(train) + len(validation) == len(examples) and validation
    assert not {e.group for e in train if e.group} & {e.group for e in validation if e.group}
    assert (train, validation) == split_validation(examples, share, seed)


def test_the_draw_depends_on_the_seed() -> None:
    examples = [_example(str(place)) for place in range(50)]
    drawn = [split_validation(examples, 0.2, seed)[1] for seed in range(3)]
    assert len(drawn[0]) == 10 and drawn[0] != drawn[1] != drawn[2]


def test_a_corpus_checks_its_gold_and_its_groups() -> None:
    good = (_example("1", "g"),)
    corpus = Corpus("x", _SCHEMA, good, (_example("2"),), (_example("3"),))
    assert len(corpus.sha256) == 64
    other = Corpus("x", _SCHEMA, good, (_example("2"),), (_example("3", value=False),))
    assert corpus.sha256 != other.sha256
    with pytest.raises(DataError, match="'g' in two"):
        Corpus("x", _SCHEMA, good, good, (_example("3"),))
    with pytest.raises(DataError, match="test split"):
        Corpus("x", _SCHEMA, good, (_example("2"),), ())
    with pytest.raises(ConfigError, match="true or false"):
        Corpus("x", _SCHEMA, good, (_example("2"),), (_example("3", value="yes"),))
