"""A construct, a set of them with where it came from, and their file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from sparseft.constructs.matching import Matcher
from sparseft.constructs.texts import fingerprint
from sparseft.errors import DataError, ModelError
from sparseft.files import read_json, write_json

__all__ = ["Construct", "Constructs", "Example"]

FORMAT = "sparseft.constructs"
VERSION = 1


@dataclass(frozen=True)
class Example:
    """A text of the class, and the construct's characters in it: one span, or two of a pair."""

    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Construct:
    """A token group that points to a class.

    Attributes:
        tokens: the ids of an n-gram, or of the two ends of a gapped pair.
        gap: None for an n-gram; for a pair the most tokens between its ends (at least 1 is).
        text: how it is most often written in the class.
        label: the class's name.
        score: by `MiningSettings.score`; higher points more strongly.
        q_value: the false discovery rate at which it is accepted.
        support: texts of the class that hold it.
        frequency: texts of any class that hold it.
        stability: share of bootstrap resamples of the texts in which it is significant.
        examples: some texts of the class.
    """

    tokens: tuple[int, ...]
    gap: int | None
    text: str
    label: str
    score: float
    q_value: float
    support: int
    frequency: int
    stability: float
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, eq=False)
class Constructs(Sequence[Construct]):
    """Constructs from the strongest to the weakest, and what they were mined from.

    Attributes:
        items: the constructs; one group may stand for several classes.
        labels: names of the classes, in the order of the label numbers.
        data_name, data_hash: the data set, and a SHA-256 of the texts and labels.
        tokenizer_hash: `fingerprint` of the tokenizer whose ids these are.
        settings: of the miner.
        counts: texts, candidates and tests, and what each step left.
    """

    items: tuple[Construct, ...]
    labels: tuple[str, ...]
    data_name: str = ""
    data_hash: str = ""
    tokenizer_hash: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Construct: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Construct, ...]: ...
    def __getitem__(self, index: int | slice) -> Construct | tuple[Construct, ...]:
        return self.items[index]

    def __iter__(self) -> Iterator[Construct]:
        return iter(self.items)

    def of_label(self, label: str) -> tuple[Construct, ...]:
        """The constructs of one class, strongest first."""
        return tuple(construct for construct in self.items if construct.label == label)

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Make sure that these are ids of `tokenizer`.

        Raises:
            ModelError: they were mined with another one, or it is a slow one.
        """
        found = fingerprint(tokenizer)
        if self.tokenizer_hash and found != self.tokenizer_hash:
            raise ModelError(
                f"expected the tokenizer that the constructs were mined with "
                f"({self.tokenizer_hash[:12]}), got another ({found[:12]}); "
                "mine them again with it."
            )

    @cached_property
    def matcher(self) -> Matcher:
        """Finds these constructs in ids; built when it is first asked for."""
        label_of = {name: number for number, name in enumerate(self.labels)}
        return Matcher(
            [construct.tokens for construct in self.items],
            [construct.gap for construct in self.items],
            [label_of[construct.label] for construct in self.items],
        )

    def match(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Which construct each token belongs to.

        Args:
            input_ids: int64 [B, S].
            attention_mask: [B, S], 1 at real tokens; None: all are.

        Returns:
            int64 [B, S]: the number of the strongest construct that holds the token, -1 for none.
            `match(…) >= 0` is the mask of construct-bearing tokens.
        """
        return self.matcher.match(input_ids, attention_mask)

    def scores(self, device: torch.device | str = "cpu") -> Tensor:
        """float32 [len(self)]."""
        values = [construct.score for construct in self.items]
        return torch.tensor(values, dtype=torch.float32, device=device)

    def to_dict(self) -> dict[str, Any]:
        """The content of the file."""
        content = {key: value for key, value in vars(self).items() if key in _PROVENANCE}
        return {
            "format": FORMAT,
            "version": VERSION,
            **content,
            "labels": list(self.labels),
            "constructs": [asdict(construct) for construct in self.items],
        }

    @classmethod
    def from_dict(cls, content: Any) -> Constructs:
        """Read `to_dict`'s output.

        Raises:
            DataError: another format or version, or a missing or damaged part.
        """
        if not isinstance(content, Mapping) or (content.get("format"), content.get("version")) != (
            FORMAT,
            VERSION,
        ):
            got = content.get("format") if isinstance(content, Mapping) else type(content).__name__
            raise DataError(
                f"expected {FORMAT} version {VERSION}, got {got!r}; mine the constructs again."
            )
        try:
            items = tuple(_construct(entry) for entry in content["constructs"])
            labels = tuple(str(name) for name in content["labels"])
            found = cls(items, labels, **{key: content[key] for key in _PROVENANCE})
            unknown = {construct.label for construct in items} - set(labels)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"expected complete constructs, got {error!r}; the file is damaged, "
                "mine them again."
            ) from error
        if unknown:
            raise DataError(
                f"expected constructs of the classes {', '.join(labels[:5])}, …, got "
                f"{sorted(unknown)[0]!r}; the file is damaged, mine them again."
            )
        return found

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the constructs as JSON, atomically."""
        return write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Constructs:
        """Read a file of constructs.

        Raises:
            DataError: missing, no JSON, or not constructs of this version.
        """
        return cls.from_dict(read_json(path, DataError))


_PROVENANCE = ("data_name", "data_hash", "tokenizer_hash", "settings", "counts")


def _construct(entry: Mapping[str, Any]) -> Construct:
    examples = tuple(
        Example(str(e["text"]), tuple((int(a), int(b)) for a, b in e["spans"]))
        for e in entry["examples"]
    )
    gap = entry["gap"]
    tokens = tuple(int(token) for token in entry["tokens"])
    if not tokens or (gap is not None and len(tokens) != 2):
        raise ValueError(f"tokens {tokens} with gap {gap}")
    return Construct(
        tokens=tokens,
        gap=None if gap is None else int(gap),
        text=str(entry["text"]),
        label=str(entry["label"]),
        score=float(entry["score"]),
        q_value=float(entry["q_value"]),
        support=int(entry["support"]),
        frequency=int(entry["frequency"]),
        stability=float(entry["stability"]),
        examples=examples,
    )
