"""Responses come back as they were stored, or not at all."""

from __future__ import annotations

import logging
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sparseft.errors import ConfigError
from sparseft.routing.experts import ResponseCache
from sparseft.routing.experts.cache import key_of

_RESPONSE = {"text": "grüße \ud83d", "score": -0.25, "tokens": [1, 2]}


def _only_file(cache: ResponseCache) -> Path:
    (path,) = (p for p in cache.folder.rglob("*") if p.is_file())
    return path


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    key = key_of({"body": 1})
    assert ResponseCache(tmp_path / "cache").get(key) is None
    ResponseCache(tmp_path / "cache").put(key, _RESPONSE)
    assert ResponseCache(tmp_path / "cache").get(key) == _RESPONSE


def test_keys_differ_with_the_request_and_not_with_its_order() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert len({key_of({"a": value}) for value in (1, 2, "1", [1], None)}) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"-0.25", b"-0.75"),
        lambda content: content[:-3] + bytes([content[-3] ^ 0xFF]) + content[-2:],
        lambda content: b"[]",
        lambda content: b"\xff\xfe",
        lambda content: b"[" * 100_000,
        lambda content: b'{"key": 1}',
    ],
)
def test_a_damaged_entry_is_reported_and_missed_and_written_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage
) -> None:
    cache, key = ResponseCache(tmp_path), key_of({})
    cache.put(key, _RESPONSE)
    path = _only_file(cache)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert cache.get(key) is None
    assert str(path) in caplog.text and "damaged" in caplog.text
    cache.put(key, _RESPONSE)
    assert cache.get(key) == _RESPONSE


def test_another_keys_entry_is_not_taken(tmp_path: Path) -> None:
    cache, one, other = ResponseCache(tmp_path), key_of({"a": 1}), key_of({"a": 2})
    cache.put(one, _RESPONSE)
    path = _only_file(cache)
    target = tmp_path / other[:2] / f"{other}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(path.read_bytes())
    assert cache.get(other) is None


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a folder"):
        ResponseCache(tmp_path / "file" / "cache")


def test_a_failed_write_is_logged_and_loses_no_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, key = ResponseCache(tmp_path), key_of({})
    (tmp_path / key[:2]).write_text("in the way")
    with caplog.at_level(logging.WARNING):
        cache.put(key, _RESPONSE)
    assert "not cached" in caplog.text


def test_threads_see_whole_entries(tmp_path: Path) -> None:
    cache, key = ResponseCache(tmp_path), key_of({})
    responses = [{"number": number, "text": "x" * 1000 * number} for number in range(4)]

    def work(seed: int) -> list[dict | None]:
        found = []
        for turn in range(10):
            cache.put(key, responses[(seed + turn) % 4])
            found.append(cache.get(key))
        return found

    with ThreadPoolExecutor(4) as pool:
        found = [response for each in pool.map(work, range(4)) for response in each]
    assert all(response in responses for response in found)


def _fill(folder: str, seed: int) -> None:
    cache = ResponseCache(folder)
    for turn in range(20):
        cache.put(key_of({}), {"number": seed, "text": "x" * 1000 * seed})
        response = cache.get(key_of({}))
        if response is None or len(response["text"]) != 1000 * response["number"]:
            raise SystemExit(f"turn {turn}: {str(response)[:80]}")


def test_processes_see_whole_entries(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_fill, args=(str(tmp_path), seed)) for seed in (1, 3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
