"""A checkpoint is whole or absent, and only its own run takes it up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from sparseft import Budget, analyze
from sparseft.errors import CheckpointError, SparseftError
from sparseft.training import CheckpointStore
from tests.tiny import tiny, tiny_batch

_HASH = "ab" * 32


def _store(folder: Path, config_hash: str = _HASH, commit: str = "c1") -> CheckpointStore:
    return CheckpointStore(folder / "checkpoint", config_hash, commit)


def test_a_state_and_its_selection_come_back(tmp_path: Path) -> None:
    model = tiny("bert")
    selection = analyze(model, [tiny_batch(model)], budget=Budget(density=0.2))
    store = _store(tmp_path)
    assert store.load() is None
    for step in (1, 2):
        store.save({"values": [torch.full((3,), float(step))], "step": step}, selection)
    loaded = _store(tmp_path).load()
    assert loaded is not None
    state, found = loaded
    assert state["step"] == 2 and torch.equal(state["values"][0], torch.full((3,), 2.0))
    assert found is not None and found.to_dict() == selection.to_dict()
    assert sorted(path.name for path in store.folder.iterdir()) == ["selection.json", "state.pt"]
    store.remove()
    assert store.load() is None and not store.folder.exists()


def test_another_configuration_is_refused_and_another_commit_starts_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _store(tmp_path).save({"step": 1})
    with pytest.raises(CheckpointError, match=r"abababababab.*remove"):
        _store(tmp_path, config_hash="cd" * 32).load()
    assert _store(tmp_path).load() is not None
    assert _store(tmp_path, commit="c2").load() is None
    assert "starting again" in caplog.text
    assert _store(tmp_path).load() is None


@pytest.mark.parametrize("damage", ["truncated", "no checkpoint", "old format"])
def test_a_damaged_checkpoint_is_one_clear_error(damage: str, tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.save({"values": [torch.ones(1000)]})
    path = store.folder / "state.pt"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-500])
    elif damage == "no checkpoint":
        path.write_text("not a checkpoint")
    else:
        torch.save({"format_version": 0}, path)
    with pytest.raises(CheckpointError, match=r"state\.pt.*remove"):
        store.load()


def test_a_full_disk_keeps_the_older_checkpoint(
    tmp_path: Path, disk_full: Callable[[int], AbstractContextManager[None]]
) -> None:
    store = _store(tmp_path)
    store.save({"step": 1})
    with disk_full(1000), pytest.raises(SparseftError, match="free some space"):
        store.save({"step": 2, "values": [torch.ones(10_000)]})
    loaded = store.load()
    assert loaded is not None and loaded[0]["step"] == 1
    assert [path.name for path in store.folder.iterdir()] == ["state.pt"]
