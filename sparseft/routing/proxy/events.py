"""Server-sent events as bytes: where they end, and what the first one says.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import json
import re

__all__ = ["EventBuffer", "first_data", "is_chunk", "is_completion"]

_END = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_LINE = re.compile(rb"\r\n|\n|\r")


class EventBuffer:
    """Cuts a stream of bytes after whole events; all bytes come out again in order.

    Attributes:
        rest: the bytes of an event that has not ended.
    """

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, part: bytes) -> bytes:
        """Take further bytes; those up to the last end of an event, mostly one event or none."""
        # An end may lie across the border of two parts, so a little of what is known is read again.
        start = max(0, len(self.rest) - 3)
        self.rest += part
        end = 0
        for found in _END.finditer(self.rest, start):
            end = found.end()
        ready, self.rest = self.rest[:end], self.rest[end:]
        return ready


def first_data(events: bytes) -> bytes | None:
    """The data of the first event that has any; comments and other fields are passed over.

    Args:
        events: whole ones.
    """
    for event in _END.split(events):
        lines = [line[5:].removeprefix(b" ") for line in _LINE.split(event) if line[:5] == b"data:"]
        if lines:
            return b"\n".join(lines)
    return None


def is_chunk(data: bytes) -> bool:
    """Whether an event's data is a chunk of a chat completion; the first may have no choices yet.

    https://platform.openai.com/docs/api-reference/chat-streaming
    """
    content = _object(data) or {}
    return isinstance(content.get("choices"), list) and not content.get("error")


def is_completion(body: bytes) -> bool:
    """Whether a body is a chat completion with at least one choice."""
    choices = (_object(body) or {}).get("choices")
    return isinstance(choices, list) and bool(choices) and isinstance(choices[0], dict)


def _object(text: bytes) -> dict[str, object] | None:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
