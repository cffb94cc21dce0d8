"""Scorers of single values, by hand and by law."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.compliance.fields import Field
from sparseft.compliance.scores import Scorer, register_scorer, scorer, scorer_of, scorers
from sparseft.compliance.scores.scorers import check_scorers, edit_similarity, set_f1
from sparseft.errors import ConfigError
from tests.compliance.scores.cases import SCHEMA

_ITEMS = st.lists(st.sampled_from("abc"), max_size=6)


def test_every_kind_has_a_scorer_of_its_own() -> None:
    names = {name: each.name for name, each in check_scorers(SCHEMA).items()}
    assert names == {
        "done": "exact",
        "tier": "exact",
        "order": "exact",
        "refund": "amount",
        "calls": "integer",
        "gaps": "set_f1",
        "steps": "list",
        "verdict": "exact",
    }


@pytest.mark.parametrize(
    ("name", "gold", "said", "expected"),
    [
        ("exact", "a", "a", 1.0),
        ("exact", "a", None, 0.0),
        ("exact", None, None, 1.0),
        ("exact", True, 1, 0.0),
        ("amount", 20.0, 20.01, 1.0),
        ("amount", 0.03, 0.02, 1.0),
        ("amount", 20.0, 20.011, 0.0),
        ("amount", None, 0.0, 0.0),
        ("amount", None, None, 1.0),
        ("integer", 3, 3, 1.0),
        ("integer", 3, 4, 0.0),
        ("set_f1", ["a", "b"], ["b", "c"], 0.5),
        ("set_f1", ["a", "b"], ["a"], 2 / 3),
        ("set_f1", [], [], 1.0),
        ("set_f1", [], ["a"], 0.0),
        ("list", ["x", "y"], ["y", "x"], 0.0),
        ("list_similarity", ["x", "y", "z"], ["x", "z"], 2 / 3),
    ],
)
def test_scores_by_hand(name: str, gold: object, said: object, expected: float) -> None:
    assert scorer(name).score(gold, said) == pytest.approx(expected)


def test_figures_beside() -> None:
    assert scorer("integer").beside["mae"](3, 5) == 2.0
    assert scorer("integer").beside["mae"](3, None) is None
    assert scorer("list").beside["similarity"](["x"], []) == 0.0
    # kitten -> sitting: three edits over seven letters
    assert edit_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)


@given(_ITEMS, _ITEMS)
def test_laws_of_similarities(one: list[str], other: list[str]) -> None:
    for measure in (edit_similarity, set_f1):
        assert 0.0 <= measure(one, other) <= 1.0
        assert measure(one, other) == pytest.approx(measure(other, one))
        assert measure(one, one) == 1.0
    assert (edit_similarity(one, other) == 1.0) == (one == other)
    assert (set_f1(one, other) == 1.0) == (set(one) == set(other))


def test_unknown_scorers_are_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"auto, amount, exact, integer, .* got 'rouge'"):
        scorer("rouge")


def test_a_scorer_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"scorer of enum for tier, got set_f1"):
        scorer_of(dataclasses.replace(SCHEMA["tier"], scorer="set_f1"))


def test_a_schema_names_a_registered_scorer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorers, "_SCORERS", dict(scorers._SCORERS))
    near = register_scorer(
        Scorer("within_two", lambda gold, said: float(abs(gold - said) <= 2), ("integer",))
    )
    field = Field("calls", "integer", minimum=0, maximum=9, scorer="within_two")
    assert scorer_of(field) is near
    with pytest.raises(ConfigError, match="new scorer name"):
        register_scorer(dataclasses.replace(near))
    with pytest.raises(ConfigError, match="new scorer name, got 'auto'"):
        register_scorer(Scorer("auto", near.score))
    with pytest.raises(ConfigError, match=r"within_four.kinds of .* got 'number'"):
        register_scorer(Scorer("within_four", near.score, ("number",)))
