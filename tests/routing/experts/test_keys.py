"""The key goes to the server, and nowhere else."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

import pytest

from sparseft.errors import ConfigError
from sparseft.routing.experts import Budget, EndpointExpert, ResponseCache
from tests.routing.experts.cases import KEY, SLOTS, VARIABLE, context, endpoint
from tests.routing.experts.scripted import ScriptedServer

_NOWHERE = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_key_names_its_variable_before_any_call(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    script = ScriptedServer()
    if value is None:
        monkeypatch.delenv(VARIABLE)
    else:
        monkeypatch.setenv(VARIABLE, value)
    with script.running() as url, pytest.raises(ConfigError, match=VARIABLE):
        EndpointExpert(endpoint(url), SLOTS)
    assert not script.bodies


@pytest.mark.parametrize("mistake", [KEY, "gsk_abcDEF123", "", "A B", KEY + "\n"])
def test_a_key_in_the_place_of_its_variable_is_refused_and_not_shown(mistake: str) -> None:
    with pytest.raises(ConfigError, match="NAME of an environment variable") as caught:
        endpoint(_NOWHERE, key_variable=mistake)
    text = "".join(traceback.format_exception(caught.value, chain=True))
    assert not mistake.strip() or mistake not in str(caught.value)
    assert KEY not in str(caught.value) and text


@pytest.mark.parametrize("bad", [f"{KEY}\n{KEY}", f"{KEY} x", f"{KEY}é", f'"{KEY}"'])
def test_a_key_that_no_header_carries_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    monkeypatch.setenv(VARIABLE, bad)
    with pytest.raises(ConfigError, match=VARIABLE) as caught:
        EndpointExpert(endpoint(_NOWHERE), SLOTS)
    assert KEY not in "".join(traceback.format_exception(caught.value, chain=True))


@pytest.mark.parametrize(
    "url", [f"http://user:{KEY}@host/v1", f"http://host/v1?key={KEY}", f"ftp://{KEY}", KEY, "http:"]
)
def test_a_key_in_the_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url") as caught:
        endpoint(url)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "modes",
    [
        ["ok"],
        [f'ok:{{"hotel-name": "{KEY}"}}'],
        [f"ok:{KEY}"],
        ["401"],
        ["garbage"],
        ["500", "429:0", "closed"],
        ["choiceless"],
        ["silent"],
    ],
)
def test_the_key_shows_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, modes: list[str]
) -> None:
    script = ScriptedServer(*modes)
    cache, budget = ResponseCache(tmp_path), Budget(calls=9)
    with caplog.at_level(logging.DEBUG), script.running() as url:
        settings = endpoint(url, timeout=0.3)
        with EndpointExpert(settings, SLOTS, cache=cache, budget=budget) as expert:
            predictions = expert.predict([context(number) for number in range(2)])
            seen = [repr(expert), repr(settings), repr(budget), repr(cache), repr(vars(expert))]
    assert set(script.keys) == {KEY}
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    seen += [repr(predictions), caplog.text, *(str(vars(record)) for record in caplog.records)]
    assert not any(KEY in text or KEY[:16] in text for text in seen)
    assert KEY.encode() not in written


def test_a_placeholder_for_a_key_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "north")
    script = ScriptedServer('ok:{"hotel-area": "north"}')
    with script.running() as url, EndpointExpert(endpoint(url), SLOTS) as expert:
        assert expert.predict([context()])[0].delta == {"hotel-area": "north"}


def test_an_endpoint_may_need_no_key() -> None:
    script = ScriptedServer()
    with (
        script.running() as url,
        EndpointExpert(endpoint(url, key_variable=None), SLOTS) as expert,
    ):
        assert not expert.predict([context()])[0].problem
    assert KEY not in script.keys
