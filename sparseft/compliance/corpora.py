"""The corpora that a run can name: the simulator's, ABCD's, and a user's own files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sparseft.compliance.corpus import Corpus, split_validation
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Example
from sparseft.config import DataConfig
from sparseft.errors import ConfigError, DataError
from sparseft.paths import default_data_root

__all__ = ["Variants", "load_corpus", "variants_of"]

_TRAIN_ROWS = 219
_TEST_ROWS = 53


def load_corpus(config: DataConfig, schema: Schema, seed: int) -> Corpus:
    """The examples that `config` describes, checked against the schema.

    Args:
        seed: draws the training examples; validation is `config.validation_share` of the rows, by
            the same seed. The test examples are drawn by `config.split_seed`: runs of all seeds are
            scored on the same ones.

    Raises:
        ConfigError: the data's gold does not fit the schema, or the kind is of another task.
        DataError: files are missing or cannot be read.
    """
    readers = {"simulator": _simulator, "abcd": _abcd, "transcripts": _transcripts}
    if config.kind not in readers:
        raise ConfigError(
            f"expected data of task=compliance, data.kind of {', '.join(readers)}, got "
            f"{config.kind}; choose data=service, data=abcd or data=transcripts."
        )
    train, validation, test, report = readers[config.kind](config, schema, seed)
    if not validation:
        train, validation = split_validation(train, config.validation_share, seed)
    rows = {"train": len(train), "validation": len(validation), "test": len(test)}
    return Corpus(
        config.name,
        schema,
        tuple(train),
        tuple(validation),
        tuple(test),
        {"rows": rows, "test_texts_removed": 0, **report},
    )


_Splits = tuple[Sequence[Example], Sequence[Example], Sequence[Example], dict[str, object]]


def _simulator(config: DataConfig, schema: Schema, seed: int) -> _Splits:
    from sparseft.compliance.service import simulate

    rows = config.rows or _TRAIN_ROWS
    held = max(1, round(config.validation_share * rows))
    if held >= rows:
        raise ConfigError(f"expected data.rows of 2 or more, got {rows}; ask for more.")
    # Part of the rows, but in wording of its own: thresholds set on training wording would be
    # too sure of themselves.
    train = simulate(rows - held, seed, "train")
    validation = simulate(held, seed, "validation")
    test = simulate(config.test_rows or _TEST_ROWS, config.split_seed, "test")
    return train, validation, test, {}


def _abcd(config: DataConfig, schema: Schema, seed: int) -> _Splits:
    from sparseft.compliance.abcd import load_abcd

    root = Path(config.root).expanduser() if config.root else default_data_root()
    if root is None or not (root / "abcd").is_dir():
        raise DataError(
            f"expected the folder abcd below data.root, got {root}; set data.root to where the "
            "data sets lie."
        )
    corpus = load_abcd(
        root / "abcd",
        train_rows=config.rows or _TRAIN_ROWS,
        seed=seed,
        test_rows=config.test_rows,
    )
    return corpus.train, (), corpus.test, {}


def _transcripts(config: DataConfig, schema: Schema, seed: int) -> _Splits:
    from sparseft.compliance.jsonl import BadLine, read_jsonl

    def read(key: str, name: str | None) -> list[Example]:
        if name is None:
            return []
        path = Path(name).expanduser()
        if not path.is_absolute() and config.root:
            path = Path(config.root).expanduser() / path
        examples: list[Example] = []
        for line in read_jsonl(path, schema, True):
            if isinstance(line, BadLine):
                # Unlike in prediction: a wrong gold would be learned or scored.
                raise DataError(f"{key}, line {line.line}: {line.error}")
            assert isinstance(line, Example)
            examples.append(line)
        return examples

    if config.train is None or config.test is None:
        raise ConfigError(
            "expected data.train and data.test, JSON lines of labelled transcripts, got none; "
            "set both."
        )
    splits = [
        read(f"data.{name}", getattr(config, name)) for name in ("train", "validation", "test")
    ]
    return splits[0], splits[1], splits[2], {}


Variants = tuple[tuple[str, ...], Callable[[Example, Sequence[str] | None, int], list[Example]]]


def variants_of(config: DataConfig) -> Variants | None:
    """A corpus's kinds of hard negatives and the function that makes them; None: it has none."""
    if config.kind != "simulator":
        return None
    from sparseft.compliance.service.hard_negatives import KINDS, hard_negatives

    return tuple(KINDS), hard_negatives
