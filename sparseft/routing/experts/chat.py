"""Chat completions over HTTP: one request, its attempts, and what they cost."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sparseft.errors import ConfigError, SparseftError
from sparseft.routing.experts.budget import Budget, BudgetExhausted
from sparseft.routing.experts.completion import Completion, read_completion
from sparseft.routing.experts.failures import Failure, failure_of
from sparseft.routing.experts.keys import read_key
from sparseft.routing.experts.prompt import Message
from sparseft.routing.experts.settings import Endpoint

if TYPE_CHECKING:
    import openai

__all__ = ["CallFailed", "ChatClient", "Reply"]

_LOG = logging.getLogger(__name__)
_SECRET = 12  # characters; a shorter key is a placeholder such as "none", and a word of answers


class CallFailed(SparseftError):
    """No attempt gave an answer.

    Attributes:
        price: of all attempts.
    """

    def __init__(self, problem: str, price: float) -> None:
        super().__init__(problem)
        self.price = price


@dataclass(frozen=True)
class Reply:
    """An answer with what it took.

    Attributes:
        completion: of the last attempt.
        price: of all attempts.
        seconds: of the last attempt.
    """

    completion: Completion
    price: float
    seconds: float


class ChatClient:
    """The official `openai` client with our own retries, so that each attempt can be paid for.

    It may be used by many threads; the concurrency limit holds for all of them together.

    Args:
        endpoint: where and how to ask.
        budget: that every attempt is taken from.

    Raises:
        ConfigError: the `openai` package or the key is missing.
    """

    def __init__(self, endpoint: Endpoint, budget: Budget | None = None) -> None:
        self.endpoint = endpoint
        self.budget = budget or Budget()
        self._key = None if endpoint.key_variable is None else read_key(endpoint.key_variable)
        self._client = _client(endpoint, self._key)
        self._slots = threading.BoundedSemaphore(endpoint.concurrency)
        self._logprobs = endpoint.logprobs
        # Drawn anew in every process, so that several do not wait in step; no result depends on it.
        self._jitter = random.Random()

    def __repr__(self) -> str:
        return f"ChatClient({self.endpoint.model!r} at {self.endpoint.base_url!r})"

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def complete(self, messages: Sequence[Message]) -> Reply:
        """Ask until there is an answer, or no further attempt.

        Raises:
            CallFailed: the last attempt failed, or the budget is exhausted.
        """
        policy, bound = self.endpoint.retries, self.endpoint.bound(messages)
        paid, failures, problem = 0.0, 0, ""
        while True:
            try:
                charge = self.budget.reserve(bound)
            except BudgetExhausted as error:
                raise CallFailed(f"{error}{problem and f' Before: {problem}'}", paid) from None
            price = bound  # where an interruption leaves it open what the attempt cost
            asked_logprobs = self._logprobs
            try:
                with self._slots:
                    started = time.perf_counter()
                    found = self._attempt(messages, asked_logprobs)
                    seconds = time.perf_counter() - started
                if isinstance(found, Completion):
                    price = self._price(found, bound)
                    return Reply(found, paid + price, seconds)
                price = bound if found.paid else 0.0
            finally:
                charge.settle(price)
            paid += price
            problem = found.problem
            if asked_logprobs and found.refuses("logprobs"):
                self._logprobs = False
                continue
            failures += 1
            if not found.passing or failures >= policy.attempts:
                raise CallFailed(problem, paid)
            wait = policy.wait(failures, found.asked, self._jitter)
            _LOG.info("attempt %d failed, again in %.2f s: %s", failures, wait, problem)
            time.sleep(wait)

    def _attempt(self, messages: Sequence[Message], logprobs: bool) -> Completion | Failure:
        fields = self.endpoint.body(messages)
        if not logprobs:
            fields.pop("logprobs", None)
        try:
            return read_completion(self._without_key(self._send(fields)))
        # Whatever the libraries below raise, one failed call must not end the others.
        except Exception as error:
            return failure_of(error, self.endpoint.timeout, self._key)

    def _without_key(self, body: bytes) -> bytes:
        if self._key is None or len(self._key) < _SECRET:
            return body
        # A key has no character that JSON must write in another way, see `read_key`.
        return body.replace(self._key.encode(), b"<key>")

    def _send(self, fields: dict[str, Any]) -> bytes:
        own = {name: fields.pop(name) for name in ("model", "messages")}
        create: Any = self._client.chat.completions.with_streaming_response.create
        deadline = time.monotonic() + self.endpoint.timeout
        with create(**own, extra_body=fields) as response:
            return _read(response.iter_bytes(), deadline)

    def _price(self, completion: Completion, bound: float) -> float:
        if completion.prompt_tokens is None or completion.answer_tokens is None:
            return bound
        return self.endpoint.prices.of(completion.prompt_tokens, completion.answer_tokens)


def _read(chunks: Iterable[bytes], deadline: float) -> bytes:
    # The client's timeout is one of silence: a server that sends a byte now and then is cut here.
    found = []
    for chunk in chunks:
        found.append(chunk)
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(found)


def _client(endpoint: Endpoint, key: str | None) -> openai.OpenAI:
    try:
        import openai
    except ImportError as error:
        raise ConfigError(
            f"expected the openai package for endpoints, got: {error}; pip install "
            "'sparseft[route]'."
        ) from error
    return openai.OpenAI(
        api_key=key or "none",
        base_url=endpoint.base_url,
        timeout=endpoint.timeout,
        max_retries=0,
    )
