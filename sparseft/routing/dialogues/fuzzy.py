"""How alike two texts are, as SGD's official evaluation counts it."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import lru_cache

__all__ = ["token_sort_ratio"]

_NEITHER_LETTER_NOR_DIGIT = re.compile(r"(?i)\W")
_LATIN = dict.fromkeys(range(128, 256))


@lru_cache(maxsize=1 << 16)
def token_sort_ratio(reference: str, hypothesis: str) -> float:
    """How alike two texts are when the order of their words is left out, in hundredths of 0 to 1.

    What `fuzzywuzzy.fuzz.token_sort_ratio` gives on top of difflib, the only form that the official
    evaluation's requirements install: lower case, no character beyond ASCII's letters and digits
    (of U+0080 to U+00FF; later ones stay), words sorted, Ratcliff and Obershelp's similarity. It
    is not symmetric, and rapidfuzz gives other figures, as it counts insertions and deletions.
    """
    first, second = _sorted_words(reference), _sorted_words(hypothesis)
    if first == second:
        return 1.0
    if not first or not second:
        return 0.0
    return round(100 * SequenceMatcher(None, first, second).ratio()) / 100


def _sorted_words(text: str) -> str:
    plain = _NEITHER_LETTER_NOR_DIGIT.sub(" ", text.translate(_LATIN)).lower()
    return " ".join(sorted(plain.split()))
