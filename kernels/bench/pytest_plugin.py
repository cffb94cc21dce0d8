"""Lets the tests run where pytest-timeout is not installed: `pytest -p bench.pytest_plugin`.

pyproject.toml sets that plugin's `timeout`, which a strict pytest refuses when nobody knows it.
Each stage of `make gpu` has a time limit of its own.
"""

from __future__ import annotations

import importlib.util

import pytest

_ABSENT = importlib.util.find_spec("pytest_timeout") is None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know the setting."""
    if _ABSENT:
        parser.addini("timeout", "seconds for a test; pytest-timeout, which is not installed")


def pytest_configure(config: pytest.Config) -> None:
    """Know the mark."""
    if _ABSENT:
        config.addinivalue_line("markers", "timeout(seconds): of pytest-timeout, not installed")
