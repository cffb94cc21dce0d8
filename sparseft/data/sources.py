"""Where raw rows come from: the package itself, files under a root, or a hub."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from sparseft.config import DataConfig
from sparseft.data.files import missing_column, read_columns, read_csv
from sparseft.errors import DataError
from sparseft.paths import default_data_root

__all__ = ["RawRows", "RawTask", "SplitName", "builtin_names", "read_raw"]

SplitName = Literal["train", "validation", "test"]
_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class RawRows:
    """Unchecked values of one source; `ids` are row numbers there, `source` is for messages."""

    texts: list[Any]
    labels: list[Any]
    ids: list[int]
    source: str


@dataclass(frozen=True)
class RawTask:
    """The raw rows of each split; validation is None where the source has none."""

    train: RawRows
    validation: RawRows | None
    test: RawRows
    out_of_scope: dict[SplitName, RawRows]


def read_raw(config: DataConfig) -> RawTask:
    """The raw rows that `config` names.

    Raises:
        DataError: a file, column, split, or the whole data set cannot be found or read.
    """
    readers: dict[str, Callable[[DataConfig], RawTask]] = {
        "builtin": _read_builtin,
        "files": _read_files,
        "hub": _read_hub,
    }
    if config.kind not in readers:
        raise DataError(
            f"expected data.kind to be one of {', '.join(readers)}, got {config.kind!r}."
        )
    return readers[config.kind](config)


# --- in the package


def builtin_names() -> list[str]:
    """The names of the data sets inside the package."""
    folder = resources.files("sparseft.data").joinpath("builtin")
    return sorted(f.name.removesuffix(".csv") for f in folder.iterdir() if f.name.endswith(".csv"))


def _read_builtin(config: DataConfig) -> RawTask:
    names = builtin_names()
    if config.name not in names:
        raise DataError(
            f"expected data.name to be a built-in data set ({', '.join(names)}), "
            f"got {config.name!r}; for your own files set data=files."
        )
    # Through importlib.resources, so that it also works from a wheel or a zip file.
    file = resources.files("sparseft.data").joinpath("builtin", f"{config.name}.csv")
    content = io.StringIO(file.read_text(encoding="utf-8"), newline="")
    texts, labels, splits = read_csv(content, ("text", "label", "split"), file.name)
    rows: dict[SplitName, RawRows] = {}
    for split in _SPLITS:
        ids = [i for i, name in enumerate(splits) if name == split]
        rows[split] = RawRows(
            texts=[texts[i] for i in ids],
            labels=[labels[i] for i in ids],
            ids=ids,
            source=f"the {split} rows of {file.name}",
        )
    return RawTask(rows["train"], rows["validation"], rows["test"], {})


# --- files


def _read_files(config: DataConfig) -> RawTask:
    def rows(key: str, name: str | None, label_column: str | None) -> RawRows | None:
        if name is None:
            return None
        path = _resolve(key, name, config.root)
        columns = [config.text_column] + ([label_column] if label_column is not None else [])
        texts, *labels = read_columns(path, columns)
        return RawRows(texts, labels[0] if labels else [], list(range(len(texts))), str(path))

    train = rows("data.train", config.train, config.label_column)
    validation = rows("data.validation", config.validation, config.label_column)
    test = rows("data.test", config.test, config.label_column)
    if train is None or test is None:
        missing = "data.train" if train is None else "data.test"
        raise DataError(f"expected a file in {missing}, got none; set {missing}=FILE.")
    out_of_scope: dict[SplitName, RawRows] = {}
    if config.out_of_scope is not None:
        for split in _SPLITS:
            file = getattr(config.out_of_scope, split)
            found = rows(f"data.out_of_scope.{split}", file, None)
            if found is not None:
                out_of_scope[split] = found
    return RawTask(train, validation, test, out_of_scope)


def _resolve(key: str, name: str, root: str | None) -> Path:
    path = Path(name).expanduser()
    if path.is_absolute():
        return path
    folder = default_data_root() if root is None else Path(root).expanduser()
    if folder is None:
        raise DataError(
            f"expected a data folder for {key}={name}, got none: there is no ../shared/data beside "
            "the checkout or the working directory; set data.root=FOLDER."
        )
    if not folder.is_dir():
        raise DataError(
            f"expected data.root to be a folder, got {folder}; set data.root=FOLDER to the one "
            f"that holds {name}."
        )
    return folder / path


# --- hub


def _read_hub(config: DataConfig) -> RawTask:
    if config.id is None:
        raise DataError("expected the id of a hub data set in data.id, got none; set data.id=ID.")
    if config.out_of_scope is not None:
        raise DataError(
            "expected data.out_of_scope only with data.kind=files, got it with data.kind=hub; "
            "save the data set as files."
        )
    train = _hub_split(config, config.train or "train")
    validation = None if config.validation is None else _hub_split(config, config.validation)
    test = _hub_split(config, config.test or "test")
    return RawTask(train, validation, test, {})


def _hub_split(config: DataConfig, split: str) -> RawRows:
    import datasets

    assert config.id is not None
    source = f"the split {split!r} of the hub data set {config.id!r}"
    try:
        table = datasets.load_dataset(config.id, name=config.config_name, split=split)
    except (ConnectionError, FileNotFoundError) as error:
        # DatasetNotFoundError is a FileNotFoundError; unreachable and offline hubs raise
        # ConnectionError.
        raise DataError(
            f"expected to load {source}, got: {_first_line(error)}; check data.id and the network, "
            "or save the data set as files and use data=files."
        ) from error
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"expected to load {source}, got: {_first_line(error)}; check data.train, "
            "data.validation, data.test and data.config_name."
        ) from error
    for column in (config.text_column, config.label_column):
        if column not in table.column_names:
            raise missing_column(column, table.column_names, source)
    labels = table[config.label_column][:]
    return RawRows(
        texts=table[config.text_column][:],
        labels=_named(labels, table.features[config.label_column]),
        ids=list(range(len(labels))),
        source=source,
    )


def _named(labels: list[Any], feature: Any) -> list[Any]:
    """Class numbers of the hub as their names; -1, the hub's mark of a hidden label, as None."""
    import datasets

    if isinstance(feature, datasets.ClassLabel):
        return [None if i is None or i < 0 else feature.int2str(i) for i in labels]
    inner = getattr(feature, "feature", None)
    if isinstance(inner, datasets.ClassLabel):
        return [None if row is None else [inner.int2str(i) for i in row] for row in labels]
    return labels


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
