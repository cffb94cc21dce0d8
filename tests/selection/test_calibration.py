"""The calibration: what it measures, that it leaves no trace, and the file it becomes."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

import sparseft
from sparseft.errors import SelectionError
from sparseft.selection import layout_of, unit_groups
from sparseft.selection.calibration import Calibration, calibrate, parts
from sparseft.selection.calibration.cases import random_selection
from sparseft.selection.calibration.measure import calibration_batch, settings_of
from sparseft.sparse.fingerprint import base_hash
from tests.sparse.helpers import bits, same_bits
from tests.tiny import HIDDEN, INTERMEDIATE, LAYERS, tiny, tiny_batch

KINDS = [("neuron", "head"), ("row",), ("column",), ("block",), ("element",), ("embedding", "row")]


@cache
def calibrated(units: tuple[str, ...] = ("neuron", "head"), family: str = "bert") -> Calibration:
    model = tiny(family)
    batches = [tiny_batch(model, 4, 8, seed=s) for s in range(2)]
    return calibrate(model, batches, units=units, block_edge=8, seconds=0.0)


def by_hand(**changes: object) -> Calibration:
    """Every part takes a round number of milliseconds."""
    times = dict.fromkeys(parts.PARTS, 1.0)
    times |= {"forward": 10.0, "gradient": 20.0, "rows_weights": 3000.0, "columns_weights": 1000.0}
    made = replace(calibrated(), full_ms=200.0, forward_ms=31.0, parts_ms=times)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("units", KINDS)
def test_every_kind_of_unit_can_be_calibrated_and_priced(units: tuple[str, ...]) -> None:
    made, model = calibrated(units), tiny("bert")
    assert made.rounds >= 3 and made.full_ms > 0 and made.forward_ms > 0
    assert all(time >= 0.0 for time in made.parts_ms.values())
    assert made.held_out_error >= 0.0
    assert {case["held_out"] for case in made.cases} == {True, False}
    layout = layout_of(model)
    groups = unit_groups(layout, units, block_edge=8)
    cost = made.step_cost(layout, groups)
    fixed = [cost.fixed(cut) for cut in range(LAYERS)]
    assert fixed == sorted(fixed, reverse=True)
    assert all(cost.slope(g) >= 0.0 and cost.touch(g) >= 0.0 for g in groups)


@pytest.mark.parametrize("family", ["llama", "modernbert"])
def test_other_families(family: str) -> None:
    assert calibrated(family=family).full_ms > 0.0


def test_the_model_is_as_it_was() -> None:
    model = tiny("bert")
    model.backbone.embeddings.eval()
    model.head.train()
    next(model.parameters()).requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    classes = [type(module) for module in model.modules()]
    before, digest, random = bits(model), base_hash(model, ("head",)), torch.get_rng_state()
    calibrate(model, [tiny_batch(model, 4, 8)], seconds=0.0)
    assert same_bits(before, bits(model)) and digest == base_hash(model, ("head",))
    assert modes == [module.training for module in model.modules()]
    assert flags == [parameter.requires_grad for parameter in model.parameters()]
    assert classes == [type(module) for module in model.modules()]
    assert [p.grad is None for p in model.parameters()].count(False) == 1
    assert torch.equal(model.head.weight.grad, torch.ones_like(model.head.weight))
    assert torch.equal(random, torch.get_rng_state())
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_the_usual_batch_is_measured() -> None:
    model = tiny("bert")
    batches = [tiny_batch(model, 4, length) for length in (3, 9, 8, 20)]
    assert calibration_batch(batches)["input_ids"].shape == (4, 9)
    with pytest.raises(SelectionError, match="at least one batch"):
        calibrate(model, [])


@pytest.mark.parametrize("layers", [1, 2, 3, 6, 30])
def test_settings_are_distinct_and_some_are_held_out(layers: int) -> None:
    settings = settings_of(layers, ("neuron", "head"))
    assert len({s.name for s in settings}) == len(settings)
    assert all(0 <= s.cut < layers and (s.cut > 0 or not s.prefix_cache) for s in settings)
    assert sum(s.held_out for s in settings) >= 2
    assert sum(not s.held_out for s in settings) >= 3


def test_errors_name_what_is_wrong() -> None:
    model = tiny("bert")
    batch = tiny_batch(model, 4, 8)
    with pytest.raises(SelectionError, match="got 'neurone'"):
        calibrate(model, [batch], units=("neurone",))
    sparse = sparseft.sparsify(model, random_selection(model, ("row",), 0.1, 0, 8, 0),
                               verify_base=False)  # fmt: skip
    with pytest.raises(SelectionError, match="a plain model"):
        calibrate(sparse, [batch], seconds=0.0)


# --- prices -------------------------------------------------------------------------------------


def test_prices_of_cuts_and_units_follow_the_parts() -> None:
    layout = layout_of(tiny("bert"))
    groups = unit_groups(layout, ("neuron", "head"))
    made = by_hand(length=8)
    plain, cached = (made.step_cost(layout, groups, prefix_cache=c) for c in (False, True))
    # step, update, embedding: 1 ms each; 3 forward layers of 10 ms; 20 ms for each layer's gradient
    # but for what lies below query, key and value of the lowest: 3 H x H of 4 H x H + 2 H x I.
    first, whole = 3 * HIDDEN**2, 4 * HIDDEN**2 + 2 * HIDDEN * INTERMEDIATE
    attention = 4 * 8 * HIDDEN  # half of it, as the linears are counted
    lowest = 20.0 * (1.0 - first / (whole + attention))
    for cut in range(LAYERS):
        above = 20.0 * (LAYERS - 1 - cut)
        assert plain.fixed(cut) == pytest.approx(33.0 + above + lowest)
        saved = 1.0 + 10.0 * cut if cut else 0.0
        assert cached.fixed(cut) == pytest.approx(33.0 + above + lowest - saved)
    assert plain.fixed(-1) == pytest.approx(33.0 + 20.0 * LAYERS)
    assert plain.forward == pytest.approx(31.0) and cached.forward == 0.0
    neuron = next(g for g in groups if g.kind == "neuron")
    # A row of H + 1 numbers at 3000 ms a million, a column of H at 1000, all of them updated.
    numbers = 2 * HIDDEN + 1
    each = (3000.0 * (HIDDEN + 1) + 1000.0 * HIDDEN + 1.0 * numbers) / 1e6
    assert plain.slope(neuron) * neuron.size == pytest.approx(each)
    assert plain.touch(neuron) == pytest.approx(4.0)  # a row and a column module, and their updates


def test_units_of_the_upper_stages_alone_shorten_the_lowest_layer() -> None:
    layout = layout_of(tiny("bert"))
    costs = [
        by_hand().step_cost(layout, unit_groups(layout, kinds)).fixed(LAYERS - 1)
        for kinds in (("head",), ("neuron", "head"), ("neuron",))
    ]
    assert costs[0] == costs[1] > costs[2]


@pytest.mark.parametrize("prefix_cache", [False, True])
@pytest.mark.parametrize("depth", [1.0, 0.5])
def test_the_knapsack_and_the_prediction_of_its_choice_agree(
    depth: float, prefix_cache: bool
) -> None:
    model = tiny("bert")
    batches = [tiny_batch(model, 4, 8, seed=s) for s in range(2)]
    selection = sparseft.analyze(
        model, batches, budget=sparseft.Budget(density=0.2), depth=depth, cost=by_hand(),
        prefix_cache=prefix_cache,
    )  # fmt: skip
    assert selection.info["cost"] == "calibrated"
    predicted = by_hand().predict(model, selection, prefix_cache=prefix_cache) / 200.0
    assert selection.info["predicted_step_share"] == pytest.approx(predicted, abs=1e-4)
    assert 0.0 <= selection.info["optimality_gap"] < 0.5


def test_a_step_time_is_kept_in_milliseconds() -> None:
    model = tiny("bert")
    batches = [tiny_batch(model, 4, 8, seed=s) for s in range(2)]
    made = by_hand()
    for share in (0.4, 0.5, 0.6):
        budget = sparseft.Budget(step_time=share)
        selection = sparseft.analyze(model, batches, budget=budget, cost=made)
        assert made.predict(model, selection) <= share * 200.0 + 1e-6
    # Rows are dear here, so less is trained than by the count of FLOPs.
    dear = by_hand(parts_ms={**made.parts_ms, "rows_weights": 1e5})
    few = sparseft.analyze(model, batches, budget=sparseft.Budget(step_time=0.6), cost=dear)
    assert 0 < few.trained < selection.trained


# --- the file -----------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return calibrated().save(tmp_path / "calibration.json")


def test_round_trip(saved: Path) -> None:
    again = Calibration.load(saved)
    assert again == replace(calibrated(), cases=list(calibrated().cases))
    again.check(tiny("bert"), length=8.0)
    assert saved.stat().st_size < 20_000


@pytest.mark.parametrize(
    ("key", "value"),
    [("device", "abacus"), ("threads", 99), ("torch", "0.1"), ("dtype", "int4"), ("model", {})],
)
def test_a_calibration_of_something_else_is_refused(key: str, value: object) -> None:
    other = by_hand(key={**calibrated().key, key: value})
    with pytest.raises(SelectionError, match=f"expected a calibration of {key}="):
        other.check(tiny("bert"))
    with pytest.raises(SelectionError, match="calibrate again"):
        sparseft.analyze(
            tiny("bert"), [tiny_batch(tiny("bert"))], budget=sparseft.Budget(density=0.2),
            cost=other,
        )  # fmt: skip


def test_another_model_or_length_is_refused() -> None:
    with pytest.raises(SelectionError, match="model="):
        calibrated().check(tiny("llama"))
    with pytest.raises(SelectionError, match="dtype=bfloat16"):
        calibrated().check(tiny("bert").to(torch.bfloat16))
    calibrated().check(tiny("bert"), length=5.0)
    for length in (3.0, 20.0):
        with pytest.raises(SelectionError, match=f"about {length:.0f} tokens, got one with 8"):
            calibrated().check(tiny("bert"), length=length)


def test_units_that_were_not_calibrated_are_refused() -> None:
    layout = layout_of(tiny("bert"))
    with pytest.raises(SelectionError, match="expected a calibration of blocks"):
        calibrated().step_cost(layout, unit_groups(layout, ("block",), block_edge=8))


@pytest.mark.parametrize(
    "change",
    [{"version": 9}, {"format": "x"}, {"full_ms": 0}, {"parts_ms": {"step": -1}}, {"cases": [{}]}],
)
def test_damaged_files_are_refused(change: dict[str, object], saved: Path) -> None:
    saved.write_text(json.dumps({**json.loads(saved.read_text()), **change}))
    with pytest.raises(SelectionError, match="calibrate again"):
        Calibration.load(saved)


def test_missing_parts_of_a_file_are_refused(saved: Path) -> None:
    content = json.loads(saved.read_text())
    del content["length"]
    saved.write_text(json.dumps(content))
    with pytest.raises(SelectionError, match="damaged"):
        Calibration.load(saved)
    saved.write_text("[")
    with pytest.raises(SelectionError, match="expected JSON"):
        Calibration.load(saved)
