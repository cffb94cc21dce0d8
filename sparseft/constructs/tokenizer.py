"""The adaptive tokenizer: constructs become tokens of a fast tokenizer, and nothing else changes.

The promise, for every text: with each new id replaced by the ids of its pieces, the extended
tokenizer gives exactly the ids of the original. It is checked on the texts that are passed in.

`add_tokens` cannot keep it. A byte-level token begins with its space, where `single_word` sees the
letter before the space and refuses; without it " pay me" is found in " pay metres"; and `lstrip`
swallows spaces that decoding then lacks. So constructs become pre-tokens instead (`pretokens`),
each an entry of the model's vocabulary (`vocabulary`). All of it is in tokenizer.json.

Legend: N texts.
"""

from __future__ import annotations

import copy
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sparseft.constructs.construct import Construct, Constructs
from sparseft.constructs.entries import Candidate, Reader
from sparseft.constructs.pretokens import pieces_of, rewritten
from sparseft.constructs.texts import fast_backend
from sparseft.constructs.vocabulary import check_model, with_entries
from sparseft.errors import ConfigError, ModelError

__all__ = ["ExtendedTokenizer", "extend_tokenizer"]

_log = logging.getLogger(__name__)

_ROUNDS = 6  # of dropping unused tokens and taking the next ones


@dataclass(frozen=True, eq=False)
class ExtendedTokenizer:
    """A tokenizer with constructs as tokens.

    Attributes:
        tokenizer: the extended one, an ordinary fast tokenizer of transformers.
        pieces: for each new id the ids that stood in its place.
        names: for each new id its text.
        entries: for each new id what the tokenizer's model looks up.
        uses: for each new id how often the given texts have it.
        skipped: for each construct that became no token, the reason.
        first: the first new id.
    """

    tokenizer: Any
    pieces: Mapping[int, tuple[int, ...]]
    names: Mapping[int, str]
    entries: Mapping[int, str]
    uses: Mapping[int, int]
    skipped: Mapping[str, str]
    first: int

    def expanded(self, ids: Sequence[int]) -> list[int]:
        """The ids with every new one replaced by its pieces."""
        return [piece for number in ids for piece in self.pieces.get(number, (number,))]


def extend_tokenizer(
    tokenizer: Any,
    constructs: Constructs,
    texts: Sequence[str],
    count: int = 200,
    rank: Literal["score", "saving"] = "score",
) -> ExtendedTokenizer:
    """Make the strongest constructs tokens.

    Args:
        tokenizer: the one that the constructs were mined with; it stays as it is.
        constructs: n-grams of two tokens or more are taken, gapped pairs are not.
        texts: N texts; a construct that is nowhere a token of its own in them is not taken, for it
            begins or ends inside words, or always lies inside a longer one.
        count: the most new tokens.
        rank: score: the strongest first. saving: the most tokens saved on the mined texts first.

    Returns:
        The extended tokenizer; with no construct that fits, a copy that has no new token.

    Raises:
        ModelError: a slow tokenizer, another than the constructs' one, or one of a kind that
            cannot be extended without changing other text.
        ConfigError: a count below 1 or an unknown rank.
    """
    if count < 1 or rank not in ("score", "saving"):
        raise ConfigError(
            f"expected count of 1 or more and rank score or saving, got {count} and {rank!r}; "
            "change them."
        )
    constructs.check_tokenizer(tokenizer)
    backend = fast_backend(tokenizer)
    build = Builder.of(tokenizer)
    content = build.content
    pieces_of(content)
    check_model(content, build.encode, build.probe)
    reader = Reader(content, backend, build.encode, build.probe)
    pool, skipped = reader.read(_ranked(constructs, rank))
    original = build.encode(content, list(texts))
    chosen: list[Candidate] = []
    waiting = list(pool)
    made = build.extended([])
    uses: Counter[int] = Counter()
    for _ in range(_ROUNDS):
        taken = waiting[: count - len(chosen)]
        waiting = waiting[len(taken) :]
        chosen += taken
        made = build.extended(chosen)
        encoded = build.encode(made, list(texts))
        uses = Counter(number for ids in encoded for number in ids if number >= build.first)
        unused = {build.first + n for n in range(len(chosen))} - set(uses)
        if not unused:
            break
        for number in unused:
            skipped[chosen[number - build.first].text] = "is nowhere a token of its own"
        chosen = [c for n, c in enumerate(chosen) if build.first + n not in unused]
    else:
        made = build.extended(chosen)
        encoded = build.encode(made, list(texts))
        uses = Counter(number for ids in encoded for number in ids if number >= build.first)
    result = ExtendedTokenizer(
        tokenizer=wrapped(tokenizer, build.tokenizer(made)),
        pieces={build.first + n: c.tokens for n, c in enumerate(chosen)},
        names={build.first + n: c.text for n, c in enumerate(chosen)},
        entries={build.first + n: c.entry for n, c in enumerate(chosen)},
        uses={build.first + n: uses[build.first + n] for n in range(len(chosen))},
        skipped=skipped,
        first=build.first,
    )
    _check(result, texts, original, encoded)
    _log.info("%d new tokens, %d constructs left out", len(chosen), len(skipped))
    return result


class Builder:
    """Tokenizers from contents of tokenizer.json, without importing the library."""

    def __init__(self, content: dict[str, Any], kind: Any) -> None:
        self.content = content
        self._kind = kind
        known = self.tokenizer(content).get_vocab(with_added_tokens=True)
        self.first = max(known.values(), default=-1) + 1

    @classmethod
    def of(cls, tokenizer: Any) -> Builder:
        """For a fast tokenizer, which stays as it is."""
        backend = fast_backend(tokenizer)
        content = json.loads(backend.to_str())
        content.update(padding=None, truncation=None)
        return cls(content, type(backend))

    def tokenizer(self, content: dict[str, Any]) -> Any:
        """The tokenizer of a content."""
        return self._kind.from_str(json.dumps(content))

    def encode(self, content: dict[str, Any], texts: list[str]) -> list[list[int]]:
        """The ids of texts by the tokenizer of a content, without those that frame a text."""
        found = self.tokenizer(content).encode_batch(texts, add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def probe(self, component: dict[str, Any], text: str) -> list[tuple[str, tuple[int, int]]]:
        """The pre-tokens that a component makes of a text, with their characters."""
        small = {"type": "WordLevel", "vocab": {"x": 0}, "unk_token": "x"}
        bare = {**self.content, "added_tokens": [], "normalizer": None, "model": small}
        bare.update(pre_tokenizer=component, post_processor=None, decoder=None)
        found = self.tokenizer(bare).pre_tokenizer.pre_tokenize_str(text)
        return [(piece, (start, end)) for piece, (start, end) in found]

    def extended(self, chosen: Sequence[Candidate]) -> dict[str, Any]:
        """The content with new tokens, which get the next ids in their order."""
        if not chosen:
            return copy.deepcopy(self.content)
        added = {c.entry: (self.first + n, c.tokens) for n, c in enumerate(chosen)}
        content = with_entries(self.content, added)
        content["pre_tokenizer"] = rewritten(self.content, [c.text for c in chosen], self.probe)
        return content


def _ranked(constructs: Constructs, rank: str) -> list[Construct]:
    """One construct for each n-gram of two tokens or more, best first."""
    best: dict[tuple[int, ...], Construct] = {}
    for construct in constructs:
        if construct.gap is None and len(construct.tokens) > 1:
            best.setdefault(construct.tokens, construct)
    listed = list(best.values())
    if rank == "saving":
        listed.sort(key=lambda c: -c.frequency * (len(c.tokens) - 1))
    return listed


def _check(
    result: ExtendedTokenizer,
    texts: Sequence[str],
    original: list[list[int]],
    encoded: list[list[int]],
) -> None:
    for text, before, after in zip(texts, original, encoded, strict=True):
        if result.expanded(after) != before:
            raise ModelError(
                f"expected the extended tokenizer to leave {text!r} as it was but for constructs, "
                "got other tokens; train without the adaptive tokenizer, and report this."
            )


def wrapped(tokenizer: Any, backend: Any) -> Any:
    """`backend` as a tokenizer of transformers with the settings of `tokenizer`.

    The class is the general one: those of a model family build their own pre-tokenizer when they
    are loaded, and would lose this one.
    """
    general = {"TokenizersBackend", "PreTrainedTokenizerFast"}
    kind: Callable[..., Any] | None = next(
        (base for base in reversed(type(tokenizer).__mro__) if base.__name__ in general), None
    )
    if kind is None:
        raise ModelError(
            f"expected a fast tokenizer of transformers, got {type(tokenizer).__name__}; "
            "load it with AutoTokenizer."
        )
    settings = {
        name: getattr(tokenizer, name)
        for name in (
            "model_max_length",
            "padding_side",
            "truncation_side",
            "model_input_names",
            "clean_up_tokenization_spaces",
            "chat_template",
        )
        if getattr(tokenizer, name, None) is not None
    }
    return kind(tokenizer_object=backend, **settings, **tokenizer.special_tokens_map)
