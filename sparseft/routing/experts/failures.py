"""What a failed attempt means: whether to ask again, when, and whether it may have been billed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sparseft.routing.experts.completion import MalformedBody
from sparseft.routing.experts.keys import redacted
from sparseft.routing.experts.retries import retry_after

__all__ = ["Failure", "failure_of"]

_PASSING = {408, 409, 429}  # beside all from 500
_SHOWN = 300  # characters of what a server says


@dataclass(frozen=True)
class Failure:
    """A failed attempt.

    Attributes:
        problem: what was expected, what came, what to do.
        passing: whether it may go well the next time.
        paid: whether the server may have worked for it, and bill it.
        asked: seconds that the server asks to wait.
        status: of HTTP; 0 where there was no response.
    """

    problem: str
    passing: bool
    paid: bool
    asked: float | None = None
    status: int = 0

    def refuses(self, field: str) -> bool:
        """Whether the server does not take that field of the request."""
        return self.status in (400, 422) and field in self.problem


def failure_of(error: Exception, timeout: float, key: str | None = None) -> Failure:
    """What an attempt's exception means.

    Args:
        error: of the `openai` client, of the HTTP library below it, or of reading the body.
        timeout: of the attempt in seconds.
        key: that must not be shown.
    """
    if isinstance(error, MalformedBody):
        return Failure(redacted(str(error), key), passing=True, paid=True)
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return _of_status(error, status, key)
    # By name, as the client stands on httpx in some versions and on httpx2 in others.
    names = {base.__name__ for e in (error, error.__cause__) if e for base in type(e).__mro__}
    sent = not names & {"ConnectError", "ConnectTimeout"}
    if names & {"TimeoutError", "TimeoutException"}:
        problem = (
            f"expected an answer within {timeout:g} s, got none; give it more time, or look at the "
            "server."
        )
        return Failure(problem, passing=True, paid=sent)
    if names & {"APIConnectionError", "RequestError"}:
        problem = (
            f"expected an answer, got no connection or a broken one "
            f"({_said(error.__cause__ or error, key)}); check base_url and the server."
        )
        return Failure(problem, passing=True, paid=sent)
    problem = (
        f"expected an answer, got {type(error).__name__} ({_said(error, key)}); check the settings."
    )
    return Failure(problem, passing=False, paid=True)


def _of_status(error: Any, status: int, key: str | None) -> Failure:
    # A quota that is used up has the status of a rate that is too high, and does not pass.
    used_up = getattr(error, "code", None) == "insufficient_quota"
    passing = (status in _PASSING or status >= 500) and not used_up
    advice = {
        401: "check the key",
        403: "check what the key may do",
        404: "check base_url and the model's name",
        429: "ask less at the same time, or raise the quota",
    }.get(status, "look at the server" if status >= 500 else "check the settings")
    return Failure(
        f"expected an answer, got HTTP {status} ({_said(error, key)}); {advice}.",
        passing=passing,
        paid=False,
        asked=retry_after(error.response.headers.get("retry-after")),
        status=status,
    )


def _said(error: BaseException, key: str | None) -> str:
    # Cut last: half a key would not be found.
    return redacted(" ".join(str(error).split()), key)[:_SHOWN]
