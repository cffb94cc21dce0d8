"""tokens.json: the base's tokenizer becomes the extended one again, for every kind of tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from sparseft.constructs import Additions, extend_tokenizer, fingerprint, tokenizer_of
from sparseft.errors import DataError, ModelError
from tests.constructs.helpers import CORPUS, KINDS, constructs_of, make_tokenizer

PHRASES = ["exchange rate", "pay me", "contactless card", "top-up my card"]
SPACED = ("bytelevel", "llama3")


def _extended(kind: str) -> tuple[Any, Any]:
    tokenizer = make_tokenizer(kind)
    phrases = [f" {phrase}" if kind in SPACED else phrase for phrase in PHRASES]
    return tokenizer, extend_tokenizer(tokenizer, constructs_of(tokenizer, phrases), CORPUS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_makes_the_same_tokenizer_again(kind: str, tmp_path: Path) -> None:
    tokenizer, extended = _extended(kind)
    assert len(extended.pieces) >= 2
    before = fingerprint(tokenizer)
    additions = Additions.of(tokenizer, extended)
    (tmp_path / "tokens.json").write_text(additions.to_json(), encoding="utf-8")
    # As a later process would: from the base's own, loaded anew.
    tokenizer.save_pretrained(tmp_path / "base")
    base = PreTrainedTokenizerFast.from_pretrained(tmp_path / "base")
    found = tokenizer_of(tmp_path, base)
    assert fingerprint(found) == fingerprint(extended.tokenizer)
    for text in [*CORPUS, "", "pay metres", "an exchange rated"]:
        assert found(text)["input_ids"] == extended.tokenizer(text)["input_ids"]
        plain = tokenizer(text)["input_ids"]
        assert extended.expanded(found(text)["input_ids"]) == plain
    assert fingerprint(tokenizer) == before
    assert Additions.parse(additions.to_json()) == additions


def test_a_folder_without_tokens_gives_the_tokenizer_itself(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("wordpiece")
    assert tokenizer_of(tmp_path, tokenizer) is tokenizer


def test_another_or_a_slow_tokenizer_is_refused() -> None:
    tokenizer, extended = _extended("wordpiece")
    additions = Additions.of(tokenizer, extended)
    with pytest.raises(ModelError, match="load that of the base model"):
        additions.extend(make_tokenizer("wordlevel"))
    # The extended one itself has the tokens already.
    with pytest.raises(ModelError, match="load that of the base model"):
        additions.extend(extended.tokenizer)

    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="expected a fast tokenizer, got Slow"):
        additions.extend(Slow())


@pytest.mark.parametrize("damage", ["version", "missing", "ids", "pieces", "no object", "no JSON"])
def test_damaged_files_are_refused(damage: str, tmp_path: Path) -> None:
    tokenizer, extended = _extended("wordpiece")
    content: Any = json.loads(Additions.of(tokenizer, extended).to_json())
    if damage == "version":
        content["version"] = 9
    elif damage == "missing":
        del content["tokens"][0]["entry"]
    elif damage == "ids":
        content["tokens"][0]["id"] += 1
    elif damage == "pieces":
        content["tokens"][0]["pieces"] = ["x"]
    elif damage == "no object":
        content = [1]
    text = "{" if damage == "no JSON" else json.dumps(content)
    (tmp_path / "tokens.json").write_text(text)
    with pytest.raises(DataError, match="expected"):
        tokenizer_of(tmp_path, tokenizer)
    with pytest.raises(DataError, match="expected"):
        Additions.parse(text)
