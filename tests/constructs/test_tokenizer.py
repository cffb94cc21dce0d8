"""The extended tokenizer: constructs are tokens, and every other token stays what it was."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from sparseft.constructs import (
    Construct,
    Constructs,
    ExtendedTokenizer,
    extend_tokenizer,
    fingerprint,
    length_saving,
)
from sparseft.errors import ConfigError, DataError, ModelError
from tests.constructs.helpers import CORPUS, KINDS, constructs_of, ids_of, make_tokenizer

SPACED = ("bytelevel", "llama3")  # a token begins with its space

PHRASES = (
    "pay me",
    "pay me back",
    "exchange rate",
    "contactless card",
    "contactless",
    "the exchange rate",
    "my money",
    "how do I",
    "top-up",
    "100 euros",
    "card?",
    "today",
)

each_kind = pytest.mark.parametrize("kind", KINDS)


@cache
def base_of(kind: str) -> Any:
    return make_tokenizer(kind)


@cache
def extended_of(kind: str) -> ExtendedTokenizer:
    tokenizer = base_of(kind)
    listed = [f" {phrase}" if kind in SPACED else phrase for phrase in PHRASES]
    listed += ["please pay me", "what is"] if kind in SPACED else []
    texts = [text for text in listed if len(ids_of(tokenizer, text)) > 1]
    return extend_tokenizer(tokenizer, constructs_of(tokenizer, texts), CORPUS)


# Texts of what constructs are made of, of what may stand beside them, and of anything at all.
fragments = st.sampled_from(
    [
        *[f" {phrase}" for phrase in PHRASES],
        *PHRASES,
        *(
            " ",
            "  ",
            "\n",
            "\t",
            "\r\n",
            "\u00a0",
            "\u2003",
            "▁",
            "_",
            "'",
            "’",
            "'s",
            "-",
            ".",
            "?",
        ),
        *(
            "!",
            ",",
            "(",
            ")",
            "€",
            "™",
            "½",
            "²",
            "é",
            "e\u0301",
            "\u200d",
            "中",
            "😀",
            "1",
            "00",
            "s",
            "ed",
        ),
        *(
            "X",
            "PAY ME",
            "Pay Me",
            "contactlessness",
            "paying",
            "[SEP]",
            "[UNK]",
            "##",
            "Ġ",
            "\ue000",
        ),
        *("\x00", "\u0600", "a\u0301\u0302", "ß", "İ", "ﬁ", "\u1b4e", "\u2e5d"),
    ]
)
texts_strategy = st.one_of(
    st.lists(st.one_of(fragments, st.text(max_size=3)), max_size=12).map("".join), st.text()
)


@each_kind
@given(text=texts_strategy)
@example(text=".  pay me   pay me")
@example(text="pay me€ pay me5 pay me's pay me_x pay me.5 pay me")
@example(text="the exchange rate?exchange rate")
def test_new_tokens_stand_for_their_pieces_in_any_text(kind: str, text: str) -> None:
    extended = extended_of(kind)
    new = ids_of(extended.tokenizer, text)
    assert tuple(extended.expanded(new)) == ids_of(base_of(kind), text)
    # So a text that holds no construct's pieces in a row is read as before.
    old = ids_of(base_of(kind), text)
    rows = {old[i : i + len(p)] for p in extended.pieces.values() for i in range(len(old))}
    if not rows & set(extended.pieces.values()):
        assert new == old


@each_kind
@given(text=texts_strategy)
def test_decoding_gives_the_text_that_it_gave(kind: str, text: str) -> None:
    extended, base = extended_of(kind), base_of(kind)
    before = base.decode(ids_of(base, text))
    after = extended.tokenizer.decode(ids_of(extended.tokenizer, text))
    if kind in ("wordpiece", "wordlevel"):
        # These lose white space; a construct gives back what it has inside ("top-up").
        assert "".join(after.split()) == "".join(before.split())
    else:
        assert after == before


@pytest.mark.parametrize("kind", SPACED)
def test_byte_level_decoding_gives_the_very_text(kind: str) -> None:
    for text in (*CORPUS, "  pay me\n\npay me back  ", "café 中文 pay me"):
        ids = ids_of(extended_of(kind).tokenizer, text)
        assert extended_of(kind).tokenizer.decode(ids) == text


@each_kind
def test_constructs_become_tokens(kind: str) -> None:
    extended = extended_of(kind)
    names = {name.replace("▁", " ").strip() for name in extended.names.values()}
    expected = {
        "pay me",
        "pay me back",
        "exchange rate",
        "the exchange rate",
        "my money",
        "what is",
    }
    assert names >= expected - ({"what is"} if kind not in SPACED else set())
    by_name = {name.replace("▁", " ").strip(): n for n, name in extended.names.items()}
    ids = ids_of(extended.tokenizer, "so pay me back the exchange rate")
    # The longest construct is taken.
    assert [i for i in ids if i in extended.pieces] == [
        by_name["pay me back"],
        by_name["the exchange rate"],
    ]
    assert set(extended.pieces) == set(range(extended.first, extended.first + len(extended.pieces)))
    assert len(extended.tokenizer) == len(base_of(kind)) + len(extended.pieces)
    for number, uses in extended.uses.items():
        counted = sum(ids_of(extended.tokenizer, text).count(number) for text in CORPUS)
        assert uses == counted > 0


def test_wordpiece_constructs_ignore_case_and_accents_and_stop_at_words() -> None:
    extended = extended_of("wordpiece")
    pay = next(n for n, name in extended.names.items() if name == "pay me")
    word = next(n for n, name in extended.names.items() if name == " contactless")
    tokenizer = extended.tokenizer
    assert pay in ids_of(tokenizer, "PAY Mé, please")
    assert word in ids_of(tokenizer, "a CONTACTLESS one")
    for text in ("pay metres", "repay me", "contactlessness", "xcontactless", "pay me€"):
        assert not set(ids_of(tokenizer, text)) & set(extended.pieces), text
    assert tokenizer.decode(ids_of(tokenizer, "my contactless card, top-up")) == (
        "my contactless card, top-up"
    )


@pytest.mark.parametrize("kind", SPACED)
def test_byte_level_constructs_keep_case_and_stop_at_words(kind: str) -> None:
    extended = extended_of(kind)
    pay = next(n for n, name in extended.names.items() if name == " pay me")
    assert pay in ids_of(extended.tokenizer, "to pay me. Now")
    for text in ("to Pay me", "pay me", "to pay metres", "to repay me", "to pay  me", "to pay me5"):
        assert pay not in ids_of(extended.tokenizer, text), text


@each_kind
def test_special_tokens_and_padding_stay(kind: str) -> None:
    base, extended = base_of(kind), extended_of(kind).tokenizer
    assert extended.special_tokens_map == base.special_tokens_map
    assert extended.all_special_ids == base.all_special_ids
    batch = extended(["pay me back today and then", "x"], padding=True)
    assert batch["input_ids"][0][0] == base.cls_token_id
    assert batch["input_ids"][1][-1] == base.pad_token_id
    assert batch["attention_mask"][1][-1] == 0
    assert extended.padding_side == base.padding_side
    assert extended.model_max_length == base.model_max_length
    assert extended.model_input_names == base.model_input_names


@each_kind
def test_a_saved_folder_loads_as_any_tokenizer(kind: str, tmp_path: Path) -> None:
    extended = extended_of(kind)
    extended.tokenizer.save_pretrained(tmp_path)
    # As beside a model: its config must not bring back the family's own tokenizer.
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in CORPUS:
        assert ids_of(again, text) == ids_of(extended.tokenizer, text)
        assert again.decode(again(text)["input_ids"]) == extended.tokenizer.decode(
            extended.tokenizer(text)["input_ids"]
        )
    assert fingerprint(again) == fingerprint(extended.tokenizer)
    assert again.special_tokens_map == extended.tokenizer.special_tokens_map


def test_a_process_without_sparseft_reads_the_folder(tmp_path: Path) -> None:
    tokenizer = extended_of("wordpiece").tokenizer
    tokenizer.save_pretrained(tmp_path)
    code = (
        "import sys; from transformers import AutoTokenizer\n"
        f"t = AutoTokenizer.from_pretrained({str(tmp_path)!r})\n"
        "print(t('pay me back')['input_ids'], any('sparseft' in m for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == f"{tokenizer('pay me back')['input_ids']} False", done.stderr


@each_kind
def test_the_original_stays_and_can_be_extended_twice(kind: str) -> None:
    base, once = base_of(kind), extended_of(kind)
    before = fingerprint(base)
    more = " a fee" if kind in SPACED else "a fee"
    constructs = constructs_of(once.tokenizer, [more])
    twice = extend_tokenizer(once.tokenizer, constructs, CORPUS)
    assert fingerprint(base) == before
    assert len(twice.pieces) == 1
    text = "is there a fee to pay me back"
    ids = ids_of(twice.tokenizer, text)
    assert ids_of(once.tokenizer, text) == tuple(twice.expanded(ids)) != ids


def test_what_cannot_be_a_token_is_skipped_with_its_reason() -> None:
    tokenizer = make_tokenizer("wordpiece")
    exchange = ids_of(tokenizer, "contactless")
    vocabulary = {number: token for token, number in tokenizer.get_vocab().items()}
    assert vocabulary[exchange[1]].startswith("##")
    constructs = constructs_of(tokenizer, ["pay me", "[SEP] pay me", "money today never"])
    items = [
        *constructs,
        Construct(exchange[1:], None, "inside", "a", 1.0, 0.0, 1, 1, 1.0),
        Construct((10**6, 7), None, "unknown", "a", 1.0, 0.0, 1, 1, 1.0),
        Construct((*exchange, *exchange[1:]), None, "contactless", "a", 1.0, 0.0, 1, 1, 1.0),
        Construct(ids_of(tokenizer, "my card"), 3, "gapped", "a", 1.0, 0.0, 1, 1, 1.0),
        Construct(exchange[:1], None, "one", "a", 1.0, 0.0, 1, 1, 1.0),
    ]
    constructs = Constructs(tuple(items), ("a",), tokenizer_hash=fingerprint(tokenizer))
    extended = extend_tokenizer(tokenizer, constructs, CORPUS)
    assert list(extended.names.values()) == ["pay me"]
    assert extended.skipped == {
        "[SEP] pay me": "holds a special or added token",
        "money today never": "is nowhere a token of its own",
        "inside": "begins inside a word",
        "unknown": "holds an id that the vocabulary lacks",
        " contactless": "is other tokens when it stands alone",
    }


def test_constructs_that_collide_with_tokens_are_skipped() -> None:
    tokenizer = make_tokenizer("bytelevel")
    tokenizer.add_tokens(["pay me"])  # in ordinary text, found before anything is split
    tokenizer.add_special_tokens({"extra_special_tokens": ["<rate>"]})
    texts = [" exchange rate", " my money"]
    constructs = constructs_of(tokenizer, texts)
    pieces = tuple(tokenizer.convert_tokens_to_ids(list("<rate>")))
    clash = Construct(pieces, None, "<rate>", "a", 1.0, 0.0, 1, 1, 1.0)
    constructs = Constructs((*constructs, clash), ("a",), tokenizer_hash=fingerprint(tokenizer))
    extended = extend_tokenizer(tokenizer, constructs, [*CORPUS, "<rate> exchange rate my money"])
    assert extended.skipped == {"<rate>": "holds the text of a special or added token"}
    assert extended.first == len(tokenizer)
    for text in ("to pay me my money", "<rate> exchange rate", "pay me exchange rate"):
        assert tuple(extended.expanded(ids_of(extended.tokenizer, text))) == ids_of(tokenizer, text)
    again = extend_tokenizer(
        extended.tokenizer, constructs_of(extended.tokenizer, [" exchange rate my"]), CORPUS
    )
    assert not again.pieces and set(again.skipped.values()) == {"is nowhere a token of its own"}


def test_no_construct_gives_the_tokenizer_as_it_is() -> None:
    tokenizer = base_of("bytelevel")
    empty = Constructs((), ("a",), tokenizer_hash=fingerprint(tokenizer))
    extended = extend_tokenizer(tokenizer, empty, CORPUS)
    assert len(extended.pieces) == 0
    assert fingerprint(extended.tokenizer) == fingerprint(tokenizer)


def test_the_count_is_filled_up_from_what_is_used() -> None:
    tokenizer = base_of("bytelevel")
    listed = [" never seen", " pay me", " not here", " my money", " exchange rate"]
    constructs = constructs_of(tokenizer, listed)
    extended = extend_tokenizer(tokenizer, constructs, CORPUS, count=2)
    assert list(extended.names.values()) == [" pay me", " my money"]
    assert set(extended.skipped) == {" never seen", " not here"}


def test_the_saving_is_counted() -> None:
    base, extended = base_of("bytelevel"), extended_of("bytelevel").tokenizer
    texts = [*CORPUS[:10] * 4, "zzz"]
    saving = length_saving(base, extended, texts)
    before = sum(len(base(text)["input_ids"]) for text in texts)
    after = sum(len(extended(text)["input_ids"]) for text in texts)
    assert (saving.texts, saving.before, saving.after) == (41, before, after)
    assert saving.share == pytest.approx(1 - after / before) and saving.share > 0
    widths = [
        max(len(base(text)["input_ids"]) for text in part) for part in (texts[:32], texts[32:])
    ]
    assert saving.padded_before == 32 * widths[0] + 9 * widths[1]
    assert 0.5 < saving.changed < 1
    assert length_saving(base, base, texts).share == 0
    with pytest.raises(DataError, match="expected texts"):
        length_saving(base, extended, [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["pre_tokenizer"].update(add_prefix_space=True), "add_prefix_space"),
        (lambda c: c.update(pre_tokenizer=None), "without a pre-tokenizer"),
        (
            lambda c: c["pre_tokenizer"].update(type="CharDelimiterSplit", delimiter="x"),
            "CharDelim",
        ),
        (lambda c: c["model"].update(dropout=0.1), "dropout"),
        (lambda c: c["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (lambda c: c["model"]["vocab"].update({"ĠĠĠĠĠ!": 300}), "merges reach every entry"),
    ],
)
def test_kinds_that_would_change_other_text_are_refused(change: Any, message: str) -> None:
    tokenizer = make_tokenizer("bytelevel")
    backend = tokenizer.backend_tokenizer
    content = json.loads(backend.to_str())
    change(content)
    tokenizer._tokenizer = type(backend).from_str(json.dumps(content))
    constructs = constructs_of(tokenizer, [" pay me"])
    with pytest.raises(ModelError, match=message):
        extend_tokenizer(tokenizer, constructs, CORPUS)


def test_wrong_arguments_are_refused() -> None:
    tokenizer = base_of("bytelevel")
    constructs = constructs_of(tokenizer, [" pay me"])
    with pytest.raises(ConfigError, match="count of 1 or more"):
        extend_tokenizer(tokenizer, constructs, CORPUS, count=0)
    with pytest.raises(ConfigError, match="rank"):
        extend_tokenizer(tokenizer, constructs, CORPUS, rank="luck")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="mine them again"):
        extend_tokenizer(base_of("wordpiece"), constructs, CORPUS)
