"""Keys of services: named in settings, held in the environment, shown nowhere."""

from __future__ import annotations

import os
import re

from sparseft.errors import ConfigError

__all__ = ["check_variable", "read_key", "redacted"]

# Upper case, as variables are written and keys are not: gsk_… would be a name otherwise.
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


def check_variable(name: str) -> None:
    """Refuse what cannot be a variable's name, such as a key that was put in its place.

    Raises:
        ConfigError: without showing what was given.
    """
    if not _VARIABLE.fullmatch(name):
        raise ConfigError(
            "expected the NAME of an environment variable that holds the key (A to Z, 0 to 9 and "
            "_), got something else, not shown as it may be a key; put the key into a variable and "
            "give the variable's name."
        )


def read_key(variable: str) -> str:
    """The key that the environment holds.

    Raises:
        ConfigError: the variable is not set, or holds what no header can carry.
    """
    check_variable(variable)
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"expected a key in the environment variable {variable}, got none; set it "
            f"(export {variable}=…) before the run."
        )
    if not (key.isascii() and key.isprintable()) or set(key) & set(" \"'\\"):
        # Checked here, as the HTTP library would show the key in its own error.
        raise ConfigError(
            f"expected printable ASCII characters without spaces, quotes and backslashes in "
            f"{variable}, got others, not shown; copy the key again."
        )
    return key


def redacted(text: str, key: str | None) -> str:
    """The text without the key: servers repeat keys in their errors."""
    return text.replace(key, "<key>") if key else text
