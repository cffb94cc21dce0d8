"""Stretches of a turn's text that may be a slot's value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from sparseft.routing.states import State
from sparseft.routing.tracker.vocabulary import Vocabulary
from sparseft.routing.values import DONTCARE, normalised

__all__ = ["plain", "stretches", "written_state"]

_WORD = re.compile(r"\w+(?:[:.'’&/-]\w+)*")
_JOINT = re.compile(r"[\s'’&-]*")
_LONGEST = 6  # words
# No value begins or ends with one of these, unless a training value does.
_EDGES = (
    "a an and any are as at be been but by can could do does for from get give has have he "
    "hello help her here hi his how i i'd i'll i'm if in is it it's its just like looking me "
    "my need no not of ok okay on or our please re s she so some such sure t thank thanks that "
    "that's the their them then there these they this to us ve want was we what when where "
    "which will with would yes you your"
)
_FUNCTION_WORDS = frozenset(_EDGES.split())


def stretches(text: str, vocabulary: Vocabulary) -> Iterator[tuple[int, int]]:
    """First character and end of every candidate, in order of their beginnings.

    One to six words within a clause; a longer text has a number of them that grows with its length
    only.
    """
    words = [(match.start(), match.end()) for match in _WORD.finditer(text)]
    for place, (start, _) in enumerate(words):
        for last in range(place, min(place + _LONGEST, len(words))):
            if last > place and not _JOINT.fullmatch(text, words[last - 1][1], words[last][0]):
                break
            end = words[last][1]
            edges = {text[slice(*words[place])].lower(), text[slice(*words[last])].lower()}
            if last > place and text[slice(*words[place])].lower() == "the":
                continue  # the same without it says the same
            if edges & _FUNCTION_WORDS and not vocabulary.known(plain(text[start:end], False)):
                continue
            yield start, end


def written_state(state: State) -> tuple[str, list[tuple[int, int, str]]]:
    """A state as words, and where each value that another slot could take over stands in it."""
    text, places = "", []
    for slot in sorted(state):
        text += (", " if text else "") + slot.replace("-", " ") + " "
        if state[slot] != DONTCARE:
            places.append((len(text), len(text) + len(state[slot]), state[slot]))
        text += state[slot]
    return text, places


@lru_cache(maxsize=200_000)
def plain(text: str, name: bool) -> str:
    """A stretch's normalised value, for slots that hold names or for the others."""
    return normalised("domain-name" if name else "domain-slot", text)
