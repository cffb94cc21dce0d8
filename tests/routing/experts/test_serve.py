"""The whole way through a real server: SmolLM2 behind `transformers serve`.

It has no log-probabilities (transformers 5.23 leaves the field out), so scores are tested with the
scripted server alone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparseft.config import ModelConfig
from sparseft.errors import ModelError
from sparseft.models import embedded_gguf
from sparseft.models.load import load_pretrained
from sparseft.routing import Context
from sparseft.routing.experts import Budget, EndpointExpert, ResponseCache
from sparseft.routing.experts.local import load_language_expert
from tests.routing.experts.cases import KEY, SLOTS, context, endpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_CONFIG = ModelConfig("smollm2", id="smollm2")
_DEMONSTRATIONS = [
    (context(0, user="a hotel in the south please"), {"hotel-area": "south"}),
    (context(1, user="i leave on tuesday"), {"train-day": "tuesday"}),
    (context(2, user="thanks, bye"), {}),
]
_TURNS: list[Context] = [
    context(3, user="a hotel in the north please"),
    context(4, user="i leave on friday"),
    context(5, user="thank you, that is all"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        embedded_gguf("smollm2")
    except ModelError as error:
        pytest.skip(f"needs the embedded SmolLM2: {error}")
    from transformers import AutoModelForCausalLM

    target = tmp_path_factory.mktemp("smollm2")
    model, tokenizer = load_pretrained(_CONFIG, AutoModelForCausalLM)
    # transformers does not save what it dequantised: the same weights in a model of their own.
    settings = {k: v for k, v in model.config.to_dict().items() if k != "quantization_config"}
    plain: Any = type(model)(type(model.config).from_dict(settings))
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    plain.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "serve.log"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        _wait(server, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()
        server.wait()


def _wait(server: subprocess.Popen[bytes], health: str, log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(health, timeout=5) as response:
            if response.status == 200:
                return
        time.sleep(0.5)
    pytest.fail(f"transformers serve did not start: {log.read_text()[-2000:]}")


def test_a_served_model_answers_as_the_same_model_here(
    url: str, folder: Path, tmp_path: Path
) -> None:
    cache, budget = ResponseCache(tmp_path / "cache"), Budget(calls=12, money=1.0)
    settings = endpoint(url, model=str(folder), timeout=120.0, max_tokens=32, concurrency=2)
    options: dict[str, Any] = {"demonstrations": _DEMONSTRATIONS}
    with EndpointExpert(settings, SLOTS, cache=cache, budget=budget, **options) as expert:
        served, again = expert.predict(_TURNS), expert.predict(_TURNS)
    local = load_language_expert(_CONFIG, SLOTS, max_tokens=32, **options).predict(_TURNS)
    for remote, here in zip(served, local, strict=True):
        if remote.notes["calls"] == 1:
            assert remote.notes["answer"] == here.notes["answer"]
            assert remote.prompt_tokens == here.prompt_tokens
            # The server counts the end token too.
            assert remote.answer_tokens - here.answer_tokens in (0, 1)
            assert (remote.delta, remote.problem) == (here.delta, here.problem)
        else:
            assert remote.notes["unreadable"] == here.notes["answer"] and here.problem
    # A small model, shown three turns, gets the plain ones right.
    assert served[0].delta == {"hotel-area": "north"}
    assert [p.delta for p in again] == [p.delta for p in served]
    assert not any(p.price for p in again) and sum(p.price for p in served) > 0
    assert budget.spent == pytest.approx(sum(p.price for p in served))
    cached = b"".join(path.read_bytes() for path in cache.folder.rglob("*.json"))
    assert KEY.encode() not in cached


def test_a_budget_ends_within_a_batch_of_a_served_model(url: str, folder: Path) -> None:
    settings = endpoint(url, model=str(folder), timeout=120.0, max_tokens=16, concurrency=1)
    with EndpointExpert(settings, SLOTS, budget=Budget(calls=1)) as expert:
        found = expert.predict(_TURNS)
    assert found[0].price > 0 and found[0].notes["calls"] == 1
    assert all(p.problem.startswith("budget exhausted") for p in found[1:])
