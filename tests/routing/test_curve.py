"""Figures of a curve against values worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.routing.scores import Ends, Point, aiq, apgr, cpt, gap_closed

_ENDS = Ends(Point(0, 1.0, 0.5), Point(1, 5.0, 0.7), oracle=0.8)


def test_two_models_alone_give_the_straight_line() -> None:
    ends = [_ENDS.small, _ENDS.large]
    assert aiq(ends, _ENDS) == pytest.approx(0.6)
    assert apgr(ends, _ENDS) == pytest.approx(0.5)
    assert cpt(ends, _ENDS, 0.5) == pytest.approx(0.5)
    assert cpt(ends, _ENDS, 0.8) == pytest.approx(0.8)


def test_a_router_above_the_line() -> None:
    points = [_ENDS.small, Point(0.25, 2.0, 0.7), Point(0.5, 3.0, 0.75), _ENDS.large]
    # Trapezia under the hull 0.5 - 0.7 - 0.75, flat from there on.
    assert aiq(points, _ENDS) == pytest.approx((0.6 + 0.725 + 0.75 * 2) / 4)
    assert apgr(points, _ENDS) == pytest.approx(0.25 * 0.5 + 0.25 * 1.125 + 0.5 * 1.125)
    assert cpt(points, _ENDS, 0.5) == pytest.approx(0.125)
    assert gap_closed(0.75, _ENDS) == pytest.approx(0.5)


def test_points_below_the_hull_change_nothing_and_dear_ones_count_by_mixing() -> None:
    points = [_ENDS.small, Point(0.3, 3.0, 0.52), _ENDS.large]
    assert aiq(points, _ENDS) == pytest.approx(0.6)
    cascade = [*points, Point(1.0, 6.0, 0.9)]
    assert aiq(cascade, _ENDS) > 0.6
    lone = [_ENDS.small, Point(0.2, 5.0, 0.4)]
    assert aiq(lone, _ENDS) == pytest.approx(0.5)


def test_no_gap_gives_no_number() -> None:
    same = Ends(Point(0, 1.0, 0.5), Point(1, 5.0, 0.5))
    assert math.isnan(apgr([], same)) and math.isnan(cpt([], same, 0.5))
    assert math.isnan(gap_closed(0.5, same))
    assert math.isnan(aiq([], Ends(Point(0, 1.0, 0.5), Point(1, 1.0, 0.6))))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 5), st.floats(0, 1)), max_size=8))
def test_more_points_never_lower_aiq(rows: list[tuple[float, float, float]]) -> None:
    points = [Point(*row) for row in rows]
    base = aiq([_ENDS.large], _ENDS)
    found = aiq([*points, _ENDS.large], _ENDS)
    highest = max([_ENDS.large.quality, _ENDS.small.quality, *(p.quality for p in points)])
    assert base - 1e-9 <= found <= highest + 1e-9
