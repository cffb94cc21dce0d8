"""An expert behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from sparseft.errors import DataError
from sparseft.routing.expert import Prediction
from sparseft.routing.experts.answers import MalformedAnswer, parse_answer
from sparseft.routing.experts.budget import Budget
from sparseft.routing.experts.cache import ResponseCache, key_of
from sparseft.routing.experts.chat import CallFailed, ChatClient, Reply
from sparseft.routing.experts.completion import Completion
from sparseft.routing.experts.prompt import Demonstration, Message, Prompt
from sparseft.routing.experts.settings import Endpoint
from sparseft.routing.turns import Context

__all__ = ["EndpointExpert"]


class EndpointExpert:
    """Asks an endpoint for each turn's delta, several turns at a time.

    An answer that is no JSON object of slots is asked for once more, with what is wrong with it;
    one with an unknown slot is not. A prediction's tokens, price and seconds are those of both
    calls, its score is that of the last. `seconds` is 0 and `price` is 0 for what the cache
    answered; `notes` then say what it took when it was asked for.

    Args:
        endpoint: where and how to ask.
        slots: known slots with descriptions.
        demonstrations: turns with deltas, shown in the prompt.
        cache: of responses; None: every turn is paid for.
        budget: shared with whoever holds it, too; None: no cap.
        trained_on: ids of the dialogues that the model was trained on, as far as is known.
        name: for records; the model's by default.

    Raises:
        ConfigError: the `openai` package or the key is missing, or there is no slot. Nothing has
            been sent then.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        slots: Mapping[str, str],
        *,
        demonstrations: Sequence[Demonstration] = (),
        cache: ResponseCache | None = None,
        budget: Budget | None = None,
        trained_on: frozenset[str] = frozenset(),
        name: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.name = name or endpoint.model
        self.trained_on = trained_on
        self._prompt = Prompt(slots, demonstrations)
        self._cache = cache
        self._client = ChatClient(endpoint, budget)

    def __repr__(self) -> str:
        return f"EndpointExpert({self.name!r}, {self._client!r})"

    def __enter__(self) -> EndpointExpert:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def predict(self, contexts: Sequence[Context]) -> list[Prediction]:
        """One prediction a context, in order.

        An exhausted budget, a failed call or an unreadable answer is a `Prediction` with a
        `problem`; what was answered and paid for before is returned, and in the cache.
        """
        pool = ThreadPoolExecutor(self.endpoint.concurrency, thread_name_prefix="expert")
        try:
            return list(pool.map(self._predict, contexts))
        finally:
            # Where the caller is interrupted, what has not been sent is not sent any more.
            pool.shutdown(cancel_futures=True)

    def _predict(self, context: Context) -> Prediction:
        messages = self._prompt.messages(context)
        tally = _Tally()
        try:
            text = tally.add(self._ask(messages))
            try:
                delta = parse_answer(text, self._prompt.slots)
            except MalformedAnswer as error:
                tally.unreadable = text
                text = tally.add(self._ask(self._prompt.again(messages, text, str(error))))
                delta = parse_answer(text, self._prompt.slots)
        except CallFailed as error:
            return tally.prediction({}, problem=str(error), paid=error.price)
        except DataError as error:
            return tally.prediction({}, problem=f"{error}{tally.cut}")
        return tally.prediction(delta)

    def _ask(self, messages: Sequence[Message]) -> tuple[Reply, bool]:
        """A reply, and whether it comes from the cache."""
        key = ""
        if self._cache is not None:
            request = self.endpoint.body(messages)
            key = key_of({"base_url": self.endpoint.base_url.rstrip("/"), "body": request})
            known = self._recall(self._cache, key)
            if known is not None:
                return known, True
        reply = self._client.complete(messages)
        if self._cache is not None:
            stored = {"price": reply.price, "seconds": reply.seconds}
            self._cache.put(key, {"completion": reply.completion.to_json(), **stored})
        return reply, False

    def _recall(self, cache: ResponseCache, key: str) -> Reply | None:
        stored = cache.get(key)
        if stored is None:
            return None
        try:
            completion = Completion.from_json(stored["completion"])
            return Reply(completion, float(stored["price"]), float(stored["seconds"]))
        except (DataError, LookupError, TypeError, ValueError) as error:
            cache.report(key, repr(error))
            return None


@dataclass
class _Tally:
    """What one turn's calls came to."""

    replies: list[tuple[Reply, bool]] = field(default_factory=list)
    unreadable: str | None = None

    def add(self, asked: tuple[Reply, bool]) -> str:
        """Count a reply; its text."""
        self.replies.append(asked)
        return asked[0].completion.text

    @property
    def cut(self) -> str:
        """What to add to a problem of the last answer."""
        finish = self.replies[-1][0].completion.finish
        return " The answer was cut: raise max_tokens." if finish == "length" else ""

    def prediction(self, delta: dict[str, str], problem: str = "", paid: float = 0.0) -> Prediction:
        """The prediction; `paid` is the price of a call without an answer."""
        completions = [reply.completion for reply, _ in self.replies]
        notes: dict[str, Any] = {"calls": len(self.replies)}
        if completions:
            notes["answer"] = completions[-1].text
        if self.unreadable is not None:
            notes["unreadable"] = self.unreadable
        known = [reply for reply, cached in self.replies if cached]
        if known:
            notes["cached"] = {
                "calls": len(known),
                "price": sum(reply.price for reply in known),
                "seconds": sum(reply.seconds for reply in known),
            }
        new = [reply for reply, cached in self.replies if not cached]
        return Prediction(
            delta,
            score=completions[-1].score if completions and not problem else None,
            prompt_tokens=sum(c.prompt_tokens or 0 for c in completions),
            answer_tokens=sum(c.answer_tokens or 0 for c in completions),
            seconds=sum((reply.seconds for reply in new), 0.0),
            price=sum((reply.price for reply in new), paid),
            problem=problem,
            notes=notes,
        )
