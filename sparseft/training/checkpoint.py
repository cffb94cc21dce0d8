"""The state of a run in the middle: enough to go on with the same bits as if never stopped."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from sparseft.errors import CheckpointError, SparseftError
from sparseft.selection import Selection

__all__ = ["FORMAT_VERSION", "CheckpointStore"]

_log = logging.getLogger(__name__)

FORMAT_VERSION = 2


class CheckpointStore:
    """The one checkpoint of a run, in a folder of its own.

    `state.pt` is replaced atomically; it holds tensors and plain values only and is read without
    unpickling code. `selection.json` is written once: a resumed run must not analyse again. (What a
    refresh made of it since is part of the state.)

    Args:
        folder: of the checkpoint.
        config_hash: of the run; a checkpoint of another one is refused.
        commit: of the code; a checkpoint of another one is dropped, since bits could differ.
    """

    def __init__(self, folder: Path, config_hash: str, commit: str) -> None:
        self.folder = folder
        self._config_hash = config_hash
        self._commit = commit

    @property
    def _state(self) -> Path:
        return self.folder / "state.pt"

    @property
    def _selection(self) -> Path:
        return self.folder / "selection.json"

    def save(self, state: dict[str, Any], selection: Selection | None = None) -> None:
        """Write the state; afterwards the older one is gone.

        Raises:
            SparseftError: the folder cannot be written; the older checkpoint stays whole.
        """
        content = {
            **state,
            "format_version": FORMAT_VERSION,
            "config_hash": self._config_hash,
            "commit": self._commit,
            "has_selection": selection is not None,
        }
        temporary: str | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if selection is not None and not self._selection.exists():
                selection.save(self._selection)
            descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=".state.")
            # Streamed to disk: a copy of full finetuning's state in memory could be too much.
            with os.fdopen(descriptor, "wb") as stream:
                torch.save(content, stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, self._state)
        except (OSError, RuntimeError) as error:  # torch.save says RuntimeError on a full disk
            if temporary is not None:
                with suppress(OSError):
                    os.unlink(temporary)
            reason = getattr(error, "strerror", None) or error
            raise SparseftError(
                f"expected to write a checkpoint to {self.folder}, got: {reason}; "
                "free some space or choose another output folder."
            ) from error

    def load(self) -> tuple[dict[str, Any], Selection | None] | None:
        """The saved state and selection; None where there is nothing to resume.

        Raises:
            CheckpointError: it is damaged, or belongs to another configuration or format version.
        """
        if not self._state.exists():
            return None
        remove = f"remove {self.folder} to start again."
        state = self._state
        try:
            content = torch.load(state, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise CheckpointError(
                f"expected a checkpoint in {state}, got a damaged file; {remove}"
            ) from error
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"expected checkpoint format {FORMAT_VERSION} in {state}, got {version}; {remove}"
            )
        if content["config_hash"] != self._config_hash:
            raise CheckpointError(
                f"expected a checkpoint of configuration {self._config_hash[:12]} in {state}, "
                f"got one of {content['config_hash'][:12]}; {remove}"
            )
        if content["commit"] != self._commit:
            _log.warning(
                "the checkpoint in %s was written by commit %s, not %s: starting again",
                self.folder,
                content["commit"][:12],
                self._commit[:12],
            )
            self.remove()
            return None
        return content, Selection.load(self._selection) if content["has_selection"] else None

    def remove(self) -> None:
        """Delete the checkpoint, if there is one."""
        shutil.rmtree(self.folder, ignore_errors=True)
