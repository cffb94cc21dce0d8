"""Make a pre-tokenizer keep constructs in one piece, and change nothing else.

Every splitter of the original becomes "a construct, or what the splitter would have matched here":
one regular expression that is tried at the same places from left to right. A construct begins where
the original begins a pre-token and ends where it is sure to end one, so the rest of the text is cut
as before. Where that cannot be known, as next to an apostrophe, the construct is left alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from sparseft.errors import ModelError

__all__ = [
    "META",
    "is_byte_level",
    "is_rewritten",
    "normalizes_spaces",
    "pieces_of",
    "rewritten",
    "uses_metaspace",
]

META = "▁"  # SentencePiece's sign for a space

Component = dict[str, Any]
Probe = Callable[[Component, str], list[tuple[str, tuple[int, int]]]]

# What `ByteLevel` splits by (GPT-2), as tokenizers has it.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# White space as Rust's `char::is_whitespace` has it.
_SPACE = r"\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}"
# \w as Rust's `regex` has it, which `Whitespace` uses.
_WORD = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}"
# White space and ASCII punctuation but ' and _, which some splitters keep with a word.
_NOT_A_BREAK = r"[^\s!-&(-/:-@\[-\^`{-~]"


def uses_metaspace(tokenizer: Component) -> bool:
    """Whether the model sees ▁ for a space."""
    return normalizes_spaces(tokenizer) or any(
        component["type"] == "Metaspace"
        for component in _components(tokenizer.get("pre_tokenizer"))
    )


def normalizes_spaces(tokenizer: Component) -> bool:
    """Whether the ▁ comes from the normalizer (Llama 2, Gemma), so that words are not split."""
    return META in str(tokenizer.get("normalizer"))


def is_byte_level(tokenizer: Component) -> bool:
    """Whether the model sees bytes as letters, as GPT-2's does."""
    components = _components(tokenizer.get("pre_tokenizer"))
    return any(component["type"] == "ByteLevel" for component in components)


def is_rewritten(component: Component) -> bool:
    """Whether `rewritten` changes the component; others keep what they cut."""
    if component["type"] == "ByteLevel":
        return bool(component["use_regex"])
    if component["type"] == "Metaspace":
        return component["replacement"] == META and bool(component.get("split", True))
    if component["type"] == "Split":
        isolated = component["behavior"] == "Isolated" and not component["invert"]
        kept = component["behavior"] == "Removed" and component["invert"]
        return "Regex" in component["pattern"] and (isolated or kept)
    return component["type"] in _REWRITERS


def pieces_of(tokenizer: Component) -> list[Component]:
    """The components of the pre-tokenizer.

    Raises:
        ModelError: one of them is of a kind that cannot be made to keep constructs.
    """
    components = _components(tokenizer.get("pre_tokenizer"))
    for component in components:
        known = component["type"] in _REWRITERS or component["type"] in _CUTTERS
        if not known or (component["type"] == "ByteLevel" and component["add_prefix_space"]):
            shown = {key: value for key, value in component.items() if key != "pattern"}
            raise ModelError(
                f"expected a pre-tokenizer made of {', '.join([*_REWRITERS, *_CUTTERS])} "
                "(ByteLevel "
                f"without add_prefix_space), got {shown}; train without the adaptive tokenizer, "
                "or add the component to sparseft/constructs/pretokens.py."
            )
    if not components and not uses_metaspace(tokenizer):
        raise ModelError(
            "expected a tokenizer that splits its text, got one without a pre-tokenizer; "
            "train without the adaptive tokenizer."
        )
    return components


def rewritten(tokenizer: Component, constructs: Sequence[str], probe: Probe) -> Component:
    """A pre-tokenizer that gives each construct as one pre-token and all else as before.

    Args:
        tokenizer: the content of tokenizer.json.
        constructs: as the model sees them (with ▁ where it uses that), but characters for bytes.
        probe: the pre-tokens and their places that a component makes of a text.

    Raises:
        ModelError: see `pieces_of`.
    """
    components = pieces_of(tokenizer)
    result: list[Component] = []
    if normalizes_spaces(tokenizer):
        # Nothing else splits words, so what comes before a construct must be ruled out here.
        only = f"(?<!{META}){_alternation(constructs, meta=True)}"
        result = [_split(only, "Isolated"), *components]
        components = []
    meta = False
    for component in components:
        kind = component["type"]
        if kind == "Metaspace":
            meta = True
        plain = uses_metaspace(tokenizer) and not meta
        listed = [text.replace(META, " ").strip() if plain else text for text in constructs]
        if is_rewritten(component):
            result += _REWRITERS[kind](component, _alternation(listed, meta, plain), probe)
        else:
            result.append(component)
    return result[0] if len(result) == 1 else {"type": "Sequence", "pretokenizers": result}


def _components(pre_tokenizer: Component | None) -> list[Component]:
    if pre_tokenizer is None:
        return []
    if pre_tokenizer["type"] == "Sequence":
        return [part for entry in pre_tokenizer["pretokenizers"] for part in _components(entry)]
    return [pre_tokenizer]


def _split(pattern: str, behavior: str, invert: bool = False) -> Component:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": behavior,
        "invert": invert,
    }


# --- one rewriter for each component that would cut a construct


def _byte_level(component: Component, constructs: str, probe: Probe) -> list[Component]:
    return [_split(f"{constructs}|{_GPT2}", "Isolated"), {**component, "use_regex": False}]


def _regex(component: Component, constructs: str, probe: Probe) -> list[Component]:
    pattern = component["pattern"]["Regex"]
    return [{**component, "pattern": {"Regex": f"{constructs}|{pattern}"}}]


def _bert(component: Component, constructs: str, probe: Probe) -> list[Component]:
    signs = _bert_punctuation(probe)
    return [_split(f"{constructs}|[{signs}]|[^{signs}{_SPACE}]+", "Removed", invert=True)]


def _whitespace(component: Component, constructs: str, probe: Probe) -> list[Component]:
    return [_split(f"{constructs}|[{_WORD}]+|[^{_WORD}{_SPACE}]+", "Removed", invert=True)]


def _whitespace_split(component: Component, constructs: str, probe: Probe) -> list[Component]:
    return [_split(f"{constructs}|[^{_SPACE}]+", "Removed", invert=True)]


def _metaspace(component: Component, constructs: str, probe: Probe) -> list[Component]:
    whole = f"{constructs}|{META}[^{META}]*|[^{META}]+"
    return [{**component, "split": False}, _split(whole, "Isolated")]


_REWRITERS: dict[str, Callable[[Component, str, Probe], list[Component]]] = {
    "BertPreTokenizer": _bert,
    "ByteLevel": _byte_level,
    "Metaspace": _metaspace,
    "Split": _regex,
    "Whitespace": _whitespace,
    "WhitespaceSplit": _whitespace_split,
}
# Cut by the kind of a character alone; a construct that one of them cuts is left out.
_CUTTERS = ("Digits", "Punctuation")


@lru_cache(maxsize=1)
def _bert_punctuation(probe: Probe) -> str:
    """The characters that BertPreTokenizer sets apart, as ranges of a character class.

    Asked of the tokenizer itself: its Unicode tables are older than those of its regular
    expressions and of Python, so no name of a category is the same in all three.
    """
    signs = [
        code
        for code in range(0x110000)
        if unicodedata.category(chr(code))[0] in "PS" and not 0xD800 <= code <= 0xDFFF
    ]
    text = "\n".join(f"a{chr(code)}a" for code in signs)
    starts = {start for _, (start, _) in probe({"type": "BertPreTokenizer"}, text)}
    found = [code for place, code in enumerate(signs) if 4 * place + 1 in starts]
    ranges: list[list[int]] = []
    for code in found:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(rf"\x{{{a:X}}}" + (rf"-\x{{{b:X}}}" if b > a else "") for a, b in ranges)


# --- the regular expression of the constructs


def _alternation(constructs: Sequence[str], meta: bool = False, plain: bool = False) -> str:
    """Any of the constructs, the longest first, where it begins and ends a pre-token.

    Args:
        constructs: literal texts.
        meta: words begin with ▁ and end before the next one.
        plain: words are parted by white space alone.
    """
    inside = [text for text in constructs if text[0].isalnum() and not meta]
    others = [text for text in constructs if not (text[0].isalnum() and not meta)]
    parts = []
    if inside:
        before = r"(?<!\S)" if plain else f"(?<!{_NOT_A_BREAK})"
        parts.append(before + _trie(inside, meta, plain))
    if others:
        parts.append(_trie(others, meta, plain))
    return f"(?:{'|'.join(parts)})"


def _end(text: str, meta: bool, plain: bool) -> str:
    if meta:
        return f"(?![^{META}])"
    if plain:
        return r"(?!\S)"
    return f"(?!{_NOT_A_BREAK})" if text[-1].isalnum() else "(?![^ ])"


def _trie(texts: Sequence[str], meta: bool, plain: bool) -> str:
    """The texts as nested alternatives, so that a place costs one try and not one for each text."""

    def node(listed: list[tuple[str, str]]) -> str:
        by_letter: dict[str, list[tuple[str, str]]] = {}
        end = ""
        for rest, whole in listed:
            if rest:
                by_letter.setdefault(rest[0], []).append((rest[1:], whole))
            else:
                end = _end(whole, meta, plain)
        choices = []
        for letter, following in sorted(by_letter.items()):
            literal = letter
            while len(heads := {rest[:1] for rest, _ in following}) == 1 and "" not in heads:
                literal += following[0][0][0]
                following = [(rest[1:], whole) for rest, whole in following]
            choices.append(_escaped(literal) + node(following))
        if end:
            choices.append(end)  # the last choice: a longer construct comes first
        return choices[0] if len(choices) == 1 else f"(?:{'|'.join(choices)})"

    return f"(?:{node([(text, text) for text in dict.fromkeys(texts)])})"


def _escaped(literal: str) -> str:
    return "".join(
        letter if letter.isalnum() or ord(letter) > 127 else rf"\x{{{ord(letter):X}}}"
        for letter in literal
    )
