"""An OpenAI-compatible proxy that sends each chat completion to the small or the large model."""

from typing import TYPE_CHECKING, Any

from sparseft.routing.proxy.limits import Limits
from sparseft.routing.proxy.query import query_of
from sparseft.routing.proxy.upstream import Upstream

if TYPE_CHECKING:
    from sparseft.routing.proxy.app import proxy_app

__all__ = ["Limits", "Upstream", "proxy_app", "query_of"]


def __getattr__(name: str) -> Any:
    # Only when it is used: it needs the packages of the extra `serve`.
    if name == "proxy_app":
        from sparseft.routing.proxy.app import proxy_app

        return proxy_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
