"""Drawings: labels keep clear of each other, nothing leaves the frame, the markup is sound."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.reporting.collect import collect
from sparseft.reporting.figures import cost_figure, study_figures
from sparseft.reporting.heat_map import _headings
from sparseft.reporting.summary import Study, summarise
from sparseft.reporting.svg import Box, place_labels, text_width, ticks
from sparseft.reporting.theme import FIGURE_STYLE, family_of, palette_css
from tests.report.results_factory import METHODS, write_results


def _study(folder: Path, **options: object) -> Study:
    write_results(folder, lr_scales=(1.0,), **options)  # type: ignore[arg-type]
    (study,) = summarise(collect(folder), resamples=100).studies
    return study


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(min_value=3, max_value=9))
def test_ticks_are_round_and_cover_the_range(low: float, span: float, about: int) -> None:
    found = ticks(low, low + span, about)
    step = found[1] - found[0]
    assert found[0] <= low + 1e-6 * step and found[-1] >= low + span - 1e-6 * step
    assert 2 <= len(found) <= about + 3
    assert all(b - a == pytest.approx(step) for a, b in itertools.pairwise(found))


@pytest.mark.parametrize("seed", range(4))
def test_labels_of_a_crowd_keep_clear_of_each_other(seed: int) -> None:
    import numpy as np

    rng = np.random.default_rng(seed)
    points = [(430 + 60 * float(a), 200 + 35 * float(b)) for a, b in rng.normal(size=(14, 2))]
    labels = [maker.name for maker in METHODS]
    bounds = Box(60, 16, 850, 450)
    spots = place_labels(points, labels, bounds)
    for label, spot in zip(labels, spots, strict=True):
        assert bounds.left <= spot.box.left and spot.box.right <= bounds.right
        assert bounds.top <= spot.box.top and spot.box.bottom <= bounds.bottom
        assert spot.box.right - spot.box.left == pytest.approx(text_width(label))
    for one, other in itertools.combinations(spots, 2):
        assert one.box.overlap(other.box) == 0.0
    covered = [spot.box.overlap(Box(x, y, x, y).grown(5)) for spot in spots for x, y in points]
    assert sum(area > 0 for area in covered) == 0
    assert spots == place_labels(points, labels, bounds)


def test_equal_points_and_a_label_wider_than_the_plot_are_placed() -> None:
    bounds = Box(0, 0, 200, 100)
    spots = place_labels([(50, 50), (50, 50)], ["one", "two"], bounds)
    assert spots[0].box.overlap(spots[1].box) == 0.0
    assert len(place_labels([(50, 50)], ["x" * 80], bounds)) == 1


def test_every_drawing_is_sound_xml_with_an_alternative_text(tmp_path: Path) -> None:
    study = _study(tmp_path)
    figures = study_figures(study)
    assert [figure.name for figure in figures[:3]] == [
        "trec-cost",
        "trec-seeds",
        "trec-selection-sparse",
    ]
    assert sum(figure.is_map for figure in figures) == 4
    for figure in figures:
        root = ElementTree.fromstring(figure.standalone(palette_css() + FIGURE_STYLE))
        assert root.attrib["role"] == "img"
        assert len(root.attrib["aria-label"]) > 40
        for node in root.iter("{http://www.w3.org/2000/svg}text"):
            assert 0 <= float(node.attrib["x"]) <= figure.width
            assert 0 <= float(node.attrib["y"]) <= figure.height
        for node in root.iter("{http://www.w3.org/2000/svg}circle"):
            assert 0 < float(node.attrib["cx"]) < figure.width
    drawn = figures[0].body
    for entry in study.methods:
        assert f">{entry.label}</text>" in drawn
    assert len(re.findall('class="dot"', figures[1].body)) == 14 * 3


def test_names_that_are_markup_stay_text(tmp_path: Path) -> None:
    paths = write_results(tmp_path, methods=METHODS[:1], lr_scales=(1.0,))
    for path in paths:
        path.write_text(path.read_text().replace('"sparse"', '"<b>&sparse"'))
    (study,) = summarise(collect(tmp_path), "<b>&sparse", resamples=50).studies
    for figure in study_figures(study):
        ElementTree.fromstring(figure.standalone(""))
        assert "<b>" not in figure.body


def test_without_full_finetuning_the_axis_is_in_milliseconds(tmp_path: Path) -> None:
    study = _study(tmp_path, methods=METHODS[:3], seeds=(0,))
    figure = cost_figure(study)
    assert "milliseconds" in figure.body and "relative to full" not in figure.body


def test_a_single_method_with_one_seed_can_be_drawn(tmp_path: Path) -> None:
    study = _study(tmp_path, methods=METHODS[:1], seeds=(0,))
    for figure in study_figures(study):
        assert "nan" not in figure.body and "inf" not in figure.body


def test_modules_that_a_layer_lacks_are_empty_frames(tmp_path: Path) -> None:
    for path in write_results(tmp_path, methods=METHODS[:1], lr_scales=(1.0,), layers=24):
        path.write_text(re.sub(r'("share": \[\s*\[\s*)[0-9.e-]+', r"\1null", path.read_text()))
    (study,) = summarise(collect(tmp_path), resamples=50).studies
    (figure,) = [figure for figure in study_figures(study) if figure.is_map]
    assert figure.body.count('class="frame"') == 1
    assert "layer 23" in figure.body and "nan" not in figure.body


@pytest.mark.parametrize(
    ("modules", "headings"),
    [
        (
            ["output.dense", "attention.output.dense", "attention.self.query"],
            [["output"], ["attention", "output"], ["attention", "query"]],
        ),
        (["self_attn.q_proj", "mlp.up_proj"], [["attn", "q proj"], ["mlp", "up proj"]]),
        (["a.dense", "a"], [["a", "dense"], ["a"]]),
        (["dense"], [["dense"]]),
    ],
)
def test_module_names_are_short_and_distinct(modules: list[str], headings: list[list[str]]) -> None:
    assert _headings(modules) == headings


def test_a_selection_and_its_equal_controls_share_a_map(tmp_path: Path) -> None:
    paths = write_results(tmp_path, methods=METHODS[:3], lr_scales=(1.0,))
    by_name = {path.parts[-3:-1]: path for path in paths}
    for seed in ("0-1", "1-1", "2-1"):
        source = json.loads(by_name["sparse", seed].read_text())
        record = json.loads(by_name["sparse_random", seed].read_text())
        record["selection"] = source["selection"]
        by_name["sparse_random", seed].write_text(json.dumps(record))
    (study,) = summarise(collect(tmp_path), resamples=50).studies
    maps = [figure for figure in study_figures(study) if figure.is_map]
    assert [figure.name for figure in maps] == [
        "trec-selection-sparse",
        "trec-selection-sparse-unweighted",
    ]
    assert maps[0].caption.startswith("sparse and sparse_random: percent")


def test_families_are_told_by_name() -> None:
    named = {maker.name: family_of(maker.name) for maker in METHODS}
    assert named["sparse"] == "sparse"
    assert named["sparse_random"] == named["sparse_half"] == "variant"
    assert named["lora_half"] == named["rslora"] == "adapter"
    assert named["layers_sensitivity"] == "layers"
    assert named["bitfit"] == named["prefix"] == named["shira"] == "light"
    assert family_of("sparse_random", is_reference=True) == "sparse"
