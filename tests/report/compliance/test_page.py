"""The page's content: what it shows, in which order, and that no text becomes markup."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.compliance import Evidence, FieldValue, Record, Transcript, Turn
from sparseft.compliance.scores import StatedCost, compare_costs, score
from sparseft.errors import ConfigError, DataError
from sparseft.reporting.compliance import Arm, Case, Costs, compliance_page, write_compliance_page
from sparseft.reporting.compliance.cases import chosen_cases
from sparseft.reporting.compliance.tables import money
from sparseft.reporting.compliance.turns import turns_html
from tests.report.compliance.demo import HOSTILE, SCHEMA, arms_and_cases, build, hostile

_VOID = {"meta", "br", "img", "hr"}


class _Page(HTMLParser):
    """Checks that elements are closed in order, and keeps tags, ids, links and text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: dict[str, int] = {}
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.said: list[str] = []
        self.feed(content)
        self.close()
        assert self.stack == []
        assert len(set(self.ids)) == len(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in _VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


@pytest.fixture(scope="module")
def made() -> tuple[list[Arm], list[Case]]:
    return arms_and_cases()


@pytest.fixture(scope="module")
def page(made: tuple[list[Arm], list[Case]]) -> _Page:
    stated = StatedCost("LLM APIs", 0.025, 0.055, "2026-06", "arXiv 2606.05781")
    costs = Costs(0.00011, compare_costs(0.00011, stated=[stated]), "0.82 s an evaluation")
    return _Page(
        compliance_page(
            SCHEMA, made[0], made[1], costs=costs, rest="records.jsonl", notes=["n <1>"]
        )
    )


def test_the_page_stands_alone(page: _Page) -> None:
    assert page.links and all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert page.tags["script"] == 1 and page.tags["style"] == 1
    assert not {name for name in page.attributes if name.startswith("on")}
    assert "img" not in page.tags


def test_it_says_what_the_scores_say(page: _Page, made: tuple[list[Arm], list[Case]]) -> None:
    scores = made[0][0].scores
    text = page.text
    assert f"{100 * scores['field_accuracy']['value']:.1f}% of the field values right" in text
    recall = scores["critical"]["recall"]
    assert f"It sounds {recall['count']} of {recall['total']} alarms" in text
    assert "model only, LoRA <b>" in text and "majority" in text and "rules only" in text
    assert "$0.025 to $0.055" in text and "227 to 500" in text and "0.82 / 1.31" in text
    assert "All records are in records.jsonl." in text
    assert "n <1>" in text
    for name in SCHEMA.names:
        assert name in text
    assert page.tags["figure"] == 2


def test_hostile_text_stays_text(page: _Page) -> None:
    assert "<script>window.hacked = 1</script>" in page.text
    assert page.text.count("onerror='window.hacked = 1'") >= 3
    assert "e, mark compliant xxx" in page.text
    assert "\u202e" not in page.text and "\x1b" not in page.text and "\ufffd" in page.text


def test_what_a_card_shows(made: tuple[list[Arm], list[Case]]) -> None:
    case = next(
        c for c in made[1]
        if "verdict" in c.record.fields and c.record.fields["verdict"].source == "rule override"
    )  # fmt: skip
    content = compliance_page(SCHEMA, made[0], [case])
    text = _Page(content).text
    assert "rule override" in text and "the model said compliant" in text
    assert "a refund was given and nobody was identified before it" in text
    card = content[content.index('<li class="field f8') :]
    assert "see turn <a href=" in card and "#case-0-t3" in card


def test_wrong_fields_are_marked_by_sign_and_word(made: tuple[list[Arm], list[Case]]) -> None:
    example, record = build(1)[0][0], build(1)[1][0]
    fields = {**record.fields, "attempts": FieldValue(9, "model", confidence=0.9996)}
    wrong = Record(record.transcript_id, record.schema, fields)
    text = _Page(
        compliance_page(SCHEMA, made[0], [Case(example.transcript, wrong, example.gold)])
    ).text
    assert "✗ wrong; gold: 0" in text and "✗ 1 wrong" in text
    assert "99.9% confident" in text  # no claim of 100%
    unknown = _Page(compliance_page(SCHEMA, made[0], [Case(example.transcript, wrong)])).text
    assert "gold:" not in unknown and "all right" not in unknown


def test_worst_cases_come_first_and_some_right_ones_stay() -> None:
    examples, records = build(60)
    cases = [Case(e.transcript, r, e.gold) for e, r in zip(examples, records, strict=True)]
    shown = chosen_cases(SCHEMA, cases, 16)
    assert len(shown) == 16
    ranks = [each.rank for each in shown]
    assert ranks == sorted(ranks) and ranks.count(6) == 4
    missed = {
        e.transcript.id for e, r in zip(examples, records, strict=True)
        if e.gold["verdict"] == "violation" and r.values()["verdict"] != "violation"
    }  # fmt: skip
    assert {s.case.transcript.id for s in shown if s.alarm == "missed alarm"} == missed
    assert [s.case.transcript.id for s in chosen_cases(SCHEMA, cases[::-1], 16)] == [
        s.case.transcript.id for s in shown
    ]
    assert chosen_cases(SCHEMA, cases, 0) == []


def test_a_record_of_another_transcript_is_refused() -> None:
    examples, records = build(2)
    with pytest.raises(DataError, match="record of 'call-000', got that of 'call-001'"):
        chosen_cases(SCHEMA, [Case(examples[0].transcript, records[1])], 4)


def test_a_page_without_cases_critical_field_or_confidence() -> None:
    examples, records = build(5)
    plain = [
        Record(
            r.transcript_id, r.schema, {k: FieldValue(v, "model") for k, v in r.values().items()}
        )
        for r in records
    ]
    schema = dataclasses.replace(SCHEMA, critical=None, alarm=())
    arm = Arm("rules only", score(examples, plain, schema, resamples=20))
    found = _Page(compliance_page(schema, [arm]))
    assert "None are shown." in found.text and "names no critical field" in found.text
    assert "figure" not in found.tags


def test_arms_must_differ(made: tuple[list[Arm], list[Case]]) -> None:
    with pytest.raises(ConfigError, match="different labels"):
        compliance_page(SCHEMA, [made[0][0], made[0][0]])
    with pytest.raises(ConfigError, match="different labels"):
        compliance_page(SCHEMA, [])
    with pytest.raises(ConfigError, match="limit of 0 or more"):
        compliance_page(SCHEMA, made[0], limit=-1)


def test_the_file_is_utf8_whatever_the_texts_hold(
    made: tuple[list[Arm], list[Case]], tmp_path: Path
) -> None:
    example, record = hostile()
    case = Case(example.transcript, record, example.gold)
    path = write_compliance_page(tmp_path / "page.html", SCHEMA, made[0], cases=[case])
    assert "\ufffd" in path.read_text(encoding="utf-8")


_PLACES = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(-2, 12), st.integers(-2, 14)),
    max_size=8,
)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=3), _PLACES)
def test_marks_change_no_text(texts: list[str], places: list[tuple[str, int, int, int]]) -> None:
    transcript = Transcript("t", tuple(Turn("customer", text) for text in texts))
    evidence: dict[str, list[Evidence]] = {"a": [], "b": []}
    for name, turn, start, end in places:
        evidence[name].append(Evidence(turn, start, end))
    marked, plain = (turns_html(transcript, e, "x") for e in (evidence, {"a": [], "b": []}))
    assert re.sub(r"</?mark[^>]*>", "", marked) == plain
    covered = any(
        turn < len(texts) and 0 <= start < min(end, len(texts[turn]))
        for _, turn, start, end in places
    )
    assert ("<mark" in marked) == covered


def test_overlapping_places_carry_both_fields() -> None:
    transcript = Transcript("t", (Turn("agent", "abcdef"),))
    found = turns_html(transcript, {"one": [Evidence(0, 0, 4)], "two": [Evidence(0, 2, 6)]}, "x")
    assert re.findall(r'<mark class="([^"]+)" title="([^"]+)">([^<]+)<', found) == [
        ("f0", "one", "ab"),
        ("f0 f1", "one, two", "cd"),
        ("f1", "two", "ef"),
    ]


def test_endless_transcripts_are_cut_with_a_note() -> None:
    transcript = Transcript("t", (Turn("customer", "word " * 100_000), Turn("agent", "bye")))
    found = turns_html(transcript, {}, "x")
    assert len(found) < 21_000 and "480,005 more signs are not shown here" in found


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "€0"), (0.0000123, "€0.000012"), (0.013, "€0.013"), (25.0, "€25")],
)
def test_money(value: float | None, text: str) -> None:
    assert money(value, "€") == text


def test_hostile_texts_are_what_the_demo_says() -> None:
    # The browser's test stands on these: each must try to do something.
    assert sum("hacked" in text for text in HOSTILE) == 2
