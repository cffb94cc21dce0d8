"""What every request goes through: its id, its line in the log, its metrics, its last resort."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sparseft.compliance.serving.attempts import describe
from sparseft.compliance.serving.metrics import Metrics
from sparseft.compliance.serving.problems import Problem, kind_of, problem_response

__all__ = ["Frame", "request_id_of"]

_LOG = logging.getLogger(__name__)
_HEADER = "X-Request-ID"
# What may go into logs and headers as it is.
_ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")


def request_id_of(scope: Scope) -> str:
    """The id of a request, the client's own where it is a plain word."""
    found: str = scope["state"]["request_id"]
    return found


class Frame:
    """ASGI middleware around all routes. Nothing of a body, a query or an error's text is logged.

    Args:
        paths: of the routes; anything else is counted as "other".
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Iterable[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of scopes are passed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(_HEADER, "")
        name = given if _ACCEPTED.match(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = name
        started, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[_HEADER] = name
                headers.setdefault("Cache-Control", "no-store")
                headers.setdefault("X-Content-Type-Options", "nosniff")
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            _LOG.error("request %s failed: %s", name, describe(error))
            if not status:
                problem = Problem("internal", "the service failed; its log has more.")
                scope["state"]["problem"] = problem.kind
                await problem_response(problem, name)(scope, receive, answer)
        finally:
            self._account(scope, status or 500, time.perf_counter() - started)

    def _account(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in self._paths else "other"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.add("sparseft_requests_total", path=path, method=method, status=str(status))
        self._metrics.observe("sparseft_request_seconds", seconds, path=path)
        if status >= 400:
            kind = scope["state"].get("problem") or kind_of(status)
            self._metrics.add("sparseft_errors_total", kind=kind)
        level = logging.INFO if status < 500 else logging.WARNING
        name = request_id_of(scope)
        _LOG.log(level, "request %s %s %s %d %.3f s", name, method, path, status, seconds)
