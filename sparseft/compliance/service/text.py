"""Patterns of the rules: numbers, addresses and sums as people type them, with their places."""

from __future__ import annotations

import re
from collections.abc import Callable
from re import Match

from sparseft.compliance.transcript import Evidence, Transcript

__all__ = ["Found", "accounts", "codes", "emails", "identifiers", "phones", "sums", "tickets"]

Found = list[tuple[str, Evidence]]

_FREE, _END = r"(?<![A-Za-z0-9@])", r"(?![A-Za-z0-9])"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_ACCOUNT = re.compile(rf"{_FREE}ac[\s\-.:#]{{0,2}}(\d{{4}}){_END}", re.IGNORECASE)
_TICKET = re.compile(rf"{_FREE}tk[\s\-.:#]{{0,2}}(\d{{5}}){_END}", re.IGNORECASE)
_EMAIL = re.compile(
    r"(?<![\w.+-])([a-z0-9.]{1,64}@[a-z]{1,64}\.[a-z]{2,12})(?![\w@])", re.IGNORECASE
)
_PHONE = re.compile(rf"{_FREE}(0\d{{3}})[\s\-/.]?(\d{{3}})[\s\-.]?(\d{{3}}){_END}")
_CODE = re.compile(r"(?<![\w\-$.])\d{3}[\s\-]?\d{3}(?![\w\-]|\.\d)")
_SUM = re.compile(
    r"(?:(?<![\w.,])\$\s?(\d{1,6}(?:\.\d{1,2})?)"
    r"|(?<![\w.,$])(\d{1,6}(?:\.\d{1,2})?)\s?(?:dollars?|bucks|usd)\b)",
    re.IGNORECASE,
)
_IDENTIFIERS = {
    "dob": re.compile(
        rf"{_FREE}(?:\d{{1,2}}(?:st|nd|rd|th)?[\s.]+(?:of\s+)?{_MONTH}[\s,]+\d{{4}}"
        rf"|{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}"
        rf"|\d{{1,2}}[/.\-]\d{{1,2}}[/.\-]\d{{4}}){_END}",
        re.IGNORECASE,
    ),
    "postcode": re.compile(rf"{_FREE}[a-z]{{2}}\d\s?\d[a-z]{{2}}{_END}", re.IGNORECASE),
    # Four digits that are no part of an account number, a phone number, a year or a sum.
    "card": re.compile(
        r"(?<![\w$.,/@])(?<!ac )(?<!ac-)(?<!AC )(?<!AC-)\d{4}(?![\w@/]|[.,-]\d|\s\d|\s?dollars)"
    ),
}
# Behind these words stands what a customer takes back.
_NOT = re.compile(
    r"(?:\bnot|\binstead of|\brather than)(?:\s+(?:it'?s|that'?s))?\s*\Z", re.IGNORECASE
)


def accounts(transcript: Transcript, speaker: str = "customer") -> Found:
    """Account numbers of a speaker, as AC-1234; those taken back ("not AC-…") left out."""
    return _all(transcript, speaker, _ACCOUNT, lambda match: f"AC-{match[1]}")


def tickets(transcript: Transcript, speaker: str = "agent") -> Found:
    """Ticket numbers of a speaker, as TK-12345."""
    return _all(transcript, speaker, _TICKET, lambda match: f"TK-{match[1]}")


def emails(transcript: Transcript, speaker: str = "customer") -> Found:
    """E-mail addresses of a speaker, in small letters."""
    return _all(transcript, speaker, _EMAIL, lambda match: match[1].lower())


def phones(transcript: Transcript, speaker: str = "customer") -> Found:
    """Phone numbers of a speaker, as 0123-456789."""
    return _all(transcript, speaker, _PHONE, lambda match: f"{match[1]}-{match[2]}{match[3]}")


def codes(transcript: Transcript, speaker: str = "customer") -> Found:
    """Numbers of six digits that stand alone, as a one-time code does."""
    return _all(transcript, speaker, _CODE, lambda match: re.sub(r"\D", "", match.group()))


def sums(transcript: Transcript, speaker: str | None = None) -> list[tuple[float, Evidence]]:
    """Sums of money, in dollars."""
    found = _all(transcript, speaker, _SUM, lambda match: match[1] or match[2])
    return [(float(text), place) for text, place in found]


def identifiers(transcript: Transcript) -> dict[str, Found]:
    """What customers said that has the shape of a second identifier, by kind."""
    found = {
        kind: _all(transcript, "customer", pattern, lambda match: match.group())
        for kind, pattern in _IDENTIFIERS.items()
    }
    return {kind: places for kind, places in found.items() if places}


def _all(
    transcript: Transcript,
    speaker: str | None,
    pattern: re.Pattern[str],
    text: Callable[[Match[str]], str],
) -> Found:
    found: Found = []
    for number, turn in enumerate(transcript.turns):
        # Where the source does not say who spoke, everybody may have.
        if speaker is not None and turn.speaker not in (speaker, "unknown"):
            continue
        for match in pattern.finditer(turn.text):
            if not _NOT.search(turn.text, 0, match.start()):
                found.append((text(match), Evidence(number, match.start(), match.end())))
    return found
