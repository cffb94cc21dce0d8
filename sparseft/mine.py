"""`python -m sparseft.mine`: the constructs of a data set, as a file and as two cards.

    python -m sparseft.mine --data trec --out cards/trec
    python -m sparseft.mine --data files name=mine train=train.csv test=test.csv --out cards/mine
    python -m sparseft.mine --data trec rows=600 --set q=0.01 gap=3 --model smollm2 --out cards/few

Mines the training rows alone and writes constructs.json, card.md and card.html. To use constructs
in a run: `python -m sparseft.run constructs=tokens`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sparseft import files
from sparseft.config import RunConfig
from sparseft.errors import ConfigError, SparseftError
from sparseft.paths import conf_dir

if TYPE_CHECKING:
    from sparseft.constructs import Constructs

__all__ = ["main", "mine_to_folder"]

_FILES = ("constructs.json", "card.md", "card.html")


def mine_to_folder(config: RunConfig, out: str | Path, per_label: int = 10) -> Constructs:
    """Mine the training rows of `config.data` with `config.constructs`, and write the files.

    Args:
        config: its model gives the tokenizer; the seed draws the rows and the bootstrap.
        out: the folder.
        per_label: constructs of a class that the cards show.

    Raises:
        DataError: no such data.
        ModelError: no such model.
        ConfigError: `per_label` is below 1.
        SparseftError: the folder cannot be written.
    """
    # Only here: they load torch and transformers, which a wrong option need not wait for.
    from sparseft import models
    from sparseft.constructs import html_card, markdown_card, mine
    from sparseft.data import load_data
    from sparseft.training.constructs import mining_settings

    if per_label < 1:
        raise ConfigError(f"expected 1 construct a class or more, got {per_label}; change it.")
    data = load_data(config.data, config.seed)
    tokenizer = models.load(config.model, data.num_labels, data.multi_label).tokenizer
    found = mine(
        data.train.texts,
        data.train.labels,
        data.label_names,
        tokenizer,
        mining_settings(config.constructs, config.model.max_length, config.seed),
        data_name=data.name,
    )
    folder = Path(out)
    found.save(folder / _FILES[0])
    files.write_text(folder / _FILES[1], markdown_card(found, per_label))
    files.write_text(folder / _FILES[2], html_card(found, per_label))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 2 on a user error."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        config = _config(options)
        started = time.perf_counter()
        found = mine_to_folder(config, options.out, options.per_label)
    except SparseftError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    classes = len({construct.label for construct in found})
    sys.stdout.write(
        f"{len(found):,} constructs of {classes:,} of {len(found.labels):,} classes in "
        f"{found.counts['texts']:,} texts, {time.perf_counter() - started:.1f} s\n"
    )
    for name in _FILES:
        sys.stdout.write(f"{Path(options.out) / name}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sparseft.mine",
        description="The label-informative token groups of a data set's training rows.",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar=("NAME", "KEY=VALUE"),
        help="a file of conf/data, with changes of its keys",
    )
    parser.add_argument(
        "--model",
        nargs="+",
        default=["minilm"],
        metavar=("NAME", "KEY=VALUE"),
        help="a file of conf/model, whose tokens are grouped (default minilm)",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="how to mine; the keys of conf/constructs/mine.yaml",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where to write")
    parser.add_argument("--seed", type=int, default=0, help="of drawn rows and of the bootstrap")
    parser.add_argument(
        "--per-label", type=int, default=10, metavar="N", help="constructs shown of a class"
    )
    return parser


def _config(options: argparse.Namespace) -> RunConfig:
    """The checked settings; a method's are not used."""
    return RunConfig.from_mapping(
        {
            "experiment": "mine",
            "seed": options.seed,
            "data": _group("data", options.data),
            "model": _group("model", options.model),
            "constructs": _group("constructs", ["mine", *options.set]),
            "method": {"name": "probe"},
        }
    )


def _group(group: str, words: Sequence[str]) -> dict[str, Any]:
    """A file of a folder of conf with what it stands on, and the changes of the command line."""
    name, *changes = words
    values = _file(group, name)
    for change in changes:
        key, sign, value = change.partition("=")
        if not sign:
            raise ConfigError(f"expected KEY=VALUE after {group} {name}, got {change!r}; add a =.")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"expected a value of YAML for {group}.{key}, got {value!r}; quote it."
            ) from error
    missing = [key for key, value in values.items() if value == "???"]
    if missing:
        raise ConfigError(
            f"expected a value for {group}.{missing[0]}, got none; add {missing[0]}=…"
        )
    return values


def _file(group: str, name: str) -> dict[str, Any]:
    folder = conf_dir() / group
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("[!_]*.yaml")))
        raise ConfigError(f"expected a {group} of {folder}, got {name!r}; choose from: {known}.")
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    values: dict[str, Any] = {}
    for below in own.pop("defaults", []):
        values.update(_file(group, below))
    return {**values, **own}


if __name__ == "__main__":
    sys.exit(main())
