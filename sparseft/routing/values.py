"""One spelling for values that mean the same, where that is beyond doubt.

Trackers and annotations write a value in many ways; what is made equal here is what published
evaluations of MultiWOZ make equal (Nekvinda and Dušek, GEM 2021: case, punctuation, times, leading
"the", guesthouse, centre), the ways to say "dontcare", and numbers in words. It is optional: every
metric says whether it was used.
"""

from __future__ import annotations

import re
import unicodedata

from sparseft.routing.states import DELETE, State

__all__ = ["DONTCARE", "normalised", "normalised_state"]

DONTCARE = "dontcare"

_NO_PREFERENCE = frozenset(
    {
        DONTCARE, "dont care", "do nt care", "do not care", "doesnt care", "does nt care",
        "does not care", "dont mind", "do nt mind", "do not mind", "doesnt matter",
        "does nt matter", "does not matter", "no preference", "not important", "any", "anything",
    }
)  # fmt: skip
_SPELLINGS = (
    (re.compile(r"\bcenter\b"), "centre"),
    (re.compile(r"\btheater\b"), "theatre"),
    (re.compile(r"\bguest house(s?)\b"), r"guesthouse\1"),
    (re.compile(r"\bnight club(s?)\b"), r"nightclub\1"),
    (re.compile(r"\bswimming pool(s?)\b"), r"swimmingpool\1"),
    (re.compile(r"\bconcert hall(s?)\b"), r"concerthall\1"),
)
_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)
_NUMBERS = {word: str(number) for number, word in enumerate(_WORDS.split())}
_APOSTROPHES = re.compile(r" ['’‘`´](?=s\b)|['’‘`´]")  # "john 's" is how MultiWOZ splits words
_SPACED_CLOCK = re.compile(r"(?<=\d) ?: ?(?=\d\d\b)")
# A colon or point within a number, and the sign before it, are parts of the value.
_PUNCTUATION = re.compile(r"[:.](?!\d)|(?<!\d):|(?<=[^\d\s])\.|(?!^-\d)[-–—_/\\,;!?\"“”()\[\]{}*]")
_CLOCK = re.compile(r"(\d{1,2})[:.](\d{2})")
_HALF_DAY = re.compile(
    r"(?:at )?(\d{1,2})(?:[:.](\d{2}))? ?"
    r"(?:(a ?m|in the morning)|(p ?m|in the afternoon|in the evening))"
)
_NAMES = ("name", "title", "song", "album", "play")


def normalised(slot: str, value: str) -> str:
    """A value in its plain spelling; doing it again changes nothing.

    Lower case, NFKC, no punctuation (but within numbers and times) and no leading "the"; British
    centre and theatre; guesthouse, nightclub, swimmingpool and concerthall in one word; every way
    of having no preference as `dontcare`; times as HH:MM where morning and afternoon can be told
    ("5pm", "9:05", not "5"); zero to twenty in digits, except where the slot holds a name. `DELETE`
    stays.

    Args:
        slot: `domain-slot`.
        value: a single one: several accepted ones in one text must be split first.
    """
    if value == DELETE:
        return value
    text = _words(unicodedata.normalize("NFKC", value).lower())
    text = _SPACED_CLOCK.sub(":", _APOSTROPHES.sub("", text))
    text = _PUNCTUATION.sub(" ", text)
    text = _words(text.replace("&", " and "))
    text = _words(re.sub(r"^(?:the )+(?=\S)", "", text))
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    if text in _NO_PREFERENCE:
        return DONTCARE
    time = _time(text)
    if time is not None:
        return time
    if text in _NUMBERS and not _is_name(slot):
        return _NUMBERS[text]
    # Of marks alone nothing would be left, and all such values would be the same.
    return text or _words(value.lower())


def normalised_state(state: State, separator: str | None = None) -> dict[str, str]:
    """A state or delta with each value normalised.

    Args:
        separator: joins several accepted values of a slot; each is normalised by itself, and
            equal ones are kept once.
    """
    return {
        slot: normalised(slot, value)
        if separator is None
        else separator.join(
            dict.fromkeys(normalised(slot, part) for part in value.split(separator))
        )
        for slot, value in state.items()
    }


def _words(text: str) -> str:
    return " ".join(text.split())


def _is_name(slot: str) -> bool:
    last = slot.rsplit("-", 1)[-1]
    return any(word in last for word in _NAMES)


def _time(text: str) -> str | None:
    match = _CLOCK.fullmatch(text)
    if match is not None and ":" in text:
        return _clock(int(match[1]), int(match[2]))
    match = _HALF_DAY.fullmatch(text)
    if match is None:
        return None
    hour, minute = int(match[1]), int(match[2] or 0)
    if not 1 <= hour <= 12:
        return None
    # Noon and midnight: "12 am" and "12 pm" are settled, "12 in the evening" is not.
    if hour == 12 and (match[3] or match[4]).endswith(("morning", "evening")):
        return None
    return _clock(hour % 12 + (12 if match[4] else 0), minute)


def _clock(hour: int, minute: int) -> str | None:
    return f"{hour:02d}:{minute:02d}" if hour < 24 and minute < 60 else None
