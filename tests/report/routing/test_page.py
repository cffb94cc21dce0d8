"""The routing page: its sentences and figures, and how it looks in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from sparseft.config import RunConfig
from sparseft.reporting.routing import write_routing_page
from sparseft.routing.scores import Measured, figures_of, resample
from sparseft.training.routing import CHOSEN, RoutedRun
from tests.report.compliance.browser import Browser, browser, find_browser

needs_browser = pytest.mark.skipif(
    find_browser() is None, reason="needs Chromium: install `chromium`"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RoutedRun:
    """Made-up figures of three routers at three rates over forty turns."""
    rng = np.random.default_rng(0)
    rates = (0.0, 0.5, 1.0)
    small, large = rng.random(40) < 0.5, rng.random(40) < 0.8

    def measured(wanted: np.ndarray) -> Measured:
        up = np.stack([wanted < rate for rate in rates])
        return Measured(np.where(up, large, small), up, np.where(up, 10.0, 1.0))

    def alone(right: np.ndarray, up: bool) -> Measured:
        return Measured(right[None], np.full((1, 40), up), np.full((1, 40), 10.0 if up else 1.0))

    ends = {
        "small alone": alone(small, False),
        "large alone": alone(large, True),
        "oracle": Measured((small | large)[None], large[None] & ~small[None], np.ones((1, 40))),
    }
    curves = {
        CHOSEN: measured(np.argsort(np.argsort(small & ~large)) / 40),
        "random": measured(rng.random(40)),
        "weighted_knn": measured(rng.random(40)),
    }
    groups = [f"d{k // 4}" for k in range(40)]
    figures = figures_of(curves, ends, 1, resample(groups, 20, seed=0))
    config = RunConfig.from_mapping(
        {
            "experiment": "test",
            "model": {"name": "tiny", "layers": 1},
            "data": {"name": "<made up>", "kind": "turns"},
            "method": {"name": "none"},
            "task": {"name": "routing", "routing": {"rates": rates, "budget": 0.5}},
        }
    )
    turns = [
        {
            "dialogue_id": f"d{k}", "turn_id": k, "system": "Hello & welcome", "user": "<b>hi</b>",
            "router": "random", "score": None if k else 0.5, "threshold": 0.1, "model": "large",
            "delta": {"a-b": "c"}, "right_turn": k % 2 == 0, "right_state": False,
        }
        for k in range(40)
    ]  # fmt: skip
    latency = {"random": (0.1, 0.2), "weighted_knn": (5.25, 9.0)}
    folder = tmp_path_factory.mktemp("page")
    names = ("little <i>", "big")
    return RoutedRun(config, names, figures, ends, "flops", latency, turns, {}, folder)


def test_the_page_says_what_was_found(run: RoutedRun) -> None:
    page, *drawings = write_routing_page(run)
    text = page.read_text()
    lead = run.figures[0]
    for words in (
        f"With {100 * lead.share:.1f}% of the turns to big",
        f"joint goal accuracy of {100 * lead.quality:.1f}%",
        f"{100 * lead.cost:.1f}% of the large model",
        "weighted knn",
        "5.2, 9.0",
        "compared as written",
        "24 of 40",
        "Random sends turns to the large model by chance.",
        "either model alone",
        "little &lt;i&gt; and big",
        "&lt;b&gt;hi&lt;/b&gt;",
    ):
        assert words in text, words
    assert "<b>hi" not in text and "<i>" not in text and "<script" not in text
    assert [path.name for path in drawings] == ["quality-share.svg", "quality-cost.svg"]
    assert all("http" not in p.read_text().replace("http://www.w3.org", "") for p in drawings)


def test_what_is_not_defined_is_a_dash(run: RoutedRun) -> None:
    nan = float("nan")
    broken = [
        replace(each, aiq=nan, aiq_interval=(nan, nan), apgr=nan, cpt50=nan, gap_closed=nan)
        for each in run.figures
    ]
    text = write_routing_page(replace(run, figures=broken, latency={}))[0].read_text()
    assert "nan" not in text and "largest AIQ" not in text


_TOO_WIDE = """
[...document.querySelectorAll("body *")]
  .filter(each => each.getBoundingClientRect().right > innerWidth + 1)
  .filter(each => !each.closest(".scroll, .plot"))
  .map(each => each.tagName + "." + each.className)
"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@needs_browser
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_nothing_is_too_wide_and_nothing_fails(
    run: RoutedRun, tab: Browser, width: int, scheme: str
) -> None:
    tab.open(write_routing_page(run)[0], width, 900, scheme)
    assert tab.run("document.documentElement.scrollWidth") == width
    assert tab.run(_TOO_WIDE) == []
    assert tab.run("document.querySelectorAll('svg.figure').length") == 2
    assert tab.problems == []
