"""A request's body: read strictly, and passed on without what is for the router alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparseft.compliance.jsonl import strict_json
from sparseft.errors import DataError
from sparseft.routing.proxy.problems import ProxyProblem
from sparseft.routing.proxy.query import PREVIOUS_STATE

__all__ = ["parsed", "passed_on"]


def parsed(content: bytes) -> dict[str, Any]:
    """The fields of a request.

    Raises:
        ProxyProblem: it is no JSON object, or does not say plainly whether it wants a stream.
    """
    try:
        body = strict_json(content, "a body of JSON")
    except DataError as error:
        raise ProxyProblem("bad_json", str(error)) from error
    if not isinstance(body, dict):
        raise ProxyProblem(
            "bad_json", f"expected a JSON object, got {type(body).__name__}; send one."
        )
    if not isinstance(body.get("stream"), bool | None):
        raise ProxyProblem(
            "invalid_request", "expected stream to be true or false, got another.", param="stream"
        )
    return body


def passed_on(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields for an upstream: it may refuse metadata of types that only the router takes."""
    metadata = body.get("metadata")
    if not isinstance(metadata, Mapping) or PREVIOUS_STATE not in metadata:
        return dict(body)
    rest = {name: value for name, value in metadata.items() if name != PREVIOUS_STATE}
    found = {name: value for name, value in body.items() if name != "metadata"}
    return {**found, "metadata": rest} if rest else found
