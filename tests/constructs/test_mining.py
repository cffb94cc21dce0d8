"""Mining: planted constructs are found, noise is not, and bad input is refused or harmless."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sparseft.constructs import Constructs, MiningSettings, fingerprint, mine, tokenise
from sparseft.errors import ConfigError, DataError, ModelError, SparseftError
from tests.constructs.helpers import ids_of, planted
from tests.tiny import tiny_tokenizer

NAMES = ("pair", "single", "nothing")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def mined(tokenizer: Any) -> Constructs:
    texts, labels = planted()
    return mine(texts, labels, NAMES, tokenizer, data_name="planted")


def test_the_planted_constructs_are_found_and_nothing_else(mined: Constructs) -> None:
    assert {(c.text, c.label) for c in mined} == {("word1 word2", "pair"), ("word3", "single")}
    pair = mined.of_label("pair")[0]
    assert (pair.support, pair.frequency, pair.stability, pair.gap) == (40, 40, 1.0, None)
    assert 0 < pair.q_value < 1e-20
    for construct in mined:
        for example in construct.examples:
            ((start, end),) = example.spans
            assert example.text[start:end] == construct.text


def test_ids_hash_settings_and_counts_are_kept(mined: Constructs, tokenizer: Any) -> None:
    assert {c.tokens for c in mined} == {
        ids_of(tokenizer, "word1 word2"),
        ids_of(tokenizer, "word3"),
    }
    assert mined.tokenizer_hash == fingerprint(tokenizer)
    assert mined.settings == dataclasses.asdict(MiningSettings())
    assert mined.counts["texts"] == 120
    assert mined.counts["tests"] == 3 * mined.counts["candidates"]
    texts, labels = planted()
    again = mine(texts, labels, NAMES, tokenizer, data_name="planted")
    assert again.to_dict() == mined.to_dict()
    other = mine(texts, (labels + 1) % 3, NAMES, tokenizer)
    assert other.data_hash != mined.data_hash


@pytest.mark.parametrize("seed", range(5))
def test_labels_without_meaning_have_no_constructs(tokenizer: Any, seed: int) -> None:
    texts, labels = planted(seed=seed)
    shuffled = np.random.default_rng(seed).permutation(labels)
    assert len(mine(texts, shuffled, NAMES, tokenizer)) == 0


def test_gapped_pairs(tokenizer: Any) -> None:
    random = np.random.default_rng(0)
    words = [[f"word{n}" for n in random.integers(10, 54, 4)] for _ in range(60)]
    texts = [" ".join(["word1", *row[:2], "word2", *row[2:]]) for row in words[:30]]
    # The other class has both words, the other way round.
    texts += [" ".join(["word2", *row[:2], "word1", *row[2:]]) for row in words[30:]]
    labels = np.repeat([0, 1], 30)
    found = mine(texts, labels, ("forth", "back"), tokenizer, MiningSettings(gap=3))
    first = {c.label: c for c in found[:2]}
    assert (first["forth"].text, first["forth"].gap) == ("word1 … word2", 3)
    assert first["back"].text == "word2 … word1"
    example = first["forth"].examples[0]
    assert [example.text[a:b] for a, b in example.spans] == ["word1", "word2"]
    assert not mine(texts, labels, ("forth", "back"), tokenizer).of_label("forth")


def test_several_labels_a_text(tokenizer: Any) -> None:
    texts, labels = planted()
    hot = np.zeros((len(texts), 4), np.uint8)
    hot[np.arange(len(texts)), labels] = 1
    hot[labels == 2] = 0  # no label at all
    hot[labels < 2, 3] = 1  # two labels
    found = mine(texts, hot, (*NAMES, "either"), tokenizer, MiningSettings(remove_redundant=False))
    assert {(c.text, c.label) for c in found if len(c.tokens) == 1 or c.label == "pair"} >= {
        ("word1 word2", "pair"),
        ("word3", "single"),
        ("word3", "either"),
        ("word1", "either"),
    }
    assert not found.of_label("nothing")


def test_mutual_information_ranks_too_and_a_limit_cuts(tokenizer: Any) -> None:
    texts, labels = planted()
    found = mine(
        texts, labels, NAMES, tokenizer, MiningSettings(score="mutual_information", limit=1)
    )
    # H(1/3) = 0.918 bits: the phrase tells the class apart fully.
    assert [round(c.score, 3) for c in found] == [0.918]


def test_what_depends_on_few_texts_is_less_stable(tokenizer: Any) -> None:
    texts, labels = planted(60)
    texts = [t + (" word5" if i in (0, 3, 6, 9, 12) else "") for i, t in enumerate(texts)]
    settings = MiningSettings(min_stability=0.0, q=0.5, resamples=200)
    found = {c.text: c.stability for c in mine(texts, labels, NAMES, tokenizer, settings)}
    assert found["word1 word2"] == 1.0
    assert 0.2 < found["word5"] < 0.95
    strict = dataclasses.replace(settings, min_stability=0.97)
    assert "word5" not in {c.text for c in mine(texts, labels, NAMES, tokenizer, strict)}


def test_special_and_unknown_tokens_are_in_no_construct(tokenizer: Any) -> None:
    texts = ["[SEP] word7 zebra"] * 20 + ["word8 [MASK]"] * 20
    found = mine(texts, np.repeat([0, 1], 20), ("a", "b"), tokenizer)
    assert {c.text for c in found} == {"word7", "word8"}


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        ([], []),
        ([""] * 6, [0, 0, 0, 1, 1, 1]),
        (["word1"] * 3 + ["word2"] * 3, [0, 0, 0, 1, 1, 1]),
        (["word1 word2", "word3 word4"], [0, 1]),  # one example of each class
        (["word1 word2"] * 9, [0] * 9),  # one class has no text
        (["", "word1", "word1 word1"] * 4, [0, 1, 1] * 4),
    ],
)
def test_tiny_sets_are_mined_without_a_warning(
    tokenizer: Any, texts: list[str], labels: list[int]
) -> None:
    found = mine(texts, np.array(labels, np.int64), ("a", "b"), tokenizer, MiningSettings(gap=2))
    assert {c.text for c in found} <= {"word1", "word2"}


def test_a_thousand_classes(tokenizer: Any) -> None:
    words = [
        f"word{a} word{b} word{c}" for a in range(10) for b in range(10, 20) for c in range(10)
    ]
    texts = [f"{text} word{40 + n}" for text in words for n in range(8)]
    labels = np.repeat(np.arange(1000), 8)
    names = [str(n) for n in range(1000)]
    found = mine(texts, labels, names, tokenizer)
    # Each class has its own three words in a row, and no two words tell it.
    assert {c.label for c in found} == set(names)
    assert all(c.frequency < 8000 for c in found)
    one_each = mine(texts[::8], labels[::8], names, tokenizer)
    assert len(one_each) == 0


def test_a_slow_tokenizer_is_refused() -> None:
    slow = SimpleNamespace(is_fast=False)
    with pytest.raises(ModelError, match="expected a fast tokenizer, got SimpleNamespace; save"):
        mine(["a"], np.array([0]), ("x",), slow)


@pytest.mark.parametrize(
    ("texts", "labels", "names"),
    [
        (["a", "b"], [0], ("x",)),
        (["a", "b"], [0, 1], ("x",)),
        (["a", "b"], [0, -1], ("x", "y")),
        (["a", "b"], [[0, 2], [1, 0]], ("x", "y")),
        (["a", "b"], [[0, 1], [1, 0]], ("x", "y", "z")),
        (["a", None], [0, 1], ("x", "y")),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    tokenizer: Any, texts: list[str], labels: list[Any], names: tuple[str, ...]
) -> None:
    with pytest.raises(DataError, match=r"expected .* got .*"):
        mine(texts, np.array(labels), names, tokenizer)


@pytest.mark.parametrize(
    "settings",
    [
        {"longest": 0},
        {"gap": -1},
        {"min_support": 0},
        {"q": 0.0},
        {"score": "luck"},
        {"prior_strength": 0.0},
        {"min_stability": 2.0},
        {"limit": 0},
        {"max_length": 0},
        {"resamples": -1},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"expected {next(iter(settings))} to be .* change"):
        MiningSettings(**settings)


def test_the_file_gives_the_same_constructs(mined: Constructs, tmp_path: Path) -> None:
    path = mined.save(tmp_path / "constructs.json")
    again = Constructs.load(path)
    assert again.items == mined.items
    assert again.to_dict() == mined.to_dict()


def test_damaged_files_are_refused(mined: Constructs, tmp_path: Path) -> None:
    good = mined.to_dict()
    with pytest.raises(DataError, match="readable file"):
        Constructs.load(tmp_path / "none.json")
    for change in (
        {"version": 2},
        {"labels": ["other"]},
        {"constructs": [{"tokens": [1]}]},
        {"constructs": [{**good["constructs"][0], "tokens": []}]},
        {"constructs": None},
    ):
        with pytest.raises(DataError, match="mine"):
            Constructs.from_dict({**good, **change})
    with pytest.raises(DataError, match="got 'list'"):
        Constructs.from_dict([])


def test_texts_are_cut_and_another_tokenizer_is_noticed(mined: Constructs, tokenizer: Any) -> None:
    cut = tokenise(tokenizer, ["word1 word2 word3"], max_length=2)
    assert cut.ids.tolist() == list(ids_of(tokenizer, "word1 word2"))
    mined.check_tokenizer(tokenizer)
    # Padding and truncation are state of a tokenizer, no part of what it is.
    tokenizer(["word1"], padding="max_length", truncation=True, max_length=8)
    mined.check_tokenizer(tokenizer)
    other = tiny_tokenizer()
    other.add_tokens(["new"])
    with pytest.raises(SparseftError, match="mine them again"):
        mined.check_tokenizer(other)
