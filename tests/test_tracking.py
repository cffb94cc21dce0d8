"""Tracking: offline runs really land on disk, off writes nothing, failures stop no run."""

from __future__ import annotations

import importlib.util
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sparseft import tracking
from sparseft.config import TrackingConfig
from sparseft.errors import ConfigError
from sparseft.tracking import NullTracker, Tracker, logged_in, open_tracker


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DISABLED", "WANDB_BASE_URL", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def _open(mode: Any, folder: Path) -> Tracker:
    return open_tracker(
        TrackingConfig(wandb=mode, project="tests"),
        folder,
        {"seed": 3, "method": {"name": "sparse"}},
        name="trec-sparse-seed3",
        group="intent/trec/sparse",
        tags=["sparse", "trec", "sparse", "x" * 90],
    )


def _written(folder: Path) -> list[Path]:
    return sorted(folder.rglob("run-*.wandb"))


def _content(file: Path, until: bytes) -> bytes:
    """The file once W&B's service, a process of its own, has flushed it."""
    deadline = time.monotonic() + 30
    while until not in file.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.05)
    return file.read_bytes()


@pytest.mark.parametrize("mode", ["auto", "offline"])
def test_without_a_login_a_run_is_written_offline(mode: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    tracker = _open(mode, folder)
    tracker.log({"train/loss": 0.75}, step=1)
    tracker.log({"train/loss": 0.5, "validation/accuracy": 0.25}, step=2)
    tracker.finish({"test/accuracy": 0.875})
    (file,) = _written(folder / "wandb")
    content = _content(file, until=b"0.875")
    for part in (b"trec-sparse-seed3", b"intent/trec/sparse", b"validation/accuracy", b"0.875"):
        assert part in content, part
    assert "offline-run-" in file.parent.name


def test_two_runs_of_one_process_are_apart_although_the_first_never_ended(tmp_path: Path) -> None:
    first = _open("offline", tmp_path / "first")
    second = _open("offline", tmp_path / "second")
    second.log({"train/loss": 1.0}, step=1)
    second.finish({"test/accuracy": 1.0})
    first.finish({})
    assert len(_written(tmp_path / "first")) == len(_written(tmp_path / "second")) == 1


def test_off_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    tracker = _open("off", folder)
    tracker.log({"train/loss": 1.0}, step=1)
    tracker.finish({"test/accuracy": 1.0})
    assert isinstance(tracker, NullTracker)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("variable", "value"), [("WANDB_MODE", "disabled"), ("WANDB_DISABLED", "true")]
)
def test_auto_heeds_the_environment(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert isinstance(_open("auto", tmp_path / "run"), NullTracker)


def test_auto_without_wandb_is_off_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO, logger="sparseft.tracking"):
        assert isinstance(_open("auto", tmp_path / "run"), NullTracker)
    assert [record.message for record in caplog.records] == [
        "wandb is not installed, so nothing is sent to it (tracking.wandb=off)"
    ]
    for mode in ("online", "offline"):
        with pytest.raises(ConfigError, match="pip install wandb"):
            _open(mode, tmp_path / "run")


def test_online_without_a_login_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="WANDB_API_KEY"):
        _open("online", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_login_is_found_in_the_variable_or_in_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not logged_in()
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.example.org login user password abc\n")
    netrc.chmod(0o600)
    assert not logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://api.example.org:8080")
    assert logged_in()
    netrc.write_text("machine\n")
    assert not logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert logged_in()


def test_an_unreachable_server_neither_stops_nor_holds_up_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(tracking, "_INIT_SECONDS", 2)
    start = time.monotonic()
    tracker = _open("online", tmp_path / "run")
    tracker.log({"train/loss": 1.0}, step=1)
    tracker.finish({"test/accuracy": 1.0})
    assert time.monotonic() - start < 60
    assert isinstance(tracker, NullTracker)
    assert "could not start" in caplog.text


def test_a_failure_while_logging_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("service is gone\nwith a long trace")

    run = SimpleNamespace(log=fail, finish=fail, summary={})
    tracker = tracking._WandbTracker(run)
    tracker.log({"train/loss": 1.0}, step=1)
    tracker.log({"train/loss": 1.0}, step=2)
    tracker.finish({"test/accuracy": 1.0})
    assert [record.message for record in caplog.records] == [
        "W&B could not log (service is gone); the run goes on without it"
    ]
