"""The phrasings of the simulator: text files by occasion and split, and slips of the keyboard."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random

import yaml

__all__ = ["Phrase", "banks", "phrase", "with_typo"]

_FILES = ("opening", "requests", "talk", "identity", "steps", "terms", "actions", "money")
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_WORD = re.compile(r"(?<![\w{'])[A-Za-z]{4,}(?![\w}'])")


@dataclass(frozen=True)
class Phrase:
    """A phrasing before its values are filled in; `template` names it over all splits."""

    template: str
    text: str


@cache
def banks() -> dict[str, dict[str, tuple[str, ...]]]:
    """All phrasings: by bank and split, one template a line; [a|b] is a choice, {x} a value."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    folder = resources.files("sparseft.compliance.service") / "phrases"
    for name in _FILES:
        content = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
        for bank, splits in content.items():
            found[bank] = {
                split: tuple(text.strip().splitlines()) for split, text in splits.items()
            }
    return found


def phrase(random: Random, bank: str, split: str) -> Phrase:
    """One phrasing of a bank, its choices made."""
    lines = banks()[bank][split]
    place = random.randrange(len(lines))
    text = _CHOICE.sub(lambda match: random.choice(match[1].split("|")), lines[place])
    # A choice may be empty: no blank stands alone or before a comma.
    text = re.sub(r" +([,.?!])", r"\1", re.sub(r" {2,}", " ", text)).strip()
    text = text.replace(" ...", "...")
    return Phrase(f"{split}:{bank}:{place}", text[0].upper() + text[1:] if text else text)


def with_typo(random: Random, text: str) -> str:
    """One slip in a word of four letters or more; values in braces are left alone."""
    places = [m for m in _WORD.finditer(text) if "{" not in text[max(0, m.start() - 1) : m.start()]]
    if not places:
        return text
    match = random.choice(places)
    word = match.group()
    at = random.randrange(1, len(word) - 1)
    slipped = random.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        )
    )
    return text[: match.start()] + slipped + text[match.end() :]
