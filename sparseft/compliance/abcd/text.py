"""Where ids and amounts stand in a transcript: the patterns that predict, never those of gold."""

from __future__ import annotations

import re

from sparseft.compliance.transcript import Evidence, Transcript

__all__ = ["Match", "accounts", "amounts", "emails", "find", "orders"]

Match = tuple[str, Evidence]

# Not within a longer word or an e-mail address.
_BEFORE, _AFTER = r"(?<![A-Za-z0-9@._-])", r"(?![A-Za-z0-9@_-])"
_ORDER = re.compile(rf"{_BEFORE}[0-9]{{10}}{_AFTER}")
_ACCOUNT = re.compile(rf"{_BEFORE}(?=[0-9]*[A-Z])[A-Z0-9]{{10}}{_AFTER}")
# In small letters: a digit before some letter, so neither a word nor a user name (jdoe123).
_SMALL_ACCOUNT = re.compile(rf"{_BEFORE}(?=[a-z]*[0-9]+[a-z])[a-z0-9]{{10}}{_AFTER}")
# Begins where a word does and has an end, so that long texts take linear time.
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._-])[A-Za-z0-9._-]{0,63}[A-Za-z0-9]@[A-Za-z0-9-]{1,63}"
    r"(?:\.[A-Za-z0-9-]{1,63})+"
)
_DOLLARS = re.compile(r"\$ ?([0-9]{1,4}(?:\.[0-9]{1,2})?)(?![0-9])")
_IN_WORDS = re.compile(r"(?<![0-9.])([0-9]{1,4}(?:\.[0-9]{1,2})?) ?(?:dollars|bucks|usd)\b", re.I)


def find(transcript: Transcript, *patterns: re.Pattern[str]) -> list[Match]:
    """All matches in order of the turns, each with its place; a group, where there is one."""
    matches = []
    for number, turn in enumerate(transcript.turns):
        found = [match for pattern in patterns for match in pattern.finditer(turn.text)]
        for match in sorted(found, key=lambda match: match.start()):
            group = match.re.groups
            place = Evidence(number, match.start(group), match.end(group))
            matches.append((match.group(group), place))
    return matches


def orders(transcript: Transcript) -> list[Match]:
    """Order ids: ten digits."""
    return find(transcript, _ORDER)


def accounts(transcript: Transcript) -> list[Match]:
    """Account ids: ten letters and digits; in capitals, else in small letters."""
    return find(transcript, _ACCOUNT) or find(transcript, _SMALL_ACCOUNT)


def emails(transcript: Transcript) -> list[Match]:
    """E-mail addresses."""
    return find(transcript, _EMAIL)


def amounts(transcript: Transcript) -> list[tuple[float, Evidence]]:
    """Amounts in dollars."""
    return [(float(text), place) for text, place in find(transcript, _DOLLARS, _IN_WORDS)]
