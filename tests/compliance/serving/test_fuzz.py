"""Whatever a body holds, the service answers it, and never with an error of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compliance.serving.cases import SCHEMA, Keywords, Service, serving


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving(Keywords(), max_bytes=20_000, max_turns=6) as running:
        yield running


_TEXT = st.text(max_size=60).filter(lambda text: not {"boom", "refuse"} & set(text.split()))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)
_SPEAKER = st.sampled_from(["agent", "customer", "unknown"])
_TURN = st.fixed_dictionaries({"text": _TEXT}, optional={"speaker": _SPEAKER | _JSON})
_NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "id": _TEXT | st.integers() | _JSON,
        "turns": st.lists(_TURN | _JSON, max_size=8),
        "text": _TEXT | _JSON,
        "gold": _JSON,
    },
)
_ANY = _JSON | _NEARLY | st.lists(_NEARLY, max_size=4)


def _check(service: Service, body: bytes) -> None:
    answer = service.post(body)
    assert answer.status_code in (200, 400, 413, 422), (body, answer.text)
    content = answer.json()
    if answer.status_code != 200:
        assert content["error"]["message"]
        return
    for record in content if isinstance(content, list) else [content]:
        assert SCHEMA.canonical(record["values"]) == record["values"]


@settings(max_examples=80)
@given(value=_ANY)
def test_any_json(service: Service, value: Any) -> None:
    _check(service, json.dumps(value).encode())


@settings(max_examples=80)
@given(body=st.binary(max_size=200))
def test_any_bytes(service: Service, body: bytes) -> None:
    _check(service, body)


@settings(max_examples=80)
@given(
    value=_NEARLY, place=st.integers(0, 400), change=st.binary(max_size=3), cut=st.integers(0, 3)
)
def test_json_with_a_slip(
    service: Service, value: Any, place: int, change: bytes, cut: int
) -> None:
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    _check(service, body[:place] + change + body[place + cut :])


@settings(max_examples=40)
@given(
    headers=st.dictionaries(
        st.sampled_from(["Content-Type", "Content-Encoding", "X-Request-ID", "Accept", "Expect"]),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
        max_size=3,
    )
)
def test_any_headers(service: Service, headers: dict[str, str]) -> None:
    answer = service.post({"text": "hello"}, **headers)
    assert answer.status_code in (200, 415, 417), answer.text
