"""The file of a cache: shared by what it fits, rebuilt when damaged, never half-written."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparseft.errors import ConfigError, SparseftError
from sparseft.methods import MethodContext, get
from sparseft.models import TextClassifier
from sparseft.training import PrefixCache
from sparseft.training.prefix_cache import cache as cache_module
from tests.tiny import LAYERS, tiny, tiny_batch

_ROOT = Path(__file__).resolve().parents[2]


def _model(seed: int = 0, method: str = "layers", depth: float = 0.5) -> TextClassifier:
    model = tiny("bert", seed=seed)
    get(method)(model, MethodContext(lambda n: [], 0, LAYERS, {"depth": depth}))
    return model


def _batches(seed: int = 0) -> list[dict[str, Tensor]]:
    return [tiny_batch(tiny("bert"), rows=6, seed=seed + i) for i in range(3)]


def _build(folder: Path, model: TextClassifier | None = None, **options: Any) -> PrefixCache:
    batches = options.pop("batches", None) or _batches()
    return PrefixCache.build(model or _model(), batches, where=folder, progress="off", **options)


def _all_states(cache: PrefixCache) -> list[Tensor]:
    return [cache.states(batch) for batch in _batches()]


def _equal(one: PrefixCache, other: PrefixCache) -> bool:
    return all(map(torch.equal, _all_states(one), _all_states(other)))


def test_a_file_holds_what_memory_holds(tmp_path: Path) -> None:
    memory = PrefixCache.build(_model(), _batches(), progress="off")
    written = _build(tmp_path / "a" / "b")
    assert not written.reused and _equal(memory, written)
    assert written.bytes == memory.bytes
    (path,) = (tmp_path / "a" / "b").iterdir()
    states = load_file(path)["states"]
    assert states.shape == (memory.tokens, 16) and states.dtype == torch.float32
    half = _build(tmp_path / "half", dtype="bfloat16")
    (path,) = (tmp_path / "half").iterdir()
    assert torch.equal(load_file(path)["states"], states.to(torch.bfloat16))
    assert 2 * half.bytes == written.bytes


def test_another_run_of_the_same_prefix_shares_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _build(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    def must_not_run(*_: Any) -> Any:
        yield pytest.fail("computed again")

    monkeypatch.setattr(cache_module, "compute", must_not_run)
    second = _build(tmp_path, _model(method="lora_upper"))
    assert second.reused and _equal(first, second)
    assert second.build_seconds != second.seconds
    assert second.build_seconds == pytest.approx(first.seconds, rel=0.9)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_whatever_else_differs_makes_another_file(tmp_path: Path) -> None:
    def others() -> list[PrefixCache]:
        narrow = [{k: v[:, :6] if v.ndim == 2 else v for k, v in b.items()} for b in _batches()]
        with torch.autocast("cpu", torch.bfloat16):
            low = _build(tmp_path)
        return [
            low,
            _build(tmp_path),
            _build(tmp_path, _model(seed=1)),
            _build(tmp_path, _model(depth=0.2)),
            _build(tmp_path, dtype="bfloat16"),
            _build(tmp_path, batches=_batches(seed=9)),
            _build(tmp_path, batches=narrow),
        ]

    assert not any(cache.reused for cache in others())
    assert len(list(tmp_path.iterdir())) == 7
    assert all(cache.reused for cache in others())


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(bytes(content))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _foreign(path: Path) -> None:
    save_file({"states": load_file(path)["states"].clone()}, path, {"key": "of another model"})


def _other_name(path: Path) -> None:
    key = json.loads(path.read_bytes()[8:].split(b"}}")[0] + b"}}")["__metadata__"]["key"]
    save_file({"values": torch.ones(3)}, path, {"key": key, "build_seconds": "1"})


def _other_shape(path: Path) -> None:
    key = json.loads(path.read_bytes()[8:].split(b"}}")[0] + b"}}")["__metadata__"]["key"]
    save_file({"states": torch.ones(3, 16)}, path, {"key": key, "build_seconds": "1"})


@pytest.mark.parametrize("damage", [_truncate, _flip, _empty, _foreign, _other_name, _other_shape])
def test_a_damaged_or_foreign_file_is_built_again(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = PrefixCache.build(_model(), _batches(), progress="off")
    _build(tmp_path)
    (path,) = tmp_path.iterdir()
    right = load_file(path)["states"].clone()  # the file is about to be damaged in place
    damage(path)
    with caplog.at_level(logging.WARNING):
        again = _build(tmp_path)
    assert not again.reused and _equal(first, again)
    # Other tests may have switched on what our loggers say below warnings.
    warned = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warned) == 1 and f"{path} cannot be used" in warned[0]
    assert torch.equal(load_file(path)["states"], right)
    assert _build(tmp_path).reused


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, disk_full: Callable[[int], AbstractContextManager[None]]
) -> None:
    with disk_full(1000), pytest.raises(SparseftError, match="free some space"):
        _build(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match="folder for the prefix cache"):
        _build(tmp_path / "file")
    with pytest.raises(ConfigError, match="folder for the prefix cache"):
        _build(tmp_path / "file" / "below")


def test_an_error_while_it_is_computed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: Any) -> Any:
        yield torch.ones(2, 16)
        raise KeyboardInterrupt

    monkeypatch.setattr(cache_module, "compute", failing)
    with pytest.raises(KeyboardInterrupt):
        _build(tmp_path)
    assert list(tmp_path.iterdir()) == []


# Builds a cache and kills itself, as a power cut would, after the first of its batches.
_KILLED = """
import os, signal, sys
from pathlib import Path
from sparseft.training.prefix_cache import cache
from tests.training import test_prefix_store as here
compute = cache.compute
def compute_then_die(*arguments):
    chunks = compute(*arguments)
    yield next(chunks)
    yield next(chunks)
    os.kill(os.getpid(), signal.SIGKILL)
cache.compute = compute_then_die
here._build(Path(sys.argv[1]))
"""


def test_a_build_that_was_killed_is_not_read_and_its_rest_goes(tmp_path: Path) -> None:
    path = os.pathsep.join(map(str, (_ROOT, _ROOT / "kernels")))
    command = [sys.executable, "-c", _KILLED, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".")
    cache = _build(tmp_path)
    assert not cache.reused
    assert _equal(cache, PrefixCache.build(_model(), _batches(), progress="off"))
    # A young rest may belong to a build that is still going on elsewhere; an old one does not.
    (whole,) = (path for path in tmp_path.iterdir() if path != left)
    assert left.exists()
    os.utime(left, (1, 1))
    whole.unlink()
    _build(tmp_path)
    assert list(tmp_path.iterdir()) == [whole]


def test_a_file_is_mapped_and_writing_to_the_states_does_not_reach_it(tmp_path: Path) -> None:
    cache = _build(tmp_path)
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    assert str(path) in Path("/proc/self/maps").read_text()
    cache.states(_batches()[0]).zero_()
    cache._states.zero_()
    assert path.read_bytes() == before
