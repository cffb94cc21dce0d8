"""How alike contexts should be: bounds, symmetry, and whose texts may be looked at."""

from __future__ import annotations

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.errors import ConfigError, DataError
from sparseft.routing import Query, State, Turn
from sparseft.routing.pairs import (
    Grades,
    apart_from,
    change_similarity,
    draw_pairs,
    expert_grades,
    gold_grades,
    hardness_grades,
    published_hardness,
    state_grades,
)
from sparseft.routing.pairs.hardness import read_published
from sparseft.routing.pools import build_pool
from tests.routing.fakes import dialogue

_STATES = st.dictionaries(
    st.sampled_from(["a-x", "a-y", "b-x", "b-y"]), st.sampled_from(["1", "2", "3"])
)


@given(_STATES, _STATES)
def test_similarity_is_symmetric_and_between_0_and_1(a: State, b: State) -> None:
    value = change_similarity(a, b)
    assert 0 <= value <= 1 and value == change_similarity(b, a)
    assert change_similarity(a, a) == 1
    assert (value == 1) == (a == b)


def test_similarity_counts_slots_and_values() -> None:
    assert change_similarity({"a-x": "1"}, {"a-x": "2"}) == 0.5
    assert change_similarity({"a-x": "1"}, {"b-x": "1"}) == 0
    assert change_similarity({"a-x": "1", "b-x": "1"}, {"a-x": "1"}) == pytest.approx(2 / 3)


def _turns(count: int = 6) -> list[Turn]:
    deltas: list[State] = [{"a-x": "1"}, {"a-y": "2"}, {}, {"b-x": "1"}, {"a-x": "2"}]
    return [
        turn
        for number in range(count)
        for turn in dialogue(f"d{number}", [deltas[(number + k) % 5] for k in range(3)])
    ]


@given(st.lists(st.tuples(_STATES, _STATES), min_size=2, max_size=6))
def test_grades_are_the_similarity_of_every_two(rows: list[tuple[State, State]]) -> None:
    queries = [Query(str(k), f"text {k}", f"group {k}") for k in range(len(rows))]
    before, changes = zip(*rows, strict=True)
    grades = state_grades(queries, before, changes, change_weight=0.25)
    found = grades.matrix(np.arange(len(rows)))
    for i in range(len(rows)):
        for j in range(len(rows)):
            if i == j:
                assert np.isnan(found[i, j])
                continue
            change = change_similarity(changes[i], changes[j])
            state = change_similarity(before[i], before[j])
            assert found[i, j] == pytest.approx(0.25 * change + 0.75 * state, abs=1e-6)


def test_gold_is_in_the_grades_and_the_state_before_in_the_text() -> None:
    grades = gold_grades(_turns())
    assert grades.texts[1].startswith("[state] a x 1 [system]")
    assert grades.groups[:4] == ("d0", "d0", "d0", "d1")
    matrix = grades.matrix(np.arange(18))
    np.testing.assert_array_equal(matrix, matrix.T)
    assert np.isnan(matrix[:3, :3]).all() and not np.isnan(matrix[:3, 3:]).any()
    # Dialogues 0 and 5 say the same.
    assert np.allclose(matrix[np.arange(3), 15 + np.arange(3)], 1)


def test_experts_make_two_sides() -> None:
    queries = [Query(str(k), f"text {k}", f"g{k // 2}") for k in range(6)]
    pool = build_pool(queries, [True, True, False, False, True, False], [True] * 5 + [False])
    grades = expert_grades(pool)
    assert grades.sides is not None and grades.sides.tolist() == [0, 0, 1, 1, 0]
    matrix = grades.matrix(np.arange(5))
    assert matrix[0].tolist()[2:] == [0, 0, 1] and matrix[2].tolist()[4] == 0
    with pytest.raises(DataError, match="both sides"):
        expert_grades(build_pool(queries, [True] * 6, [True] * 6))


def test_hardness_is_the_share_of_systems_that_err() -> None:
    turns = dialogue("d0", [{"a-x": "1"}, {"a-y": "2"}]) + dialogue("d1", [{"b-x": "1"}])
    right = {turn.id: turn.state for turn in turns}
    wrong = {("d0", 0): {"a-x": "9"}, ("d0", 1): {"a-x": "9", "a-y": "2"}}  # and nothing of d1
    queries, hardness = published_hardness(turns, {"one": right, "two": wrong})
    assert [query.id for query in queries] == ["d0/0", "d0/1", "d1/0"]
    assert hardness.tolist() == [0.5, 0, 0]
    assert "a x 1" in queries[1].text  # as the first system left it
    grades = hardness_grades(queries, hardness)
    assert grades.matrix(np.arange(3))[0, 2] == pytest.approx(0.5)
    with pytest.raises(DataError, match="got none by 1 systems"):
        published_hardness(turns, {"one": {}})
    with pytest.raises(DataError, match="from 0 to 1"):
        hardness_grades(queries, hardness + 1)


def test_published_states_are_read(tmp_path: object) -> None:
    path = f"{tmp_path}/predictions.parquet"
    columns = {"system_name": ["s"], "dialogue_id": ["d"], "turn_id": [0]}
    for text, right in (('{"a-x": "1"}', True), ('{"a-x": 1}', False), ("[]", False)):
        pyarrow.parquet.write_table(pyarrow.table({**columns, "pred_state": [text]}), path)
        if right:
            assert read_published(path) == {"s": {("d", 0): {"a-x": "1"}}}
        else:
            with pytest.raises(DataError, match="row 0"):
                read_published(path)
    with pytest.raises(DataError, match="check the path"):
        read_published(f"{tmp_path}/none.parquet")


def test_held_out_dialogues_are_whole_and_tested_ones_refused() -> None:
    grades = gold_grades(_turns())
    rest, held = grades.split(0.3, seed=1)
    assert set(rest.groups) | set(held.groups) == set(grades.groups)
    assert not set(rest.groups) & set(held.groups) and len(set(held.groups)) == 2
    rows = np.flatnonzero([group in held.groups for group in grades.groups])
    assert held.texts == tuple(grades.texts[row] for row in rows)
    np.testing.assert_array_equal(held.matrix(np.arange(len(held))), grades.matrix(rows))
    assert apart_from(grades, ["other"]) is grades
    with pytest.raises(DataError, match="'d3'"):
        apart_from(grades, ["d3", "other"])
    with pytest.raises(ConfigError, match="held-out share"):
        grades.split(1.0, 0)
    with pytest.raises(DataError, match="two dialogues"):
        gold_grades(_turns(1))
    with pytest.raises(DataError, match="four dialogues"):
        gold_grades(_turns(3)).split(0.5, 0)


def test_drawn_pairs_are_of_every_grade_and_of_two_dialogues() -> None:
    grades = gold_grades(_turns(20))
    only = Grades(  # texts that name their dialogue, to look them up
        tuple(f"{text} {k}" for k, text in enumerate(grades.texts)), grades.groups, grades.between
    )
    group = dict(zip(only.texts, only.groups, strict=True))
    row = {text: k for k, text in enumerate(only.texts)}
    pairs = draw_pairs(only, 60, seed=0)
    assert len(pairs) == 60 and pairs.grades.min() < 0.2 and pairs.grades.max() > 0.9
    for a, b, grade in zip(pairs.first, pairs.second, pairs.grades, strict=True):
        assert group[a] != group[b]
        assert only.table(np.array([row[a]]), np.array([row[b]]))[0, 0] == grade
    again = draw_pairs(only, 60, seed=0)
    assert (pairs.first, pairs.second) == (again.first, again.second)
    assert len(set(zip(pairs.first, pairs.second, strict=True))) == 60
    with pytest.raises(ConfigError, match="1 pair or more"):
        draw_pairs(only, 0, seed=0)
