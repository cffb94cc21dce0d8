"""The ABCD folder as labelled transcripts: a draw of the train subset, and the validation split.

The texts name no speakers and hold no action lines, so each conversation is one turn of an unknown
speaker. Both splits give every field; `flow` does not, which 716 of 800 train rows lack.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparseft.compliance.abcd.gold import Action, gold_of
from sparseft.compliance.abcd.kinds import Ontology, read_ontology
from sparseft.compliance.schema import load_schema
from sparseft.compliance.transcript import Example, Transcript, Turn
from sparseft.errors import DataError

__all__ = ["Abcd", "load_abcd"]

_TRAIN, _TEST = "conversations_train_subset.parquet", "conversations_validation.parquet"


@dataclass(frozen=True)
class Abcd:
    """Labelled conversations.

    Attributes:
        train: the drawn ones.
        test: of the official validation split.
        spare: train conversations that were not drawn.
    """

    train: tuple[Example, ...]
    test: tuple[Example, ...]
    spare: tuple[Example, ...]


def load_abcd(
    root: Path, *, train_rows: int = 219, seed: int = 0, test_rows: int | None = None
) -> Abcd:
    """The corpus of the schema `abcd`; the same arguments give the same examples.

    Args:
        root: folder of conversations_*.parquet and ontology.json.gz.
        train_rows: drawn by `seed`; more rows of one seed contain its fewer rows.
        test_rows: as many of the validation split, always the same ones; None: all.

    Raises:
        DataError: a file is missing or damaged, or there are fewer rows.
    """
    ontology = read_ontology(root / "ontology.json.gz")
    train = _read(root / _TRAIN, "train", ontology)
    test = _read(root / _TEST, "validation", ontology)
    chosen = _draw(len(train), train_rows, seed, "train_rows")
    scored = _draw(len(test), len(test) if test_rows is None else test_rows, 0, "test_rows")
    rest = sorted(set(range(len(train))) - set(chosen))
    return Abcd(
        tuple(train[place] for place in chosen),
        # In the file's order.
        tuple(test[place] for place in sorted(scored)),
        tuple(train[place] for place in rest),
    )


def _draw(available: int, wanted: int, seed: int, name: str) -> list[int]:
    if not 0 < wanted <= available:
        raise DataError(
            f"expected {name} from 1 to {available}, got {wanted}; choose as many as there are."
        )
    return np.random.default_rng(seed).permutation(available)[:wanted].tolist()


def _read(path: Path, split: str, ontology: Ontology) -> list[Example]:
    import pyarrow
    import pyarrow.parquet

    schema = load_schema("abcd")
    try:
        table = pyarrow.parquet.read_table(path, columns=["dialogue", "actions"])
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"expected ABCD's conversations at {path}, got {type(error).__name__}: {error}; fetch "
            "the file again."
        ) from error
    examples = []
    rows = zip(table["dialogue"].to_pylist(), table["actions"].to_pylist(), strict=True)
    for place, (dialogue, recorded) in enumerate(rows):
        name = f"abcd-{split}-{place}"
        gold = gold_of(_actions(recorded, f"{path}, row {place}"), ontology)
        turns = (Turn("unknown", dialogue),)
        examples.append(Example(Transcript(name, turns), schema.canonical(gold), group=name))
    return examples


def _actions(recorded: str, where: str) -> Sequence[Action]:
    try:
        return [
            Action(entry["action"], tuple(str(value).strip().lower() for value in entry["values"]))
            for entry in json.loads(recorded)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"expected a JSON list of actions with values in {where}, got {str(recorded)[:80]!r}; "
            "fetch the file again."
        ) from error
