"""What was added to a tokenizer, as a small file from which the base's own becomes the same again.

    tokens.json   the new tokens in the order of their ids, and which vocabulary they extend

The base's tokenizer.json need not be copied: entries and pre-tokens are made again, as
`extend_tokenizer` made them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparseft import files
from sparseft.constructs.entries import Candidate
from sparseft.constructs.texts import fast_backend
from sparseft.constructs.tokenizer import Builder, ExtendedTokenizer, wrapped
from sparseft.errors import DataError, ModelError

__all__ = ["TOKENS_FILE", "Additions", "tokenizer_of"]

TOKENS_FILE = "tokens.json"
FORMAT = "sparseft.tokens"
VERSION = 1


@dataclass(frozen=True)
class Additions:
    """New tokens of a tokenizer.

    Attributes:
        vocabulary: SHA-256 of the entries and ids that they extend.
        first: the first new id; the others follow on it.
        tokens: of each new token what a text shows, what the model looks up, and its pieces' ids.
    """

    vocabulary: str
    first: int
    tokens: tuple[Candidate, ...]

    @classmethod
    def of(cls, original: Any, extended: ExtendedTokenizer) -> Additions:
        """What `extend_tokenizer` made of the fast tokenizer `original`."""
        tokens = tuple(
            Candidate(extended.names[number], extended.entries[number], pieces)
            for number, pieces in extended.pieces.items()
        )
        return cls(_vocabulary(original), extended.first, tokens)

    def extend(self, tokenizer: Any) -> Any:
        """The extended tokenizer, made of the base's own; that one stays as it is.

        Raises:
            ModelError: a slow tokenizer, or one of another vocabulary.
        """
        found = _vocabulary(tokenizer)
        if found != self.vocabulary:
            raise ModelError(
                f"expected the tokenizer that the tokens were added to ({self.vocabulary[:12]}), "
                f"got another ({found[:12]}); load that of the base model."
            )
        build = Builder.of(tokenizer)
        return wrapped(tokenizer, build.tokenizer(build.extended(self.tokens)))

    def to_json(self) -> str:
        """The content of the file."""
        tokens = [
            {"id": self.first + n, "text": c.text, "entry": c.entry, "pieces": list(c.tokens)}
            for n, c in enumerate(self.tokens)
        ]
        content = {
            "format": FORMAT,
            "version": VERSION,
            "vocabulary": self.vocabulary,
            "first": self.first,
            "tokens": tokens,
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def parse(cls, text: str) -> Additions:
        """Read what `to_json` wrote.

        Raises:
            DataError: no JSON, another format or version, or a damaged part.
        """
        try:
            return cls.from_content(json.loads(text))
        except json.JSONDecodeError as error:
            raise DataError(
                f"expected tokens as JSON, got: {error}; copy the file again."
            ) from error

    @classmethod
    def from_content(cls, content: Any) -> Additions:
        """Read what `to_json` wrote, parsed from JSON.

        Raises:
            DataError: another format or version, or a damaged part.
        """
        mapping = content if isinstance(content, Mapping) else {}
        found = mapping.get("format"), mapping.get("version")
        if found != (FORMAT, VERSION):
            raise DataError(
                f"expected {FORMAT} version {VERSION}, got {found}; save the tokens again."
            )
        try:
            first = int(content["first"])
            tokens = tuple(
                Candidate(str(t["text"]), str(t["entry"]), tuple(int(p) for p in t["pieces"]))
                for t in content["tokens"]
            )
            numbers = [int(t["id"]) for t in content["tokens"]]
            if numbers != list(range(first, first + len(tokens))):
                raise ValueError(f"ids {numbers[:5]}, …")
            return cls(str(content["vocabulary"]), first, tokens)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"expected complete tokens, got {error!r}; the file is damaged, copy it again."
            ) from error


def tokenizer_of(folder: str | os.PathLike[str], tokenizer: Any) -> Any:
    """The tokenizer that a delta's folder asks for: the base's own, with its tokens if it has any.

    Args:
        folder: of a delta that `read_delta` has checked.
        tokenizer: the base model's.

    Raises:
        ModelError: a tokenizer of another vocabulary.
        DataError: a damaged file.
    """
    path = Path(folder) / TOKENS_FILE
    if not path.exists():
        return tokenizer
    return Additions.from_content(files.read_json(path, DataError)).extend(tokenizer)


def _vocabulary(tokenizer: Any) -> str:
    # Not the whole tokenizer.json: releases of the library write the same tokenizer differently.
    vocabulary = fast_backend(tokenizer).get_vocab(with_added_tokens=True)
    listed = sorted(vocabulary.items(), key=lambda item: (item[1], item[0]))
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()
