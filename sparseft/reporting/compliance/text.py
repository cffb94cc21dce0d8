"""Transcripts are anybody's text: what of it may reach a page, and as what."""

from __future__ import annotations

import re

from sparseft.compliance.fields import dumps
from sparseft.compliance.transcript import Json
from sparseft.reporting.svg import escaped

__all__ = ["safe", "value_html"]

# Controls but tab and line break, half surrogate pairs (no UTF-8 has them), and the signs that
# turn the direction of all text after them.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufeff]")


def safe(content: str) -> str:
    """Text as markup: escaped, with U+FFFD for signs that cannot or must not be shown."""
    return escaped(_UNSHOWN.sub("\ufffd", content))


def value_html(value: Json) -> str:
    """A field's value as markup: texts as they are, lists item by item, the rest as JSON."""
    if isinstance(value, str):
        return f"<code>{safe(value)}</code>"
    if isinstance(value, (list, tuple)):
        if not value:
            return '<code class="dim">empty</code>'
        items = (safe(item if isinstance(item, str) else dumps(item)) for item in value)
        return " ".join(f"<code>{item}</code>" for item in items)
    if value is None:
        return '<code class="dim">null</code>'
    return f"<code>{safe(dumps(value))}</code>"
