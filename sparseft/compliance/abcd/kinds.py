"""Of what kind a value is that an ABCD agent entered, by the ontology's lists and its shape.

Used for gold values only. What predicts from text has its own patterns (`text.py`), on purpose:
gold that shared them would agree with the prediction by construction.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, digits

from sparseft.errors import DataError

__all__ = ["Ontology", "read_ontology"]

_ID_LENGTH = 10
_LISTS = (
    "customer_name", "membership_level", "payment_method", "product", "refund_target",
    "security_answer", "shipping_option",
)  # fmt: skip


@dataclass(frozen=True)
class Ontology:
    """The ontology's enumerated slots, lower case."""

    values: Mapping[str, tuple[str, ...]]

    def name(self, value: str) -> str | None:
        """A first and a last name; what the console appended to it is left out."""
        words = value.removesuffix(" customer is typing").split()
        if len(words) != 2 or not all(word and not set(word) - _LETTERS for word in words):
            return None
        known = {part for name in self.values["customer_name"] for part in name.split()}
        # A misspelt name has one half right; two other words ("account id") have none.
        return " ".join(words) if known & set(words) else None

    def order_id(self, value: str) -> bool:
        """Ten digits."""
        return len(value) == _ID_LENGTH and not set(value) - _DIGITS

    def account_id(self, value: str) -> bool:
        """Ten letters and digits, not a user name, which begins with the customer's."""
        if len(value) != _ID_LENGTH or set(value) - _LETTERS - _DIGITS or not set(value) & _LETTERS:
            return False
        if value in self.values["security_answer"]:
            return False
        stem = value.rstrip(digits)
        return not any(stem in _stems(name) for name in self.values["customer_name"])

    def email(self, value: str) -> bool:
        """One @ between two words, the second with a dot inside."""
        user, _, host = value.partition("@")
        allowed = _LETTERS | _DIGITS | set("._-")
        inner = "." in host.strip(".") and host == host.strip(".")
        return bool(user) and inner and not (set(user) | set(host)) - allowed

    def phone(self, value: str) -> bool:
        """Ten digits, written in groups."""
        count = sum(sign in _DIGITS for sign in value)
        return count == _ID_LENGTH and len(value) > count and not set(value) - _DIGITS - set("()- ")

    def address(self, value: str) -> bool:
        """A house number and a street."""
        number, _, street = value.partition(" ")
        return 1 <= len(number) <= 5 and not set(number) - _DIGITS and bool(set(street) & _LETTERS)

    def payment(self, value: str) -> bool:
        """A way to pay or to be paid."""
        return value in self.values["payment_method"] + self.values["refund_target"] or any(
            word in ("card", "paypal", "mastercard", "visa", "checking", "check")
            for word in value.split()
        )

    def product(self, value: str) -> bool:
        """One of the shop's brands or garments is named."""
        known = {word for name in self.values["product"] for word in name.split()[-1:]}
        return bool(known & set(value.replace("_", " ").split()))

    def amount(self, value: str) -> float | None:
        """Dollars; None where it is no number."""
        text = value.strip().removeprefix("$")
        whole, _, cents = text.partition(".")
        if not whole or set(whole + cents) - _DIGITS or len(whole) > 4:
            return None
        return float(text)


_LETTERS, _DIGITS = set(ascii_lowercase), set(digits)


def read_ontology(path: Path) -> Ontology:
    """The ontology of an ABCD folder (ontology.json.gz).

    Raises:
        DataError: it is missing, damaged, or lacks a slot.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            listed = json.load(stream)["values"]["enumerable"]
        return Ontology({slot: tuple(v.lower() for v in listed[slot]) for slot in _LISTS})
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"expected ABCD's ontology at {path}, got {type(error).__name__}: {error}; fetch the "
            "file again."
        ) from error


def _stems(name: str) -> Sequence[str]:
    """The beginnings of a customer's user names: initials, one name, or both."""
    first, last = name.split()
    whole = (first + last, first + last[0], first[0] + last, first[0] + last[0], first, last)
    return whole
