"""The selection file: readable, exact, and strict."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.errors import SelectionError
from sparseft.selection import Selection
from sparseft.selection.ranges import from_ranges, to_ranges
from tests.sparse.helpers import analysed


@given(st.sets(st.integers(0, 60)))
def test_ranges_round_trip(numbers: set[int]) -> None:
    index = np.array(sorted(numbers), dtype=np.int64)
    assert from_ranges(to_ranges(index)).tolist() == index.tolist()


def test_ranges_are_readable_and_strict() -> None:
    assert to_ranges(np.array([0, 1, 2, 7, 9, 10])) == "0-2,7,9-10"
    with pytest.raises(SelectionError, match="expected runs"):
        from_ranges("1-,x")


@pytest.mark.parametrize("units", [("neuron", "head"), ("block",), ("embedding",)])
def test_round_trip(units: tuple[str, ...], tmp_path: Path) -> None:
    _, selection = analysed(units=units)
    again = Selection.load(selection.save(tmp_path / "selection.json"))
    assert again.to_dict() == selection.to_dict()
    assert again.density == selection.density and again.trained == selection.trained


def test_heat_map_adds_up_to_the_selection() -> None:
    _, selection = analysed()
    heat = selection.heat_map()
    assert heat["layers"] == len(heat["share"]) == 3
    sizes = {m.module: m.shape[0] * m.shape[1] for m in selection.modules}
    size_of_place = {name.split(".", 4)[-1]: size for name, size in sizes.items()}
    total = sum(
        share * size_of_place[place]
        for row in heat["share"]
        for place, share in zip(heat["modules"], row, strict=True)
    )
    assert total == pytest.approx(sum(m.weights for m in selection.modules), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 7}, "version 1 or 2, got"),
        ({"modules": [{"module": "x"}]}, "damaged"),
        ({"format": "other"}, "expected sparseft.selection"),
    ],
)
def test_damaged_files(change: dict[str, object], message: str, tmp_path: Path) -> None:
    _, selection = analysed()
    path = selection.save(tmp_path / "s.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(SelectionError, match=message):
        Selection.load(path)
    path.write_text("{")
    with pytest.raises(SelectionError, match="expected JSON"):
        Selection.load(path)
