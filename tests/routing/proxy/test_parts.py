"""The pure parts: queries of messages, events of bytes, a breaker with a clock of its own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.errors import ConfigError, DataError
from sparseft.routing import Context, Query
from sparseft.routing.proxy import Limits, query_of
from sparseft.routing.proxy.breaker import Breaker
from sparseft.routing.proxy.events import EventBuffer, first_data, is_chunk, is_completion
from sparseft.routing.proxy.scorer import RouterFailed, Scorer
from sparseft.routing.texts import query_of as query_of_context
from tests.routing.proxy.cases import Words


def _said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_a_query_has_the_words_of_a_dialogues_turn() -> None:
    messages = [
        _said("system", "Be brief."),
        _said("user", "A room please."),
        _said("assistant", "Where?"),
        _said("user", "In the north."),
    ]
    state = {"hotel-area": "east"}
    turn = Context("d", 0, "Where?", "In the north.", state)
    assert query_of(messages, {"previous_state": state}, "d") == query_of_context(turn)
    assert query_of(messages, {"previous_state": json.dumps(state)}, "d").text == (
        "[state] hotel area east [system] Where? [user] In the north."
    )


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([_said("user", "hi")], "[user] hi"),
        ([_said("developer", "Be brief."), _said("user", "hi")], "[system] Be brief. [user] hi"),
        (
            [_said("user", "a"), _said("assistant", "b"), _said("system", "c"), _said("user", "d")],
            "[system] b [user] d",
        ),
        (
            # A tool was called: nothing was said, and the user's words are still the last ones.
            [
                _said("assistant", "Where?"),
                _said("user", "north"),
                _said("assistant", None),
                _said("tool", "{}"),
            ],
            "[system] Where? [user] north",
        ),
        (
            [
                _said(
                    "user",
                    [
                        {"type": "text", "text": "what"},
                        {"type": "image_url", "image_url": {"url": "data:"}},
                        {"type": "text", "text": "is it?"},
                    ],
                )
            ],
            "[user] what is it?",
        ),
        ([_said("system", "Write a poem.")], "[system] Write a poem. [user] "),
        ([_said("user", "x" * 9_000 + "end")], "[user] " + "x" * 7_997 + "end"),
    ],
)
def test_what_of_the_messages_is_seen(messages: list[dict[str, Any]], text: str) -> None:
    assert query_of(messages).text == text


@pytest.mark.parametrize(
    ("messages", "metadata"),
    [
        ([], None),
        ("hi", None),
        ([{"content": "hi"}], None),
        ([_said("user", 3)], None),
        ([_said("user", ["hi"])], None),
        ([_said("user", "hi")], {"previous_state": "no json"}),
        ([_said("user", "hi")], {"previous_state": [1]}),
        ([_said("user", "hi")], {"previous_state": {"a": 1}}),
    ],
)
def test_what_cannot_be_read_is_refused(messages: Any, metadata: Any) -> None:
    with pytest.raises(DataError, match="expected"):
        query_of(messages, metadata)


@given(
    st.lists(st.sampled_from([b"data: a", b"\n", b"\r", b"\r\n", b": c", b"\n\n"]), max_size=20),
    st.lists(st.integers(0, 12), max_size=10),
)
def test_events_come_out_as_they_went_in(pieces: list[bytes], sizes: list[int]) -> None:
    content, buffer, out, place = b"".join(pieces), EventBuffer(), [], 0
    for size in [*sizes, len(content)]:
        out.append(buffer.feed(content[place : place + size]))
        place += size
    assert b"".join(out) + buffer.rest == content
    assert buffer.rest.replace(b"\r\n", b"\n").count(b"\n\n") == 0


@pytest.mark.parametrize(
    ("content", "data"),
    [
        (b"data: a\n\ndata: b\n\n", b"a"),
        (b": c\n\nevent: x\r\ndata:a\r\ndata: b\r\n\r\n", b"a\nb"),
        (b": c\n\n", None),
        (b"", None),
    ],
)
def test_the_first_data_of_events(content: bytes, data: bytes | None) -> None:
    assert first_data(content) == data


@pytest.mark.parametrize(
    ("content", "chunk", "whole"),
    [
        (b'{"choices": [{}]}', True, True),
        (b'{"choices": []}', True, False),
        (b'{"choices": [{}], "error": {"message": "x"}}', False, True),
        (b'{"choices": 1}', False, False),
        (b"[DONE]", False, False),
        (b"[1]", False, False),
        (b"\xff", False, False),
        (b"[" * 100_000, False, False),
    ],
)
def test_what_is_a_completion(content: bytes, chunk: bool, whole: bool) -> None:
    assert (is_chunk(content), is_completion(content)) == (chunk, whole)


def test_a_breaker_opens_rests_and_tries_once() -> None:
    now = [0.0]
    breaker = Breaker(2, 10.0, lambda: now[0])
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.admits() and breaker.state == "closed", "not two in a row"
    breaker.failed()
    assert not breaker.admits() and breaker.state == "open"
    now[0] = 9.0
    breaker.failed()  # was under way; prolongs nothing
    now[0] = 10.0
    assert breaker.state == "half_open"
    assert breaker.admits() and not breaker.admits()
    breaker.gave_up()
    assert breaker.admits()
    breaker.failed()
    assert not breaker.admits()
    now[0] = 20.0
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.state == "closed" and breaker.admits() and breaker.admits()


def test_what_waits_is_scored_together() -> None:
    router = Words(seconds=0.05)
    sizes: list[int] = []

    async def run() -> list[float]:
        scorer = Scorer(router, batch_size=8, observe=lambda seconds, size: sizes.append(size))
        queries = [Query(str(n), "hard" if n % 3 else "easy", str(n)) for n in range(20)]
        left = asyncio.create_task(scorer.score(Query("left", "left", "left")))
        tasks = [asyncio.create_task(scorer.score(query)) for query in queries]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        left.cancel()
        scores = await asyncio.gather(*tasks)
        scorer.close()
        return scores

    assert asyncio.run(run()) == [float(bool(n % 3)) for n in range(20)]
    assert max(sizes) == 8 and len(sizes) <= 4 and len(router.threads) == 1


def test_a_query_that_fails_takes_no_others_down() -> None:
    async def run() -> list[Any]:
        scorer = Scorer(Words(), batch_size=8)
        texts = ["hard", "boom", "easy", "nan"]
        queries = [Query(text, text, text) for text in texts]
        found = await asyncio.gather(*map(scorer.score, queries), return_exceptions=True)
        scorer.close()
        return found

    hard, boom, easy, nan = asyncio.run(run())
    assert (hard, easy) == (1.0, 0.0)
    assert isinstance(boom, RouterFailed) and isinstance(nan, RouterFailed)


def test_a_router_that_cannot_score_is_found_at_the_start() -> None:
    class Short(Words):
        def scores(self, queries: Any) -> np.ndarray:
            return np.zeros(0)

    async def run() -> None:
        scorer = Scorer(Short(), batch_size=8)
        try:
            await scorer.warm_up()
        finally:
            scorer.close()

    with pytest.raises(RouterFailed, match="take another router"):
        asyncio.run(run())


@pytest.mark.parametrize(
    "changes", [{"concurrency": 0}, {"queue": -1}, {"max_bytes": 0}, {"body_seconds": float("nan")}]
)
def test_limits_out_of_their_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        Limits(**changes)
