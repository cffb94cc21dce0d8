"""What the proxy answers where it has no completion: OpenAI's form of errors.

https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

from sparseft.compliance.serving.problems import Problem

__all__ = ["KINDS", "ProxyProblem", "error_content", "kind_of", "problem_response"]

# Status and meaning of each code; those of `Problem`, which reading a body raises, are the same.
KINDS: Mapping[str, tuple[int, str]] = {
    "bad_json": (400, "the body is no strict JSON object in UTF-8"),
    "invalid_request": (400, "messages, metadata or stream are of another form"),
    "not_found": (404, "there is nothing at this path"),
    "model_not_found": (404, "no model has this name; GET /v1/models lists them"),
    "method_not_allowed": (405, "the path knows another method"),
    "body_timeout": (408, "the body did not arrive in time"),
    "too_large": (413, "the body has more bytes than allowed"),
    "not_json": (415, "the body's type is not application/json, or it is compressed"),
    "client_gone": (499, "the client left before the answer"),
    "internal": (500, "the proxy failed; its log has more under the request's id"),
    "upstreams_failed": (502, "neither upstream answered, or not the one that was asked for"),
    "overloaded": (503, "no room for more at the moment; Retry-After says when to try again"),
    "upstreams_timed_out": (504, "every upstream that was asked took too long"),
}


class ProxyProblem(Exception):
    """Ends a request with an error.

    Args:
        kind: one of `KINDS`; the error's code.
        message: for the client.
        param: the field of the request that is meant.
        headers: of the answer.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = KINDS[kind][0]
        self.param = param
        self.headers = dict(headers or {})

    @classmethod
    def of(cls, problem: Problem) -> ProxyProblem:
        """What reading a body raised, as the proxy's own."""
        return cls(problem.kind, str(problem), headers=problem.headers)


def error_content(kind: str, message: str, param: str | None = None) -> dict[str, object]:
    """An error as OpenAI's clients read it."""
    status = KINDS[kind][0]
    group = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": group, "param": param, "code": kind}}


def problem_response(problem: ProxyProblem) -> Response:
    """The JSON answer of a problem."""
    content = error_content(problem.kind, str(problem), problem.param)
    return JSONResponse(content, problem.status, problem.headers)


def kind_of(status: int) -> str:
    """The kind of a status that the framework gave."""
    known = {404: "not_found", 405: "method_not_allowed"}
    return known.get(status, "internal" if status >= 500 else "invalid_request")
