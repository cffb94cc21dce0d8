"""What a chat-completions server answered, as much of it as an expert uses.

The format is OpenAI's (https://platform.openai.com/docs/api-reference/chat/object). Only the
fields that are used are checked: compatible servers leave out or add many of the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sparseft.compliance.jsonl import strict_json
from sparseft.errors import DataError

__all__ = ["Completion", "MalformedBody", "read_completion"]


class MalformedBody(DataError):
    """A response that is no chat completion."""


@dataclass(frozen=True)
class Completion:
    """An answer.

    Attributes:
        text: of the model; empty where it refused.
        score: mean log-probability of its tokens; None where the server gives none.
        prompt_tokens, answer_tokens: as the server counted them; None where it did not.
        finish: why the model stopped, such as stop or length; empty where the server does not say.
    """

    text: str
    score: float | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    finish: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Any) -> Completion:
        """What `to_json` gave.

        Raises:
            DataError: it is something else.
        """
        try:
            found = cls(**content)
        except TypeError as error:
            raise DataError(f"expected a stored completion, got: {error}; ask again.") from error
        score = found.score
        if (
            not isinstance(found.text, str)
            or not isinstance(found.finish, str)
            or not (score is None or (isinstance(score, float) and math.isfinite(score)))
            or found.prompt_tokens != _count(content, "prompt_tokens")
            or found.answer_tokens != _count(content, "answer_tokens")
        ):
            raise DataError("expected a stored completion, got fields of other types; ask again.")
        return found


def read_completion(body: bytes) -> Completion:
    """The first choice of a response's body.

    Raises:
        MalformedBody: it is no JSON, or has no choice with a message.
    """
    try:
        content = strict_json(body, "a chat completion in JSON")
    except DataError as error:
        raise MalformedBody(str(error)) from error
    try:
        choice = content["choices"][0]
        text = choice["message"]["content"]
    except (LookupError, TypeError) as error:
        raise MalformedBody(
            f"expected a chat completion with a choice, got {body[:80]!r} ({error!r}); check "
            "base_url, which mostly ends in /v1."
        ) from error
    if not isinstance(text, str | None):
        raise MalformedBody(
            f"expected the message's content to be a text, got {type(text).__name__}; check the "
            "server."
        )
    usage = content.get("usage")
    finish = choice.get("finish_reason")
    return Completion(
        text=text or "",
        score=_mean_log_probability(choice.get("logprobs")),
        prompt_tokens=_count(usage, "prompt_tokens"),
        answer_tokens=_count(usage, "completion_tokens"),
        finish=finish if isinstance(finish, str) else "",
    )


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _mean_log_probability(logprobs: Any) -> float | None:
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(tokens, list) or not tokens:
        return None
    values = [token.get("logprob") for token in tokens if isinstance(token, Mapping)]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    # One that is missing would make the mean that of something else.
    if len(numbers) < len(tokens) or not all(map(math.isfinite, numbers)):
        return None
    return math.fsum(numbers) / len(numbers)
