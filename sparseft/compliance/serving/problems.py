"""What the service answers where it cannot give a record: a status, a kind, a message."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

__all__ = ["KINDS", "Problem", "kind_of", "problem_response"]

# What each means; the metrics count errors by these words, and the OpenAPI page lists them.
KINDS: Mapping[str, tuple[int, str]] = {
    "bad_json": (400, "the body is no strict JSON in UTF-8"),
    "not_found": (404, "there is nothing at this path"),
    "method_not_allowed": (405, "the path knows another method"),
    "body_timeout": (408, "the body did not arrive in time"),
    "too_large": (413, "the body has more bytes than allowed"),
    "not_json": (415, "the body's type is not application/json, or it is compressed"),
    "invalid_transcript": (422, "a transcript is of another form, empty, or too long"),
    "client_gone": (499, "the client left before the answer"),
    "internal": (500, "the service failed; its log has more under the request's id"),
    "overloaded": (503, "no room for more at the moment; Retry-After says when to try again"),
    "timeout": (504, "the evaluation took too long"),
}


class Problem(Exception):
    """Ends a request with an error.

    Args:
        kind: one of `KINDS`.
        message: for the client.
        close: whether the connection ends, since its body was not read.
        retry_after: in seconds.
    """

    def __init__(
        self, kind: str, message: str, *, close: bool = False, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = KINDS[kind][0]
        self.headers: dict[str, str] = {}
        if close:
            self.headers["Connection"] = "close"
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)


def problem_response(problem: Problem, request_id: str) -> Response:
    """The JSON answer of a problem."""
    error = {"kind": problem.kind, "message": str(problem), "request_id": request_id}
    return JSONResponse({"error": error}, problem.status, {**problem.headers})


def kind_of(status: int) -> str:
    """The kind of a status that the framework gave; other errors of the client are bad_json."""
    named = {code: kind for kind, (code, _) in KINDS.items()}
    return named.get(status, "internal" if status >= 500 else "bad_json")
