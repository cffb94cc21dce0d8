"""From the ids of a construct to the text that the pre-tokenizer and the model will see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sparseft.constructs.construct import Construct
from sparseft.constructs.pretokens import (
    META,
    Probe,
    is_byte_level,
    is_rewritten,
    normalizes_spaces,
    pieces_of,
    uses_metaspace,
)
from sparseft.constructs.vocabulary import BYTES, entries

__all__ = ["Candidate", "Reader"]


@dataclass(frozen=True)
class Candidate:
    """A construct that can become a token.

    Attributes:
        text: what the pre-tokenizer has to keep in one piece.
        entry: what the model then looks up; the text, or the letters of its bytes.
        tokens: the ids of the pieces.
    """

    text: str
    entry: str
    tokens: tuple[int, ...]


class Reader:
    """Reads constructs for one tokenizer.

    Args:
        content: of its tokenizer.json.
        backend: the tokenizer.
        encode: the ids of texts by a tokenizer of such content.
        probe: the pre-tokens that a component makes of a text.
    """

    def __init__(
        self,
        content: dict[str, Any],
        backend: Any,
        encode: Callable[[dict[str, Any], list[str]], list[list[int]]],
        probe: Probe,
    ) -> None:
        self._content = content
        self._normalizer = backend.normalizer
        self._encode = encode
        self._probe = probe
        self._known = entries(content)
        self._names = {number: entry for entry, number in self._known.items()}
        self._special = {t["id"]: t["content"] for t in content["added_tokens"]}
        self._kind = content["model"]["type"]
        self._components = pieces_of(content)
        self._bytes = is_byte_level(content)
        self._meta = uses_metaspace(content)

    def read(self, constructs: Iterable[Construct]) -> tuple[list[Candidate], dict[str, str]]:
        """Those that can become tokens, and for the others why not."""
        found: dict[str, Candidate] = {}
        skipped: dict[str, str] = {}
        for construct in constructs:
            candidate = self._candidate(construct)
            if isinstance(candidate, str):
                skipped[construct.text] = candidate
            elif candidate.entry not in found:
                found[candidate.entry] = candidate
        # Alone, as the original reads it, it must be just these pieces.
        alone = self._encode(self._content, [self._raw(c.text) for c in found.values()])
        fitting = []
        for candidate, ids in zip(found.values(), alone, strict=True):
            if tuple(ids) == candidate.tokens:
                fitting.append(candidate)
            else:
                skipped[candidate.text] = "is other tokens when it stands alone"
        return fitting, skipped

    def _raw(self, text: str) -> str:
        if not self._meta:
            return text
        spaced = text.replace(META, " ")
        # A pre-tokenizer adds no second ▁ before the first; a normalizer would.
        return spaced.strip() if normalizes_spaces(self._content) else spaced

    def _candidate(self, construct: Construct) -> Candidate | str:
        """The candidate, or why there is none."""
        if any(token in self._special for token in construct.tokens):
            return "holds a special or added token"
        if any(token not in self._names for token in construct.tokens):
            return "holds an id that the vocabulary lacks"
        pieces = [self._names[token] for token in construct.tokens]
        text = self._text(construct, pieces)
        if not text or not text.strip():
            return "is no text of its own"
        if text[-1].isspace() or text.endswith(META):
            return "ends with white space"  # how much of it belongs there depends on what follows
        if self._meta and not text.startswith(META):
            return "begins inside a word"
        if any(special in text for special in self._special.values()):
            return "holds the text of a special or added token"
        if self._kind == "WordPiece":
            prefix = self._content["model"]["continuing_subword_prefix"]
            if pieces[0].startswith(prefix):
                return "begins inside a word"
            if all(piece.startswith(prefix) for piece in pieces[1:]):
                if self._content["decoder"] is None:
                    return "is one word, and the tokenizer has no decoder"
                text = f" {text}"
            if len(text) > self._content["model"]["max_input_chars_per_word"]:
                return "is longer than the model's longest word"
        entry = "".join(BYTES[byte] for byte in text.encode()) if self._bytes else text
        if entry in self._known:
            return "is a token already"
        for component in self._components:
            if not is_rewritten(component) and len(self._probe(component, text)) != 1:
                return f"is cut by {component['type']}"
        return Candidate(text, entry, construct.tokens)

    def _text(self, construct: Construct, pieces: list[str]) -> str | None:
        if self._bytes:
            letters = {letter: byte for byte, letter in BYTES.items()}
            try:
                return bytes(letters[letter] for letter in "".join(pieces)).decode()
            except (KeyError, UnicodeDecodeError):
                return None  # the construct begins or ends inside a character
        if self._meta:
            return "".join(pieces)
        # White space between words is not in the tokens: as the texts most often write it.
        text = construct.text
        if self._normalizer is not None:
            text = self._normalizer.normalize_str(text)
        return " ".join(text.split())
