"""The proxy's HTTP application.

    POST /v1/chat/completions   to the small or the large model's upstream
    GET  /v1/models             auto, small, large, and the upstreams' names
    GET  /healthz /metrics      whether it lives; numbers for Prometheus
    GET  /docs                  this, for people; /openapi.json for tools

There is no login: bind it to the own machine, or put it behind a proxy that has one.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from sparseft.compliance.serving.frame import Frame
from sparseft.compliance.serving.metrics import CONTENT_TYPE
from sparseft.errors import ConfigError
from sparseft.routing.proxy.completions import Completions
from sparseft.routing.proxy.description import completion_answers, completion_body
from sparseft.routing.proxy.limits import Limits
from sparseft.routing.proxy.page import proxy_page
from sparseft.routing.proxy.problems import ProxyProblem, kind_of, problem_response
from sparseft.routing.proxy.upstream import Upstream, check_pair
from sparseft.routing.router import Router

__all__ = ["proxy_app"]

_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"


def proxy_app(
    router: Router,
    threshold: float,
    small: Upstream,
    large: Upstream,
    *,
    limits: Limits | None = None,
    api_version: str = "1",
) -> FastAPI:
    """An ASGI application that routes chat completions.

    The router's thread and the upstreams' connections begin and end with its lifespan; at the
    beginning the router scores one text, and a RouterFailed ends the start where it cannot.

    Args:
        router: scores queries; never two batches at the same time, always from the same thread.
        threshold: a query goes to the large model where its score is at least this.
        small, large: their keys are read from the environment now.
        limits: the defaults where None.
        api_version: of the API's description.

    Raises:
        ConfigError: the router needs the small model's confidence, the threshold is no number, the
            upstreams have the same name, or a key is not in the environment.
    """
    if router.needs_confidence:
        raise ConfigError(
            f"expected a router that decides before a model is called, got {router.name!r}, which "
            "needs the small model's confidence; choose another."
        )
    if math.isnan(threshold):
        raise ConfigError("expected a number as the threshold, got NaN; choose one on a curve.")
    check_pair(small, large)
    return _Proxy(router, threshold, small, large, limits or Limits(), api_version).app


class _Proxy:
    """The routes and what they share."""

    def __init__(
        self,
        router: Router,
        threshold: float,
        small: Upstream,
        large: Upstream,
        limits: Limits,
        api_version: str,
    ) -> None:
        self._completions = Completions(router, threshold, small, large, limits)
        self.app = FastAPI(
            title="Routing between a small and a large model",
            version=api_version,
            description=f"The router {router.name} sends each chat completion to {small.name} or "
            f"{large.name}; where one fails, the other answers.",
            lifespan=self._lifespan,
            # FastAPI's own pages load scripts from the network.
            docs_url=None,
            redoc_url=None,
            exception_handlers={ProxyProblem: self._on_problem, HTTPException: self._on_http},
        )
        self._routes(limits)
        paths = [getattr(route, "path", "") for route in self.app.routes]
        self.app.add_middleware(Frame, metrics=self._completions.metrics, paths=paths)

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        try:
            await self._completions.open()
            yield
        finally:
            await self._completions.close()

    def _routes(self, limits: Limits) -> None:
        app = self.app
        app.post(
            "/v1/chat/completions",
            summary="A chat completion of the small or the large model",
            description='The model "auto" lets the router decide; a named model is asked without '
            "it, and nobody else answers for it.",
            responses=completion_answers(),
            openapi_extra={"requestBody": completion_body(self._completions.models, limits)},
            response_class=JSONResponse,
        )(self._completions.answer)
        app.get("/v1/models", summary="The models' names")(self._models)
        app.get("/healthz", summary="Whether the proxy lives, and how the upstreams are")(
            self._healthz
        )
        app.get("/metrics", summary="Metrics", response_class=PlainTextResponse)(self._metrics_text)
        app.get("/docs", include_in_schema=False, response_class=HTMLResponse)(self._docs)

    async def _models(self) -> Response:
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "sparseft"}
            for name in self._completions.models
        ]
        return JSONResponse({"object": "list", "data": data})

    async def _healthz(self) -> Response:
        return JSONResponse({"status": "ok", "circuits": self._completions.circuits})

    async def _metrics_text(self) -> Response:
        return Response(self._completions.metrics.render(), media_type=CONTENT_TYPE)

    async def _docs(self) -> Response:
        page = proxy_page(self.app.openapi())
        return HTMLResponse(page, headers={"Content-Security-Policy": _PAGE_POLICY})

    async def _on_problem(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, ProxyProblem)
        request.scope["state"]["problem"] = error.kind
        return problem_response(error)

    async def _on_http(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"{error.detail}; GET /docs lists what there is."
        kind = kind_of(error.status_code)
        return await self._on_problem(
            request, ProxyProblem(kind, message, headers=error.headers or {})
        )
