"""Weights & Biases beside the run's own record; it never stops or delays a run.

metrics.jsonl and result.json are written in any case: what is here may fail, and then says so once.
"""

from __future__ import annotations

import importlib.util
import logging
import netrc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import urlparse

from sparseft.errors import ConfigError

if TYPE_CHECKING:
    from sparseft.config import TrackingConfig

__all__ = ["TAG_LENGTH", "NullTracker", "Tracker", "logged_in", "open_tracker"]

_log = logging.getLogger(__name__)

TAG_LENGTH = 64  # W&B refuses longer ones

_INIT_SECONDS = 30  # to reach the server
_FINISH_SECONDS = 120  # to upload what is left; the rest stays on disk for `wandb sync`

Mode = Literal["online", "offline", "off"]


class Tracker(Protocol):
    """Where a run's values are shown while it runs."""

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Take the values of one optimizer step."""

    def show(self, pages: Sequence[Path]) -> None:
        """Take pages and drawings, HTML and SVG files; they are shown under `pages/`."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Take the final values and end; an empty summary marks a run that failed."""


class NullTracker:
    """Takes everything and keeps nothing."""

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Nothing happens."""

    def show(self, pages: Sequence[Path]) -> None:
        """Nothing happens."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Nothing happens."""


class _WandbTracker:
    """Hands values to a W&B run; after the first failure it only says that it failed."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, values: Mapping[str, Any], step: int) -> None:
        if self._run is None:
            return
        try:
            self._run.log(dict(values), step=step)
        except Exception as error:  # whatever the service does, the run goes on
            self._give_up("log", error)

    def show(self, pages: Sequence[Path]) -> None:
        if self._run is None or not pages:
            return
        try:
            import wandb

            self._run.log(
                {
                    f"pages/{path.stem}": wandb.Html(path.read_text(encoding="utf-8"), inject=False)
                    for path in pages
                }
            )
        except Exception as error:
            self._give_up("show a page", error)

    def finish(self, summary: Mapping[str, Any]) -> None:
        if self._run is None:
            return
        try:
            self._run.summary.update(dict(summary))
            self._run.finish(exit_code=0 if summary else 1)
        except Exception as error:
            self._give_up("finish", error)
        self._run = None

    def _give_up(self, what: str, error: Exception) -> None:
        _log.warning("W&B could not %s (%s); the run goes on without it", what, _first_line(error))
        self._run = None


def open_tracker(
    tracking: TrackingConfig,
    run_dir: Path,
    config: Mapping[str, Any],
    name: str,
    group: str,
    tags: Sequence[str],
) -> Tracker:
    """Start tracking a run.

    Args:
        tracking: "auto" is online where there is a login, else offline; without wandb installed it
            is off. The variable WANDB_MODE is heeded under "auto".
        run_dir: W&B's files go to `run_dir/wandb`.
        config: the resolved settings; the seed is among them.
        name: of the run.
        group: runs of one group differ in seed and learning rate only.
        tags: further labels.

    Raises:
        ConfigError: "online" or "offline" was asked for and wandb is not installed, or "online"
            without a login.
    """
    mode = _mode(tracking.wandb)
    if mode == "off":
        return NullTracker()
    import wandb

    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=tracking.project,
            entity=tracking.entity,
            name=name,
            group=group,
            tags=[tag[:TAG_LENGTH] for tag in dict.fromkeys(tags)],
            config=dict(config),
            dir=str(run_dir),
            mode=mode,
            # A run of this process that did not end is not this one's business.
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                save_code=False,
                init_timeout=_INIT_SECONDS,
                finish_timeout=_FINISH_SECONDS,
                finish_timeout_raises=False,
            ),
        )
    except Exception as error:
        _log.warning("W&B could not start (%s); the run goes on without it", _first_line(error))
        return NullTracker()
    return _WandbTracker(run)


def _mode(asked: str) -> Mode:
    if asked == "off":
        return "off"
    installed = importlib.util.find_spec("wandb") is not None
    if asked == "auto":
        wanted = os.environ.get("WANDB_MODE", "")
        if wanted == "disabled" or os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1"):
            return "off"
        if not installed:
            _log.info("wandb is not installed, so nothing is sent to it (tracking.wandb=off)")
            return "off"
        return "online" if wanted != "offline" and logged_in() else "offline"
    if not installed:
        raise ConfigError(
            f"expected wandb for tracking.wandb={asked}, got none installed; run "
            "`pip install wandb`, or set tracking.wandb=off."
        )
    if asked == "online" and not logged_in():
        raise ConfigError(
            "expected a W&B login for tracking.wandb=online, got none; set WANDB_API_KEY, run "
            "`wandb login`, or set tracking.wandb=offline."
        )
    return "online" if asked == "online" else "offline"


def logged_in() -> bool:
    """Whether there is a key for W&B: WANDB_API_KEY, or an entry of its host in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return netrc.netrc(str(path)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
