"""From a request's body to transcripts, within limits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from sparseft.compliance.jsonl import strict_json
from sparseft.compliance.serving.attempts import check_words
from sparseft.compliance.serving.problems import Problem
from sparseft.compliance.transcript import Json, Transcript
from sparseft.errors import DataError

__all__ = ["Limits", "discard", "read_body", "transcripts_of"]

_DISCARDED = 8 * 2**20  # bytes
_DISCARD_SECONDS = 2.0


@dataclass(frozen=True)
class Limits:
    """What one request may bring.

    Attributes:
        max_bytes: of its body.
        max_turns: of one transcript.
        max_transcripts: of a list.
        body_seconds: in which the whole body must arrive.
        wait_seconds: in which the records must be ready.
    """

    max_bytes: int = 1_000_000
    max_turns: int = 2_000
    max_transcripts: int = 32
    body_seconds: float = 30.0
    wait_seconds: float = 120.0


async def read_body(request: Request, limits: Limits) -> bytes:
    """The whole body; never more than the limit is held, whatever the headers say.

    Raises:
        Problem: it is too large, too slow, no JSON by its header, or the client left.
    """
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind != "application/json" or "content-encoding" in request.headers:
        got = request.headers.get("content-encoding", kind)
        await discard(request)
        raise Problem(
            "not_json",
            f"expected a plain body of Content-Type application/json, got {got[:80]!r}; change it.",
            close=True,
        )
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said[:20]) > limits.max_bytes:
        await discard(request)
        raise _too_large(limits)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limits.max_bytes:
                    chunks.clear()
                    await discard(request)
                    raise _too_large(limits)
                chunks.append(chunk)
    except TimeoutError as error:
        raise Problem(
            "body_timeout",
            f"expected the body within {limits.body_seconds:g} seconds, got part of it; send it "
            "faster.",
            close=True,
        ) from error
    except ClientDisconnect as error:
        raise Problem("client_gone", "the client left") from error
    return b"".join(chunks)


async def discard(request: Request) -> None:
    """Read on for a moment: clients that send all before they read would miss the answer else."""
    if request.headers.get("expect", "").lower() == "100-continue":
        return
    left = _DISCARDED
    try:
        async with asyncio.timeout(_DISCARD_SECONDS):
            while left > 0:
                message = await request.receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))
    except TimeoutError:
        return


def transcripts_of(body: bytes, limits: Limits, default_id: str) -> tuple[list[Transcript], bool]:
    """The transcripts of a body, and whether it is a list of them.

    Args:
        default_id: of a transcript without one; in a list, with its place.

    Raises:
        Problem: it is no JSON, or one of them is not acceptable; the message says which.
    """
    try:
        value = strict_json(body, "a body of JSON")
    except DataError as error:
        raise Problem("bad_json", str(error)) from error
    if not isinstance(value, list):
        return [_transcript(value, limits, default_id, "")], False
    if not 1 <= len(value) <= limits.max_transcripts:
        raise Problem(
            "invalid_transcript",
            f"expected 1 to {limits.max_transcripts} transcripts in a list, got {len(value)}; "
            "send several requests.",
        )
    return [
        _transcript(each, limits, f"{default_id}-{place}", f"transcript {place} of the list: ")
        for place, each in enumerate(value)
    ], True


def _transcript(value: Json, limits: Limits, default_id: str, where: str) -> Transcript:
    try:
        transcript = Transcript.from_json(value, default_id)
        if len(transcript.turns) > limits.max_turns:
            raise DataError(
                f"expected at most {limits.max_turns} turns, got {len(transcript.turns)}; split "
                "the transcript."
            )
        check_words(transcript)
    except DataError as error:
        raise Problem("invalid_transcript", f"{where}{error}") from error
    return transcript


def _too_large(limits: Limits) -> Problem:
    return Problem(
        "too_large",
        f"expected a body of at most {limits.max_bytes} bytes, got more; send less at once.",
        close=True,
    )
