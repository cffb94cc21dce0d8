"""The dialogues that a tracker is trained, validated and tested on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparseft.config import DataConfig
from sparseft.errors import ConfigError, DataError
from sparseft.paths import default_data_root
from sparseft.routing.dialogues import (
    read_jsonl,
    read_multiwoz,
    recorded_turns,
    simulate_dialogues,
)
from sparseft.routing.states import State
from sparseft.routing.turns import Context, Turn, dialogues_of

__all__ = ["DialogueCorpus", "draw_dialogues", "load_dialogues", "with_gold"]

_BUILTIN = (120, 30, 100)  # dialogues of train, validation and test
_PHRASINGS = ("pool", "pool", "test")


@dataclass(frozen=True)
class DialogueCorpus:
    """Turns by split; no dialogue is in two of them.

    Attributes:
        report: what is to be said of it in a run's record.
    """

    name: str
    train: tuple[Turn, ...]
    validation: tuple[Turn, ...]
    test: tuple[Turn, ...]
    report: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Of all turns."""
        digest = hashlib.sha256()
        for turn in (*self.train, *self.validation, *self.test):
            own = [turn.dialogue, turn.number, turn.system, turn.user, dict(turn.delta)]
            digest.update(json.dumps(own, sort_keys=True).encode())
        return digest.hexdigest()


def load_dialogues(config: DataConfig, seed: int, validation_dialogues: int) -> DialogueCorpus:
    """The dialogues that `config` describes.

    Built-in ones: train and validation share phrasings, test has others. MultiWOZ: the train subset
    of 2.1; validation from 2.1's validation split without the recorded dialogues, drawn by
    `config.split_seed`; with `train: all` what is left of that split is trained on as well; test
    are the recorded dialogues of 2.4. A user's own: `train`, `validation`
    (else a part of train) and `test` are JSONL files.

    Args:
        config: `rows` are training dialogues here and `test_rows` test dialogues; None: all.
        seed: of the training dialogues that `rows` draws.
        validation_dialogues: the most.

    Raises:
        ConfigError: the kind is of another task, or a file is not named.
        DataError: a file is missing or cannot be read, or a split is empty.
    """
    readers = {"dialogues": _builtin, "multiwoz": _multiwoz, "turns": _files}
    if config.kind not in readers:
        raise ConfigError(
            f"expected dialogues, data.kind of {', '.join(readers)}, got {config.kind}; choose "
            "data=dialogues, data=multiwoz or data=turns."
        )
    train, validation, test = readers[config.kind](config, validation_dialogues)
    if config.rows is not None:
        train = draw_dialogues(train, config.rows, seed)
    if config.test_rows is not None:
        test = draw_dialogues(test, config.test_rows, config.split_seed)
    names = [{turn.dialogue for turn in split} for split in (train, validation, test)]
    for split, own in zip(("train", "validation", "test"), names, strict=True):
        if not own:
            raise DataError(f"expected dialogues of {split}, got none; give more dialogues.")
    shared = (names[0] & names[1]) | (names[0] & names[2]) | (names[1] & names[2])
    if shared:
        raise DataError(
            f"expected every dialogue in one split, got {sorted(shared)[0]} in two; name each "
            "dialogue once."
        )
    rows = {"train": len(train), "validation": len(validation), "test": len(test)}
    return DialogueCorpus(
        config.name,
        tuple(train),
        tuple(validation),
        tuple(test),
        {
            "rows": rows,
            "test_texts_removed": 0,
            "dialogues": dict(zip(rows, map(len, names), strict=True)),
        },
    )


def with_gold(turns: Sequence[Turn]) -> tuple[list[Context], list[State]]:
    """Turns in contexts whose previous state is the gold one, for training, and their deltas."""
    contexts: list[Context] = []
    deltas: list[State] = []
    for own in dialogues_of(turns).values():
        previous: State = {}
        history: tuple[tuple[str, str], ...] = ()
        for turn in own:
            contexts.append(
                Context(turn.dialogue, turn.number, turn.system, turn.user, previous, history)
            )
            deltas.append(turn.delta)
            previous = turn.state
            history = (*history, (turn.system, turn.user))
    return contexts, deltas


_Splits = tuple[list[Turn], list[Turn], list[Turn]]


def _builtin(config: DataConfig, validation: int) -> _Splits:
    counts = (config.rows or _BUILTIN[0], min(_BUILTIN[1], validation), _BUILTIN[2])
    # Seeds apart, so that a dialogue of the same phrasings is another one.
    parts = [
        simulate_dialogues(count, seed, phrasing)
        for seed, (count, phrasing) in enumerate(zip(counts, _PHRASINGS, strict=True), 1)
    ]
    return parts[0], parts[1], parts[2]


def _multiwoz(config: DataConfig, validation: int) -> _Splits:
    root = config.root or default_data_root()
    test = recorded_turns(root)
    recorded = {turn.dialogue for turn in test}
    rest = [t for t in read_multiwoz("2.1", "validation", root) if t.dialogue not in recorded]
    train = read_multiwoz("2.1", "train", root)
    held = draw_dialogues(rest, validation, config.split_seed)
    if config.train == "all":
        taken = {turn.dialogue for turn in held}
        train += [turn for turn in rest if turn.dialogue not in taken]
    elif config.train is not None:
        raise ConfigError(
            f"expected data.train=all (what is left of the validation split as well) or null for "
            f"data.kind=multiwoz, got {config.train!r}; change it."
        )
    return train, held, test


def _files(config: DataConfig, validation: int) -> _Splits:
    named = {"train": config.train, "test": config.test}
    for key, file in named.items():
        if file is None:
            raise ConfigError(f"expected a JSONL file in data.{key}, got none; set data.{key}.")
    root = config.root or "."
    train, test = (read_jsonl(_path(root, str(file))) for file in named.values())
    if config.validation is not None:
        return train, read_jsonl(_path(root, config.validation)), test
    names = len({turn.dialogue for turn in train})
    held = draw_dialogues(
        train, min(validation, max(1, round(config.validation_share * names))), config.split_seed
    )
    taken = {turn.dialogue for turn in held}
    return [turn for turn in train if turn.dialogue not in taken], held, test


def _path(root: str, file: str) -> str:
    return str(Path(root) / file)


def draw_dialogues(turns: Sequence[Turn], count: int, seed: int) -> list[Turn]:
    """The turns of `count` dialogues, or of all where there are fewer."""
    names = sorted({turn.dialogue for turn in turns})
    order = np.random.default_rng(seed).permutation(len(names))[:count]
    chosen = {names[place] for place in order.tolist()}
    return [turn for turn in turns if turn.dialogue in chosen]
