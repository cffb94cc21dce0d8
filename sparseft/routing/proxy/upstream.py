"""Where a model is served, and how it is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import urlsplit

from sparseft.errors import ConfigError
from sparseft.routing.experts.keys import check_variable

__all__ = ["AUTO", "Side", "Upstream", "check_pair"]

Side = str  # "small" or "large"
AUTO = "auto"  # the model's name with which the router decides


@dataclass(frozen=True)
class Upstream:
    """An OpenAI-compatible endpoint for chat completions.

    Attributes:
        name: in metrics and logs, and as a model's name that asks for this upstream.
        base_url: mostly ends in /v1; without user, password and query, as it is logged.
        model: its name there.
        key_variable: name of the environment variable that holds the key; None: no key is sent.
        timeout: seconds until a whole answer, or a stream's first event.
        connect_timeout: seconds of these for the connection.
        idle_timeout: seconds between two parts of a stream.
        forward_authorization: send the client's own Authorization header; without key_variable.

    Raises:
        ConfigError: a setting is out of its range.
    """

    name: str
    base_url: str
    model: str
    key_variable: str | None = None
    timeout: float = 60.0
    connect_timeout: float = 5.0
    idle_timeout: float = 60.0
    forward_authorization: bool = False

    def __post_init__(self) -> None:
        if not (self.name and self.model):
            raise ConfigError(
                f"expected a name and a model of each upstream, got {self.name!r} and "
                f"{self.model!r}; give both."
            )
        if self.key_variable is not None:
            check_variable(self.key_variable)
            if self.forward_authorization:
                raise ConfigError(
                    f"expected one key for {self.name!r}, got key_variable and "
                    "forward_authorization; choose one."
                )
        _check_url(self.name, self.base_url)
        times = (self.timeout, self.connect_timeout, self.idle_timeout)
        if not all(math.isfinite(time) and time > 0 for time in times):
            raise ConfigError(
                f"expected timeouts of more than 0 seconds for {self.name!r}, got {times}; change "
                "them."
            )

    @property
    def url(self) -> str:
        """Where chat completions are asked for."""
        return f"{self.base_url.rstrip('/')}/chat/completions"


def check_pair(small: Upstream, large: Upstream) -> None:
    """Refuse names that would not say which upstream is meant.

    Raises:
        ConfigError: both have the same name, or one has a name that means something else.
    """
    if small.name == large.name:
        raise ConfigError(
            f"expected two names, got {small.name!r} for the small and the large upstream; change "
            "one."
        )
    for upstream, taken in ((small, {AUTO, "large"}), (large, {AUTO, "small"})):
        if upstream.name in taken:
            raise ConfigError(
                f"expected a name that means this upstream alone, got {upstream.name!r}; choose "
                "another."
            )


def _check_url(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        bare = not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        whole = bare = False
    if not (whole and bare):
        raise ConfigError(
            f"expected a base_url such as https://host/v1 without user, password and query for "
            f"{name!r}, got another, not shown as it may hold a key; give the key through "
            "key_variable."
        )
