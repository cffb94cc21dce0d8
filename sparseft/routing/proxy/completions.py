"""The route of chat completions: from a request's body to an upstream's answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sparseft.compliance.serving.attempts import describe
from sparseft.compliance.serving.body import Limits as BodyLimits
from sparseft.compliance.serving.body import discard, read_body
from sparseft.compliance.serving.frame import request_id_of
from sparseft.compliance.serving.problems import Problem
from sparseft.errors import DataError
from sparseft.routing.proxy.answers import Events
from sparseft.routing.proxy.call import Caller
from sparseft.routing.proxy.forward import Choice, Forwarded, Forwarder, Job, NoAnswer
from sparseft.routing.proxy.gate import Full, Gate, Ticket
from sparseft.routing.proxy.limits import Limits
from sparseft.routing.proxy.numbers import declared, watch_breaker
from sparseft.routing.proxy.problems import ProxyProblem
from sparseft.routing.proxy.query import query_of
from sparseft.routing.proxy.refusals import no_answer, no_room
from sparseft.routing.proxy.relay import EventStream, unless_left
from sparseft.routing.proxy.request import parsed, passed_on
from sparseft.routing.proxy.scorer import RouterFailed, Scorer
from sparseft.routing.proxy.trace import Trace
from sparseft.routing.proxy.upstream import AUTO, Side, Upstream
from sparseft.routing.router import Query, Router

__all__ = ["Completions"]

_LOG = logging.getLogger(__name__)


class Completions:
    """All that one proxy's requests share.

    Args:
        router, threshold, small, large, limits: as in `proxy_app`.

    Raises:
        ConfigError: a key is not in the environment.
    """

    def __init__(
        self, router: Router, threshold: float, small: Upstream, large: Upstream, limits: Limits
    ) -> None:
        self._router = router
        self._threshold = threshold
        self._limits = limits
        self._body_limits = BodyLimits(max_bytes=limits.max_bytes, body_seconds=limits.body_seconds)
        self._callers = {
            "small": Caller(small, limits.max_answer_bytes),
            "large": Caller(large, limits.max_answer_bytes),
        }
        self._sides = {"small": "small", "large": "large", small.name: "small", large.name: "large"}
        self._names = {"small": small.name, "large": large.name}
        self._gate = Gate(limits.concurrency, limits.queue)
        self._scorer: Scorer | None = None
        self.metrics = declared(lambda: self._gate.inside)
        self._forwarder = Forwarder(
            self._callers,
            limits,
            count_attempt=lambda side, outcome: self.metrics.add(
                "sparseft_attempts_total", route=side, outcome=outcome
            ),
            count_fallback=lambda side, reason: self.metrics.add(
                "sparseft_fallbacks_total", left=side, reason=reason
            ),
        )
        for side, breaker in self._forwarder.breakers.items():
            watch_breaker(self.metrics, side, breaker)

    @property
    def models(self) -> list[str]:
        """Names that a request's model may have."""
        return [AUTO, *self._sides]

    @property
    def circuits(self) -> dict[Side, str]:
        """The state of each upstream's breaker."""
        return {side: breaker.state for side, breaker in self._forwarder.breakers.items()}

    async def open(self) -> None:
        """Start the router's thread and try it; make the upstreams' clients.

        Raises:
            RouterFailed: the router cannot score.
        """
        for caller in self._callers.values():
            caller.open()
        self._scorer = Scorer(
            self._router, batch_size=self._limits.batch_size, observe=self._observe_batch
        )
        await self._scorer.warm_up()

    async def close(self) -> None:
        """End them."""
        if self._scorer is not None:
            self._scorer.close()
        for caller in self._callers.values():
            await caller.close()

    async def answer(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            ProxyProblem: it cannot be answered.
        """
        try:
            ticket = self._gate.enter()
        except Full as error:
            await discard(request)
            raise no_room(error, self._gate.inside, close=True) from error
        handed_over = False
        try:
            content = await read_body(request, self._body_limits)
            response = await unless_left(request.receive, self._respond(request, content, ticket))
            handed_over = isinstance(response, EventStream)
            return response
        except Problem as problem:
            raise ProxyProblem.of(problem) from problem
        except ProxyProblem:
            raise
        except Exception as error:
            _LOG.error("request %s failed: %s", request_id_of(request.scope), describe(error))
            raise ProxyProblem("internal", "the proxy failed; its log has more.") from error
        finally:
            if not handed_over:
                ticket.give_back()

    async def _respond(self, request: Request, content: bytes, ticket: Ticket) -> Response:
        try:
            self.metrics.observe(
                "sparseft_queue_seconds", await ticket.start(self._limits.queue_seconds)
            )
        except Full as error:
            raise no_room(error, self._gate.inside) from error
        name = request_id_of(request.scope)
        body = parsed(content)
        trace = Trace()
        job = Job(passed_on(body), name, request.headers.get("authorization"))
        trace.choice = await self._choice(body, name)

        def began() -> None:
            trace.overhead = time.perf_counter() - trace.parsed
            self.metrics.observe("sparseft_overhead_seconds", trace.overhead)

        try:
            found = await self._forwarder.forward(job, trace.choice, began)
        except NoAnswer as error:
            raise no_answer(error, self._names, trace.headers(None)) from error
        fallback = str(int(found.side != trace.choice.side))
        self.metrics.add("sparseft_answered_total", route=found.side, fallback=fallback)
        return self._response(found, trace, ticket)

    async def _choice(self, body: Mapping[str, Any], name: str) -> Choice:
        model = body.get("model", AUTO)
        side = self._sides.get(model) if isinstance(model, str) else None
        if side is None and model != AUTO:
            raise ProxyProblem(
                "model_not_found",
                f"expected one of the models {', '.join(self.models)}, got {str(model)[:80]!r}; "
                "GET /v1/models lists them.",
                param="model",
            )
        try:
            # Of a forced request too, so that what is refused does not depend on the model's name.
            query = query_of(body.get("messages", ()), body.get("metadata"), name)
        except DataError as error:
            raise ProxyProblem("invalid_request", str(error), param="messages") from error
        choice = Choice(side, forced=True) if side else await self._scored(query)
        failed = "router_failed" if choice.score is None else "scored"
        how = "forced" if choice.forced else failed
        self.metrics.add("sparseft_routed_total", route=choice.side, how=how)
        return choice

    async def _scored(self, query: Query) -> Choice:
        """By the router; to the large model where it fails, which can do what the small one can."""
        if self._scorer is None:
            raise RuntimeError("expected a started proxy, got one without its lifespan; start it.")
        try:
            async with asyncio.timeout(self._limits.router_seconds):
                score = await self._scorer.score(query)
        except (RouterFailed, TimeoutError) as error:
            _LOG.warning("no score for %s: %s", query.group, type(error).__name__)
            return Choice("large")
        return Choice("large" if score >= self._threshold else "small", score)

    def _response(self, found: Forwarded, trace: Trace, ticket: Ticket) -> Response:
        headers, answer = trace.headers(found.side), found.answer
        if not isinstance(answer, Events):
            return Response(answer.content, answer.status, headers, answer.kind)

        def ended(end: str) -> None:
            ticket.give_back()
            self.metrics.add("sparseft_streams_total", route=found.side, end=end)
            if end == "broken":
                self._forwarder.broke_off(found.side)

        return EventStream(answer, headers, ended)

    def _observe_batch(self, seconds: float, size: int) -> None:
        self.metrics.observe("sparseft_router_seconds", seconds)
        self.metrics.add("sparseft_router_queries_total", size)
