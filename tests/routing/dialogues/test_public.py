"""The public data sets: numbers of their README, and clear errors where they are absent."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparseft import paths
from sparseft.errors import DataError
from sparseft.routing import Turn
from sparseft.routing.dialogues import (
    read_multiwoz,
    read_schemas,
    read_sgd,
    recorded_turns,
)
from sparseft.routing.dialogues.tables import data_file


def _sizes(turns: list[Turn]) -> tuple[int, int]:
    return len(turns), len({turn.dialogue for turn in turns})


@pytest.mark.parametrize(
    ("version", "split", "sizes"),
    [
        ("2.1", "train", (3656, 538)),
        ("2.1", "validation", (7365, 999)),
        ("2.1", "test", (7372, 1000)),
        ("2.4", "validation", (2014, 278)),
    ],
)
def test_multiwoz_has_its_turns(
    shared_data: Path, version: str, split: str, sizes: tuple[int, int]
) -> None:
    turns = read_multiwoz(version, split, shared_data)
    assert _sizes(turns) == sizes
    assert all((turn.system == "") == (turn.number == 0) for turn in turns)


def test_the_recorded_turns_are_part_of_the_validation_split(shared_data: Path) -> None:
    turns = recorded_turns(shared_data)
    assert _sizes(turns) == (1447, 200)
    validation = {turn.id: turn for turn in read_multiwoz("2.4", "validation", shared_data)}
    assert all(validation[turn.id] == turn for turn in turns)


@pytest.mark.parametrize(("split", "sizes"), [("train", (18004, 2000)), ("test", (24863, 2921))])
def test_sgd_has_its_turns_and_schemas_its_slots(
    shared_data: Path, split: str, sizes: tuple[int, int]
) -> None:
    turns, schemas = read_sgd(split, shared_data), read_schemas(shared_data)
    assert _sizes(turns) == sizes and len(schemas) == 45
    for turn in turns:
        assert turn.domains
        for slot, value in turn.state.items():
            service, _, name = slot.partition("-")
            found = schemas[service].slots[name]
            assert split in schemas[service].splits
            if found.categorical:
                assert value in (*found.values, "dontcare")


def test_schemas_become_described_slots(tmp_path: Path) -> None:
    slot = {"name": "kind", "description": "what", "is_categorical": True}
    schema = {
        "S_1": {
            "description": "things",
            "slots": [{**slot, "possible_values": ["a", "b"]}],
            "splits": ["test"],
        }
    }
    (tmp_path / "sgd").mkdir()
    path = tmp_path / "sgd" / "schemas.json.gz"
    path.write_bytes(gzip.compress(json.dumps(schema).encode()))
    assert read_schemas(tmp_path)["S_1"].described == {"S_1-kind": "what (one of: a, b)"}
    damaged: list[bytes] = [b"", b"{}", gzip.compress(b"{"), gzip.compress(b"[]")]
    for content in [*damaged, gzip.compress(b'{"S_1": {"slots": 3}}'), path.read_bytes()[:-20]]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"schemas\.json\.gz.*fetch"):
            read_schemas(tmp_path)


_READERS: list[Callable[[Any], Any]] = [
    lambda root: read_multiwoz("2.1", "test", root),
    lambda root: read_sgd("test", root),
    recorded_turns,
    read_schemas,
]


@pytest.mark.parametrize("reader", _READERS)
def test_absent_data_is_named_with_what_to_do(
    reader: Callable[[Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=rf"expected the file .* in {tmp_path}.*data\.root"):
        reader(tmp_path)
    monkeypatch.setattr(
        "sparseft.routing.dialogues.tables.default_data_root", lambda: None, raising=True
    )
    with pytest.raises(DataError, match=r"no \.\./shared/data .* data\.root"):
        reader(None)


def test_unknown_splits_are_named() -> None:
    for version, split in (("2.4", "test"), ("2.2", "test"), ("2.1", "dev")):
        with pytest.raises(DataError, match=f"2.4 validation.*got {version} {split}"):
            read_multiwoz(version, split)
    with pytest.raises(DataError, match=r"validation.*'dev'"):
        read_sgd("dev")


def test_files_are_looked_for_beside_the_checkout(shared_data: Path) -> None:
    assert paths.default_data_root() == shared_data
    assert data_file(None, "sgd", "schemas.json.gz").parent == shared_data / "sgd"
