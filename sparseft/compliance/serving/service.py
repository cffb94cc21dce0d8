"""The HTTP service: transcripts in, records out, with limits, health and metrics.

    POST /v1/evaluations   one transcript or a list of them
    GET  /v1/schema        the JSON Schema of the records, and their fields
    GET  /healthz /readyz  whether the process lives, and whether it takes requests
    GET  /metrics          for Prometheus
    GET  /docs             this, for people; /openapi.json for tools

One thread evaluates; requests wait in a bounded queue and are taken from it in small batches. There
is no login: bind it to the own machine, or put it behind a proxy that has one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from sparseft.compliance.record import Record
from sparseft.compliance.serving.attempts import Evaluates, Outcome
from sparseft.compliance.serving.body import Limits, discard, read_body, transcripts_of
from sparseft.compliance.serving.description import (
    answers,
    evaluation_answers,
    evaluation_body,
    schema_content,
)
from sparseft.compliance.serving.frame import Frame, request_id_of
from sparseft.compliance.serving.metrics import CONTENT_TYPE, Metrics
from sparseft.compliance.serving.page import api_page
from sparseft.compliance.serving.problems import KINDS, Problem, kind_of, problem_response
from sparseft.compliance.serving.worker import Overloaded, Worker
from sparseft.compliance.transcript import Json, Transcript
from sparseft.errors import ConfigError, SparseftError

__all__ = ["make_app"]

_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"


def make_app(
    evaluator: Evaluates,
    *,
    max_bytes: int = 1_000_000,
    max_turns: int = 2_000,
    max_transcripts: int = 32,
    queue: int = 64,
    batch_size: int = 8,
    body_seconds: float = 30.0,
    wait_seconds: float = 120.0,
    api_version: str = "1",
) -> FastAPI:
    """An ASGI application that serves an evaluator.

    Its worker starts with the application's lifespan and, at the end of it, finishes what was
    accepted.

    Args:
        max_bytes: of a request's body; more is refused while it is read.
        max_turns: of one transcript.
        max_transcripts: of one request.
        queue: transcripts that may wait; more are refused with 503.
        batch_size: transcripts that the evaluator is given at once.
        body_seconds: in which a body must arrive.
        wait_seconds: after which a request is given up with 504.
        api_version: of the API's description.

    Raises:
        ConfigError: a limit out of its range, or a queue smaller than the longest list.
    """
    counts = (max_bytes, max_turns, max_transcripts, queue, batch_size)
    if min(counts) < 1 or min(body_seconds, wait_seconds) <= 0:
        raise ConfigError(
            f"expected limits above 0, got {counts} and {body_seconds}, {wait_seconds} seconds; "
            "change them."
        )
    if queue < max_transcripts:
        raise ConfigError(
            f"expected a queue of at least max_transcripts={max_transcripts}, got {queue}; a full "
            "list would never be accepted."
        )
    limits = Limits(max_bytes, max_turns, max_transcripts, body_seconds, wait_seconds)
    return _Service(evaluator, limits, queue, batch_size, api_version).app


class _Service:
    """The routes and what they share."""

    def __init__(
        self, evaluator: Evaluates, limits: Limits, queue: int, batch_size: int, api_version: str
    ) -> None:
        self._evaluator = evaluator
        self._schema = evaluator.schema
        self._limits = limits
        self._queue = queue
        self._batch_size = batch_size
        self._reading = 0
        self._worker: Worker | None = None
        self._metrics = self._declared()
        self.app = FastAPI(
            title=f"Evaluation: {self._schema.title or self._schema.name}",
            version=api_version,
            description="A model reads a conversation, rules complete and correct the record; "
            "every field says where its value comes from.",
            lifespan=self._lifespan,
            # FastAPI's own pages load scripts from the network.
            docs_url=None,
            redoc_url=None,
            exception_handlers={Problem: self._on_problem, HTTPException: self._on_http},
        )
        self._routes()
        paths = [getattr(route, "path", "") for route in self.app.routes]
        self.app.add_middleware(Frame, metrics=self._metrics, paths=paths)

    def _declared(self) -> Metrics:
        metrics = Metrics()
        labels = {"schema": self._schema.name, "title": self._schema.title}
        metrics.info("sparseft_service_info", "What is served.", labels)
        metrics.counter("sparseft_requests_total", "Answered requests.", [])
        kinds = [{"kind": kind} for kind in KINDS]
        metrics.counter("sparseft_errors_total", "Requests that ended with an error.", kinds)
        metrics.histogram("sparseft_request_seconds", "From a request's head to its answer.")
        metrics.counter("sparseft_evaluated_total", "Transcripts evaluated.")
        metrics.counter("sparseft_failed_total", "Transcripts that the evaluator failed on.")
        metrics.counter("sparseft_reviewed_total", "Records marked for review.")
        metrics.counter("sparseft_alarms_total", "Records with an alarm in the critical field.")
        metrics.histogram("sparseft_batch_seconds", "Evaluation of a batch.")
        metrics.counter("sparseft_batch_transcripts_total", "Transcripts of all batches.")
        metrics.gauge(
            "sparseft_waiting",
            "Transcripts in the queue.",
            lambda: self._worker.waiting if self._worker else 0,
        )
        return metrics

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        self._worker = Worker(
            self._evaluator,
            batch_size=self._batch_size,
            queue=self._queue,
            observe=self._observe_batch,
        )
        try:
            yield
        finally:
            # Nobody waits for longer than that.
            await asyncio.to_thread(self._worker.close, self._limits.wait_seconds)

    def _observe_batch(self, seconds: float, size: int) -> None:
        self._metrics.observe("sparseft_batch_seconds", seconds)
        self._metrics.add("sparseft_batch_transcripts_total", size)

    def _routes(self) -> None:
        app = self.app
        evaluation: dict[str, Any] = {"requestBody": evaluation_body(self._limits)}
        app.post(
            "/v1/evaluations",
            summary="Evaluate one transcript, or a list of them",
            description="A list is answered with a list, in its order. Every answer carries "
            "X-Request-ID, the request's own where it has one.",
            responses=evaluation_answers(self._schema),
            openapi_extra=evaluation,
            response_class=JSONResponse,
        )(self._evaluations)
        app.get("/v1/schema", summary="The schema of the records")(self._schema_route)
        app.get("/healthz", summary="Whether the process lives", responses=_READY)(self._healthz)
        app.get("/readyz", summary="Whether requests are taken", responses=_READY)(self._readyz)
        app.get("/metrics", summary="Metrics", response_class=PlainTextResponse)(self._metrics_text)
        app.get("/docs", include_in_schema=False, response_class=HTMLResponse)(self._docs)

    async def _evaluations(self, request: Request) -> Response:
        if self._reading >= self._queue:
            await discard(request)
            raise Problem(
                "overloaded",
                f"expected fewer requests at once, got {self._reading}; try again later.",
                close=True,
                retry_after=self._running().retry_after(),
            )
        self._reading += 1
        try:
            body = await read_body(request, self._limits)
            name = request_id_of(request.scope)
            transcripts, is_list = transcripts_of(body, self._limits, name)
        finally:
            self._reading -= 1
        outcomes = await self._outcomes(request, transcripts)
        if not is_list:
            return JSONResponse(self._one(outcomes[0]))
        return JSONResponse(
            [
                self._content(outcome, each)
                for outcome, each in zip(outcomes, transcripts, strict=True)
            ]
        )

    async def _outcomes(self, request: Request, transcripts: Sequence[Transcript]) -> list[Outcome]:
        """What the worker makes of them; given up where the client leaves or time is over."""
        try:
            futures = self._running().submit(transcripts)
        except Overloaded as error:
            raise Problem("overloaded", str(error), retry_after=error.seconds) from error
        every = asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        gone = asyncio.ensure_future(_left(request))
        either: set[asyncio.Future[Any]] = {every, gone}
        try:
            await asyncio.wait(
                either,
                timeout=self._limits.wait_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if every.done():
                outcomes = [_outcome(each) for each in every.result()]
                self._count(outcomes)
                return outcomes
            if gone.done():
                raise Problem("client_gone", "the client left")
            raise Problem(
                "timeout",
                f"expected records within {self._limits.wait_seconds:g} seconds, got none; send "
                "fewer or shorter transcripts.",
            )
        finally:
            gone.cancel()
            every.cancel()  # takes what has not begun out of the queue

    def _running(self) -> Worker:
        if self._worker is None:
            raise Problem("overloaded", "expected a started service; try again.", retry_after=1)
        return self._worker

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Exception) or outcome.error:
                self._metrics.add("sparseft_failed_total")
                continue
            self._metrics.add("sparseft_evaluated_total")
            self._metrics.add("sparseft_reviewed_total", bool(outcome.review))
            self._metrics.add("sparseft_alarms_total", self._schema.is_alarm(outcome.values()))

    def _one(self, outcome: Outcome) -> Json:
        if isinstance(outcome, SparseftError):
            raise Problem("invalid_transcript", str(outcome)) from outcome
        if isinstance(outcome, Exception):
            raise Problem("internal", "the evaluation failed; the log has more.") from outcome
        if outcome.error:
            raise Problem("invalid_transcript", outcome.error)
        return outcome.to_json()

    def _content(self, outcome: Outcome, transcript: Transcript) -> Json:
        if isinstance(outcome, Exception):
            known = isinstance(outcome, SparseftError)
            message = str(outcome) if known else "the evaluation failed; the log has more."
            outcome = Record(transcript.id, self._schema.name, {}, error=message)
        return outcome.to_json()

    async def _schema_route(self) -> Response:
        return JSONResponse(schema_content(self._schema, self.app.version))

    async def _healthz(self) -> Response:
        if self._worker is not None and not self._worker.alive:
            raise Problem("overloaded", "the evaluator has ended; start the service again.")
        return JSONResponse({"status": "ok"})

    async def _readyz(self) -> Response:
        worker = self._running()
        if not worker.alive or worker.waiting >= self._queue:
            raise Problem("overloaded", "no room for more.", retry_after=worker.retry_after())
        return JSONResponse({"status": "ready", "waiting": worker.waiting})

    async def _metrics_text(self) -> Response:
        return Response(self._metrics.render(), media_type=CONTENT_TYPE)

    async def _docs(self) -> Response:
        page = api_page(self.app.openapi(), self._schema)
        return HTMLResponse(page, headers={"Content-Security-Policy": _PAGE_POLICY})

    async def _on_problem(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        request.scope["state"]["problem"] = error.kind
        return problem_response(error, request_id_of(request.scope))

    async def _on_http(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = kind_of(error.status_code)
        problem = Problem(kind, f"{error.detail}; GET /docs lists what there is.")
        problem.headers.update(error.headers or {})
        return await self._on_problem(request, problem)


_READY = dict(answers(["overloaded"]))


def _outcome(found: Record | BaseException) -> Outcome:
    if isinstance(found, asyncio.CancelledError):  # the worker's thread ended
        return RuntimeError("cancelled")
    if isinstance(found, BaseException) and not isinstance(found, Exception):
        raise found
    return found


async def _left(request: Request) -> None:
    """Returns when the client closes the connection; its body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
