"""OpenAPI's description of what the proxy takes and gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sparseft.routing.proxy.limits import Limits
from sparseft.routing.proxy.problems import KINDS
from sparseft.routing.proxy.query import PREVIOUS_STATE
from sparseft.routing.proxy.upstream import AUTO

__all__ = ["completion_answers", "completion_body", "errors"]

_TEXT = {"type": "string"}
_HEADERS = {
    "x-sparseft-route": "small or large: who answered, or was wanted where nobody did",
    "x-sparseft-score": "how much the large model was wanted; absent where a model was named or "
    "the router failed",
    "x-sparseft-fallback": "1 where another than the wanted model answered, or nobody did",
    "x-sparseft-overhead-ms": "milliseconds from the parsed body to the first upstream's call",
}


def completion_body(models: Iterable[str], limits: Limits) -> dict[str, Any]:
    """Of a request for a chat completion."""
    message = {
        "type": "object",
        "properties": {"role": _TEXT, "content": {}},
        "required": ["role"],
    }
    state = {
        "description": "slots and values before the user's words, for the router; as an object or "
        "as its JSON text; not passed on",
        "anyOf": [{"type": "object", "additionalProperties": _TEXT}, _TEXT],
    }
    schema = {
        "type": "object",
        "description": f"at most {limits.max_bytes} bytes; further fields are passed on",
        "properties": {
            "model": {"type": "string", "enum": list(models), "default": AUTO},
            "messages": {"type": "array", "items": message, "minItems": 1},
            "stream": {"type": ["boolean", "null"], "default": False},
            "metadata": {"type": ["object", "null"], "properties": {PREVIOUS_STATE: state}},
        },
        "required": ["messages"],
    }
    example = {"model": AUTO, "messages": [{"role": "user", "content": "A room for two."}]}
    return {
        "required": True,
        "content": {"application/json": {"schema": schema, "example": example}},
    }


def completion_answers() -> dict[int | str, dict[str, Any]]:
    """Of the answers to it."""
    kinds = [kind for kind in KINDS if kind not in ("not_found", "method_not_allowed")]
    found = errors(kind for kind in kinds if kind != "client_gone")
    found[200] = {
        "description": "the upstream's chat completion as it is, or its events as they arrive",
        "headers": {
            name: {"description": text, "schema": _TEXT} for name, text in _HEADERS.items()
        },
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"schema": _TEXT},
        },
    }
    found["4XX"] = {"description": "other mistakes in a request are answered by the upstream"}
    return dict(sorted(found.items(), key=lambda item: str(item[0])))


def errors(kinds: Iterable[str]) -> dict[int | str, dict[str, Any]]:
    """Of errors, by status."""
    nullable = {"type": ["string", "null"]}
    error = {
        "type": "object",
        "properties": {"message": _TEXT, "type": _TEXT, "param": nullable, "code": _TEXT},
        "required": ["message", "type", "code"],
    }
    schema = {"type": "object", "properties": {"error": error}, "required": ["error"]}
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status, text = KINDS[kind]
        before = found[status]["description"] + "; " if status in found else ""
        found[status] = {
            "description": f"{before}{kind}: {text}",
            "content": {"application/json": {"schema": schema}},
        }
    return found
