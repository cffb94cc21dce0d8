"""Matching against a loop over rows, positions and constructs; saliency; cards."""

from __future__ import annotations

import html
from html.parser import HTMLParser

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparseft.constructs import (
    Construct,
    Constructs,
    Example,
    construct_saliency,
    html_card,
    markdown_card,
)
from sparseft.errors import ConfigError

LABELS = ("a", "b", "c")

group = st.one_of(
    st.tuples(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple), st.none()),
    st.tuples(st.tuples(st.integers(1, 4), st.integers(1, 4)), st.integers(1, 3)),
)
constructs_strategy = st.lists(st.tuples(group, st.sampled_from(LABELS)), max_size=8)
batches = st.integers(1, 9).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(0, 5), min_size=width, max_size=width), min_size=1, max_size=4
    )
)


def constructs_of(groups: list[tuple[tuple[tuple[int, ...], int | None], str]]) -> Constructs:
    items = [
        Construct(tokens, gap, "x", label, float(len(groups) - n), 0.01, 3, 4, 1.0)
        for n, ((tokens, gap), label) in enumerate(dict.fromkeys(groups))
    ]
    return Constructs(tuple(items), LABELS)


def covered(row: list[int], construct: Construct) -> set[int]:
    """The positions that occurrences of one construct cover."""
    found: set[int] = set()
    for start in range(len(row)):
        if construct.gap is None:
            end = start + len(construct.tokens)
            if tuple(row[start:end]) == construct.tokens:
                found |= set(range(start, end))
            continue
        for end in range(start + 2, min(len(row), start + construct.gap + 2)):
            if (row[start], row[end]) == construct.tokens:
                found |= {start, end}
    return found


@given(constructs_strategy, batches)
def test_match_names_the_strongest_construct(groups: list, rows: list[list[int]]) -> None:
    constructs = constructs_of(groups)
    found = constructs.match(torch.tensor(rows))
    for row, got in zip(rows, found.tolist(), strict=True):
        expected = [-1] * len(row)
        for number in reversed(range(len(constructs))):
            for position in covered(row, constructs[number]):
                expected[position] = number
        assert got == expected


@given(constructs_strategy, batches, st.integers(0, 1000), st.sampled_from(["membership", "score"]))
def test_saliency_follows_the_row_s_own_classes(
    groups: list, rows: list[list[int]], seed: int, weight: str
) -> None:
    constructs = constructs_of(groups)
    ids = torch.tensor(rows)
    generator = torch.Generator().manual_seed(seed)
    hot = torch.randint(0, 2, (len(rows), 3), generator=generator)
    one = torch.randint(0, 3, (len(rows),), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, -1] = 0
    for labels in (None, one, hot):
        found = construct_saliency(ids, mask, constructs, labels, weight, background=0.0)
        for n, row in enumerate(rows):
            own = set(range(3))
            if labels is not None:
                own = {int(one[n])} if labels is one else set(hot[n].nonzero()[:, 0].tolist())
            real = int(mask[n].sum())
            raw = torch.zeros(len(row))
            for construct in constructs:
                if LABELS.index(construct.label) in own:
                    for position in covered(row[:real], construct):
                        value = construct.score if weight == "score" else 1.0
                        raw[position] = max(float(raw[position]), value)
            if raw.sum() == 0:
                raw[:real] = 1
            expected = raw / raw.sum() * real if real else raw
            assert torch.allclose(found[n], expected, atol=1e-5)


def test_a_background_weighs_the_other_tokens() -> None:
    constructs = constructs_of([(((1, 2), None), "a")])
    ids = torch.tensor([[1, 2, 3, 3, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0]])
    found = construct_saliency(ids, mask, constructs, background=0.5)
    assert found.tolist() == [pytest.approx([4 / 3, 4 / 3, 2 / 3, 2 / 3, 0])]
    with pytest.raises(ConfigError, match="background"):
        construct_saliency(ids, mask, constructs, background=-1.0)
    with pytest.raises(ConfigError, match="membership"):
        construct_saliency(ids, mask, constructs, weight="luck")  # type: ignore[arg-type]


def test_ids_beyond_the_constructs_and_padding_match_nothing() -> None:
    constructs = constructs_of([(((1,), None), "a"), (((1, 3), 2), "b")])
    ids = torch.tensor([[10**9, 1, 2, 3], [1, -100, 1, 0]])
    assert constructs.match(ids).tolist() == [[-1, 0, -1, 1], [0, -1, 0, -1]]
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    assert constructs.match(ids, mask).tolist() == [[-1, 0, -1, -1], [0, -1, -1, -1]]
    assert constructs.match(torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0)


def _construct(text: str, spans: tuple[tuple[int, int], ...], label: str) -> Construct:
    shown = " … ".join(text[a:b] for a, b in spans)
    gap = 3 if len(spans) == 2 else None
    return Construct(
        (1, 2), gap, shown, label, 3.14159, 1e-9, 12, 34, 0.98, (Example(text, spans),)
    )


@pytest.fixture
def card() -> Constructs:
    return Constructs(
        (
            _construct("pay *me* | <b>now</b>", ((4, 8),), "a"),
            _construct("where is my card", ((0, 5), (12, 16)), "b"),
            _construct("where are you", ((6, 9),), "b"),
        ),
        LABELS,
        data_name="my data",
        data_hash="d" * 64,
        tokenizer_hash="t" * 64,
        settings={"longest": 4},
        counts={"texts": 1234},
    )


def test_the_markdown_card_marks_constructs_and_escapes_texts(card: Constructs) -> None:
    page = markdown_card(card, per_label=1)
    assert page.startswith("# Constructs of my data\n")
    assert r"| \*me\* | 3.14 | 1e-09 | 12 | 34 | 0.98 | pay **\*me\*** \| \<b\>now\</b\> |" in page
    assert "| where … card | " in page and "**where** is my **card** |" in page
    assert "1 more in the file" in page and "are you" not in page
    assert page.count("No construct.") == 1  # of class c
    assert "texts 1,234" in page


def test_the_html_card_is_well_formed_and_marks_constructs(card: Constructs) -> None:
    page = html_card(card)
    assert "pay <mark>*me*</mark> | &lt;b&gt;now&lt;/b&gt;" in page

    class Parser(HTMLParser):
        open_tags: list[str] = []  # noqa: RUF012  one parser
        text = ""

        def handle_starttag(self, tag: str, attrs: list) -> None:
            if tag not in ("meta", "!doctype"):
                self.open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            # `li`, `p` and the like are all closed here.
            assert self.open_tags.pop() == tag

        def handle_data(self, data: str) -> None:
            self.text += data

    parser = Parser()
    parser.feed(page)
    assert parser.open_tags == [] and "<nav>" not in page
    assert "where is my card" in parser.text and "http" not in page


def test_many_classes_begin_with_links_to_them(card: Constructs) -> None:
    many = Constructs(card.items, (*card.labels, *(f"class <{n}>" for n in range(1000))))
    page = html_card(many)
    for number, label in enumerate(many.labels):
        assert f'<a href="#class-{number}">{html.escape(label)} <small>' in page
        assert f'<h2 id="class-{number}">{html.escape(label)}</h2>' in page
