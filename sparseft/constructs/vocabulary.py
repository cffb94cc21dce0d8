"""Give a tokenizer's model entries that only whole pre-tokens of constructs can reach.

A construct arrives as one pre-token (see `pretokens`), and the model looks whole pre-tokens up:

- WordPiece and WordLevel do so anyway. An entry with a space or a sign inside occurs in no word; a
  construct that is one word gets an entry that begins with a space, so that longer words which
  begin alike do not find it.
- BPE does so with `ignore_merges`, which is safe where merging reaches every entry it has.
- Unigram takes the entry with the best score. One with a ▁ inside gets 0, the best there is; a
  single word gets the sum of its pieces and a trifle, so it wins where they would have.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from sparseft.constructs.pretokens import META, Probe, normalizes_spaces
from sparseft.errors import ModelError

__all__ = ["BYTES", "check_model", "entries", "with_entries"]

Content = dict[str, Any]

_TRIFLE = 1e-6


def _byte_letters() -> dict[int, str]:
    """The letter that stands for each byte (Radford et al. 2019, GPT-2's bytes_to_unicode)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain}
    return letters | {byte: chr(256 + place) for place, byte in enumerate(others)}


BYTES: Mapping[int, str] = _byte_letters()


def entries(content: Content) -> dict[str, int]:
    """The ids of the model's own entries."""
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, dict):
        return dict(vocabulary)
    return {piece: number for number, (piece, _) in enumerate(vocabulary)}


def check_model(
    content: Content, encode: Callable[[Content, list[str]], list[list[int]]], probe: Probe
) -> None:
    """Make sure that entries can be added without changing what other text becomes.

    Args:
        content: of tokenizer.json.
        encode: the ids of texts by a tokenizer of such content.
        probe: the pre-tokens that a component makes of a text.

    Raises:
        ModelError: a kind of model that is not known, or one with settings that rule it out.
    """
    model = content["model"]
    kind = model.get("type")
    advice = "train without the adaptive tokenizer."
    if kind not in ("WordPiece", "WordLevel", "BPE", "Unigram"):
        raise ModelError(
            f"expected a WordPiece, WordLevel, BPE or Unigram tokenizer, got {kind}; {advice}"
        )
    behind = _behind(content)
    if kind == "Unigram" and behind:
        raise ModelError(
            "expected a Unigram tokenizer whose added tokens are in its vocabulary, got "
            f"{behind[0]['content']!r} behind it; {advice}"
        )
    for token in behind:
        # It joins the vocabulary, so what the tokenizer lets through must not meet it there.
        lets_through = token["single_word"] or (content["normalizer"] and not token["normalized"])
        splitter = content["pre_tokenizer"]
        if lets_through and splitter and len(probe(splitter, token["content"])) == 1:
            raise ModelError(
                f"expected added tokens that are no words of their own, got {token['content']!r} "
                f"with single_word or without normalized; {advice}"
            )
    if kind == "BPE":
        _check_bpe(content, encode, advice)


def _check_bpe(
    content: Content, encode: Callable[[Content, list[str]], list[list[int]]], advice: str
) -> None:
    model = content["model"]
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise ModelError(f"expected BPE without {name}, got {model[name]!r}; {advice}")
    if normalizes_spaces(content):
        for merge in model["merges"]:
            merged = "".join(merge) if isinstance(merge, list) else merge.replace(" ", "")
            if META in merged.lstrip(META):
                raise ModelError(
                    f"expected BPE that merges nothing across words, got {merged!r}; {advice}"
                )
    if model.get("ignore_merges"):
        return
    bare = copy.deepcopy(content)
    bare.update(normalizer=None, pre_tokenizer=None, post_processor=None, added_tokens=[])
    added = {token["content"] for token in content["added_tokens"]}
    own = {entry: number for entry, number in model["vocab"].items() if entry not in added}
    found = encode(bare, list(own))
    for (entry, number), ids in zip(own.items(), found, strict=True):
        if ids != [number]:
            raise ModelError(
                f"expected a BPE tokenizer whose merges reach every entry, got {entry!r} which "
                f"becomes {len(ids)} tokens; {advice}"
            )


def _behind(content: Content) -> list[Content]:
    """Added tokens that the model's own vocabulary lacks."""
    known = entries(content)
    return [token for token in content["added_tokens"] if token["content"] not in known]


def with_entries(content: Content, added: Mapping[str, tuple[int, tuple[int, ...]]]) -> Content:
    """A copy of the content with new entries.

    Args:
        content: of tokenizer.json.
        added: each entry's id and the ids of its pieces; ids follow on the largest one.
    """
    result = copy.deepcopy(content)
    model = result["model"]
    result["decoder"] = _decoder(content)
    if model["type"] == "Unigram":
        for entry, (_, pieces) in sorted(added.items(), key=lambda item: item[1][0]):
            model["vocab"].append([entry, unigram_score(content, entry, pieces)])
        return result
    # Reading the file numbers added tokens by the vocabulary's size: inside it they keep theirs.
    model["vocab"].update({token["content"]: token["id"] for token in _behind(content)})
    model["vocab"].update({entry: number for entry, (number, _) in added.items()})
    if model["type"] == "BPE":
        model["ignore_merges"] = True
    return result


def _decoder(content: Content) -> Content | None:
    """The decoder, with what the new entries need before it."""
    decoder: Content | None = content["decoder"]
    if decoder is None:
        return None
    first: Content | None = None
    if content["model"]["type"] == "WordPiece":
        # The decoder puts a space before a word, so an entry's own one goes.
        first = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    elif decoder["type"] == "Metaspace":
        # It drops every ▁ of a text's first token; those inside an entry are spaces.
        first = {"type": "Replace", "pattern": {"Regex": f"(?<=[^{META}]){META}"}, "content": " "}
    if first is None:
        return decoder
    return {"type": "Sequence", "decoders": [first, decoder]}


def unigram_score(content: Content, entry: str, pieces: tuple[int, ...]) -> float:
    """The log-probability of a new entry."""
    if META in entry[1:]:
        return 0.0
    vocabulary = content["model"]["vocab"]
    return float(sum(vocabulary[piece][1] for piece in pieces)) + _TRIFLE
