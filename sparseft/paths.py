"""Where the project's own files lie, in a checkout, an editable install and a wheel alike."""

from __future__ import annotations

from pathlib import Path

from sparseft.errors import ConfigError

__all__ = ["checkout_root", "conf_dir", "default_data_root"]

_PACKAGE = Path(__file__).resolve().parent


def checkout_root() -> Path | None:
    """The folder of the source checkout this package is imported from; None in a wheel."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "conf").is_dir() else None


def conf_dir() -> Path:
    """The absolute folder of the configuration files.

    Hydra finds a relative `config_path` only in some ways of starting, an absolute one in all.

    Raises:
        ConfigError: the installation holds no configuration files.
    """
    root = checkout_root()
    folder = root / "conf" if root is not None else _PACKAGE / "conf"
    if not (folder / "config.yaml").is_file():
        raise ConfigError(
            f"expected configuration files in {folder}, got none; reinstall sparseft."
        )
    return folder


def default_data_root() -> Path | None:
    """The first existing `../shared/data`, beside the checkout or beside the working directory."""
    root = checkout_root()
    starts = [Path.cwd()] if root is None else [root, Path.cwd()]
    for start in starts:
        candidate = start.parent / "shared" / "data"
        if candidate.is_dir():
            return candidate
    return None
