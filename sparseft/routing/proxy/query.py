"""From a request's messages to what the router sees: the same words as of a dialogue's turn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sparseft.errors import DataError
from sparseft.routing.router import Query
from sparseft.routing.texts import query_of as query_of_context
from sparseft.routing.turns import Context

__all__ = ["PREVIOUS_STATE", "query_of"]

PREVIOUS_STATE = "previous_state"  # the name in a request's metadata
# Characters of an utterance: encoders see some hundred; a book must not hold up the others.
_LONGEST = 8_000


def query_of(
    messages: Sequence[Mapping[str, Any]],
    metadata: Mapping[str, Any] | None = None,
    name: str = "request",
) -> Query:
    """The query of a chat completion's messages, as `sparseft.routing.texts.query_of` writes it.

    The user's part is the last message of the role user; the system's part the last one of the
    assistant before it that has words, or else the last one of the roles system and developer.
    Words are a message's content where that is a text, and its parts of the type text where it is a
    list; of long ones the end is taken, as encoders do.

    Args:
        messages: of OpenAI's form, https://platform.openai.com/docs/api-reference/chat/create.
        metadata: of the request; `previous_state` in it, an object of slots and values or the JSON
            text of one, is the state before the user's words.
        name: unique among the requests; the query's group.

    Raises:
        DataError: there are no messages, or one or the state is of another form.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise DataError("expected a list of messages, got none; send 1 or more.")
    told = [_told(message) for message in messages]
    last = max((place for place, (role, _) in enumerate(told) if role == "user"), default=len(told))
    user = told[last][1] if last < len(told) else ""
    context = Context(name, 0, _system(told[:last]), user, _state(metadata))
    return query_of_context(context)


def _system(told: Sequence[tuple[str, str]]) -> str:
    for roles in (("assistant",), ("system", "developer")):
        for role, words in reversed(told):
            if role in roles and words:
                return words
    return ""


def _told(message: Any) -> tuple[str, str]:
    """Role and words of a message."""
    role = message.get("role") if isinstance(message, Mapping) else None
    if not isinstance(role, str):
        raise DataError("expected messages with a role and a content, got another; correct it.")
    content = message.get("content")
    if content is None:
        return role, ""  # as of an assistant that calls a tool
    if isinstance(content, str):
        return role, content[-_LONGEST:]
    if not isinstance(content, list) or not all(isinstance(part, Mapping) for part in content):
        raise DataError(
            f"expected a content that is a text or a list of parts, got {type(content).__name__} "
            f"in a message of the role {role[:20]!r}; correct it."
        )
    texts = (part.get("text") for part in content if part.get("type") == "text")
    return role, " ".join(text for text in texts if isinstance(text, str))[-_LONGEST:]


def _state(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    state = metadata.get(PREVIOUS_STATE) if isinstance(metadata, Mapping) else None
    if state is None:
        return {}
    if isinstance(state, str):
        # OpenAI's own clients take no other type as a value of metadata.
        try:
            state = json.loads(state)
        except (ValueError, RecursionError):
            state = None
    if isinstance(state, Mapping) and all(isinstance(value, str) for value in state.values()):
        return dict(state)
    raise DataError(
        f"expected metadata.{PREVIOUS_STATE} to be an object of slots and texts, or its JSON as a "
        "text, got something else; correct it or leave it out."
    )
