"""Where an endpoint is, which model answers there, and how it is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from sparseft.errors import ConfigError
from sparseft.routing.experts.budget import FREE, Prices
from sparseft.routing.experts.keys import check_variable
from sparseft.routing.experts.prompt import Message
from sparseft.routing.experts.retries import RetryPolicy

__all__ = ["Endpoint"]

_OWN = {"model", "messages", "max_tokens", "max_completion_tokens", "logprobs", "stream", "n"}
_MESSAGE_OVERHEAD = 64  # tokens of a chat template around one message, amply


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible chat-completions endpoint.

    Attributes:
        base_url: mostly ends in /v1; without user, password and query, as it is shown and stored.
        model: its name there.
        key_variable: name of the environment variable that holds the key; None: it needs no key.
        timeout: seconds of one attempt, from sending it to the last byte of its answer.
        retries: after failures that may pass.
        concurrency: attempts under way at the same time.
        max_tokens: of an answer.
        length_field: how the endpoint calls that limit; OpenAI's reasoning models want the second.
        logprobs: ask for log-probabilities; left out again where the endpoint refuses them.
        options: further fields of the request, such as a seed; None leaves a field out
            (`{"temperature": None}`, else it is 0).
        prices: in one currency for a million tokens.

    Raises:
        ConfigError: a setting is out of its range.
    """

    base_url: str
    model: str
    key_variable: str | None = "OPENAI_API_KEY"
    timeout: float = 60.0
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    concurrency: int = 4
    max_tokens: int = 256
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    logprobs: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    prices: Prices = FREE

    def __post_init__(self) -> None:
        if self.key_variable is not None:
            check_variable(self.key_variable)
        _check_url(self.base_url)
        if not self.model:
            raise ConfigError("expected the name of a model, got none; see the endpoint's /models.")
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            raise ConfigError(f"expected a timeout of more than 0, got {self.timeout}; change it.")
        if self.concurrency < 1 or self.max_tokens < 1:
            raise ConfigError(
                "expected a concurrency and max_tokens of 1 or more, got "
                f"{self.concurrency} and {self.max_tokens}; change them."
            )
        taken = sorted(_OWN & set(self.options))
        if taken:
            raise ConfigError(
                f"expected options that no other setting makes, got {taken[0]!r}; use the setting."
            )

    def body(self, messages: Sequence[Message]) -> dict[str, Any]:
        """The request that is sent."""
        asked = {
            "model": self.model,
            "messages": list(messages),
            self.length_field: self.max_tokens,
            "temperature": 0,
            **({"logprobs": True} if self.logprobs else {}),
            **self.options,
        }
        return {name: value for name, value in asked.items() if value is not None}

    def bound(self, messages: Sequence[Message]) -> float:
        """The most that one attempt can cost: a token of the prompt is one byte or more."""
        size = sum(len(m["content"].encode("utf-8", "replace")) for m in messages)
        return self.prices.of(size + _MESSAGE_OVERHEAD * (len(messages) + 1), self.max_tokens)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname)
        bare = not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        whole = bare = False
    if not (whole and bare):
        raise ConfigError(
            "expected a base_url such as https://host/v1 without user, password and query, got "
            "another, not shown as it may hold a key; give the key through key_variable."
        )
