"""The page in a real browser: no errors, nothing too wide; pointer, keyboard and print work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sparseft.reporting.compliance import write_compliance_page
from tests.report.compliance.browser import Browser, browser, find_browser
from tests.report.compliance.demo import SCHEMA, arms_and_cases

pytestmark = [
    pytest.mark.skipif(find_browser() is None, reason="needs Chromium: install `chromium`"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arms, cases = arms_and_cases()
    path = tmp_path_factory.mktemp("page") / "page.html"
    return write_compliance_page(path, SCHEMA, arms, cases=cases, limit=12)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


_TOO_WIDE = """
[...document.querySelectorAll("body *")]
  .filter(each => each.getBoundingClientRect().right > innerWidth + 1)
  .filter(each => !each.closest(".scroll, .plot"))
  .map(each => each.tagName + "." + each.className)
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 700, 390, 320])
def test_nothing_is_too_wide_and_nothing_fails(
    tab: Browser, page: Path, width: int, scheme: str
) -> None:
    tab.open(page, width, 900, scheme)
    tab.run('document.querySelectorAll("details").forEach(each => each.open = true)')
    assert tab.run("document.documentElement.scrollWidth") == width
    assert tab.run(_TOO_WIDE) == []
    ground = tab.run("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(250, 246, 239)", "dark": "rgb(23, 20, 17)"}[scheme]
    assert tab.problems == []
    assert tab.run("window.hacked === undefined")


_MARKED = """
[...document.querySelectorAll("mark")]
  .filter(each => getComputedStyle(each).outlineStyle === "solid")
  .map(each => each.textContent)
"""


def _first_with_places(tab: Browser) -> None:
    """Open the case with the kettle's e-mail address, alone."""
    tab.run(
        """(() => {
      for (const each of document.querySelectorAll("details")) each.open = false;
      window.shown = [...document.querySelectorAll("details.case")].find(
        each => each.querySelector("summary .id").textContent.startsWith("call-0"));
      shown.open = true;
      shown.scrollIntoView();
    })()"""
    )


def test_a_field_under_the_pointer_shows_its_places(tab: Browser, page: Path) -> None:
    tab.open(page, 1280, 900)
    _first_with_places(tab)
    assert tab.run(_MARKED) == []
    where = tab.run(
        '(r => [r.x + 20, r.y + 10])(shown.querySelector(".field.f2").getBoundingClientRect())'
    )
    tab.point(*where)
    assert tab.run(_MARKED) == ["ann.lee@mail.example"]
    tab.point(5, 5)
    assert tab.run(_MARKED) == []


def test_a_place_under_the_pointer_shows_its_field(tab: Browser, page: Path) -> None:
    tab.open(page, 1280, 900)
    _first_with_places(tab)
    where = tab.run(
        '(r => [r.x + 5, r.y + 5])(shown.querySelector("mark.f2").getBoundingClientRect())'
    )
    shadow = 'getComputedStyle(shown.querySelector(".field.f2")).boxShadow'
    assert tab.run(shadow) == "none"
    tab.point(*where)
    assert tab.run(shadow) != "none"
    tab.point(5, 5)


def test_a_chosen_field_stays_marked_by_keyboard(tab: Browser, page: Path) -> None:
    tab.open(page, 1280, 900)
    _first_with_places(tab)
    tab.run('shown.querySelector("summary").focus()')
    tab.press("Tab")
    assert tab.run("document.activeElement.className") == "pin"
    name = tab.run("document.activeElement.textContent")
    tab.press("Enter")
    assert tab.run('document.activeElement.getAttribute("aria-pressed")') == "true"
    tab.run("document.activeElement.blur()")
    assert name == "intent" and set(tab.run(_MARKED)) == {"refund"}
    tab.run('shown.querySelector(".pin").click()')
    assert tab.run(_MARKED) == []


def test_links_open_the_case_they_lead_to(tab: Browser, page: Path) -> None:
    tab.open(page, 1280, 900)
    assert tab.run('document.querySelectorAll("details[open]").length') == 1
    tab.run("document.querySelector(\".index a[href='#case-4']\").click()")
    tab.run("new Promise(done => setTimeout(done, 100))")
    assert tab.run('document.getElementById("case-4").closest("details").open')
    top = tab.run(
        'document.getElementById("case-4").closest("details").getBoundingClientRect().top'
    )
    assert -5 <= top < 900


def test_all_cases_are_printed(tab: Browser, page: Path, tmp_path: Path) -> None:
    tab.open(page, 1280, 900)
    tab.pdf(tmp_path / "page.pdf")
    # A landscape A4 page between its margins.
    tab.open(page, 1038, 700)
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.run("document.documentElement.scrollWidth") == 1038
    tab.run('dispatchEvent(new Event("beforeprint"))')
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    closed = tab.run('document.querySelectorAll("details:not([open])").length')
    assert closed == 0
    assert tab.problems == []
