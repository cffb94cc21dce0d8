"""Deltas: the trained values of a selection, and the head, as a folder.

    delta.safetensors   compact values (fp32), int32 indices, head parameters
    selection.json      the selection, readable
    config.json         format version, base hash, hash of the tensors, facts for loading
    README.md           a model card

Values replace the base's entries (they are no differences), so loading is exact. Everything is
checked before the model is touched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor, nn

from sparseft import files
from sparseft.errors import DeltaError, SelectionError
from sparseft.selection.selection import Selection
from sparseft.sparse.apply import (
    selection_of,
    selection_or_none,
    sparse_modules,
    sparsify,
    sync,
    unload,
)
from sparseft.sparse.card import model_card
from sparseft.sparse.fingerprint import base_hash

__all__ = ["Delta", "load_delta", "read_delta", "save_delta", "swap"]

FORMAT = "sparseft.delta"
VERSION = 1
_INT32_MAX = 2**31 - 1

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Delta:
    """A delta in memory: tensors by name, its selection, and `config.json`."""

    tensors: Mapping[str, Tensor]
    selection: Selection
    config: Mapping[str, Any]

    @property
    def extra(self) -> Mapping[str, Any]:
        """What the writer added: label names, the base model's configuration, and so on."""
        extra: Mapping[str, Any] = self.config.get("extra", {})
        return extra


def save_delta(
    model: nn.Module, path: str | os.PathLike[str], *, extra: Mapping[str, Any] | None = None
) -> Path:
    """Write the model's delta to a folder, atomically; an older one there is replaced.

    Args:
        model: after `sparsify` or `load_delta`.
        extra: JSON-serialisable facts to keep (label names, how to load the base, scores).

    Raises:
        SelectionError: the model carries no selection.
        SparseftError: the folder cannot be written; nothing half-written stays.
    """
    selection = selection_of(model)
    sync(model)
    tensors: dict[str, Tensor] = {}
    modules = sparse_modules(model)
    for selected in selection.modules:
        module, name = modules[selected.module], selected.module
        index = module.sparse_plan.index
        wide = index.numel() > 0 and int(index[-1]) > _INT32_MAX
        tensors[f"{name}.index"] = index.to("cpu", torch.int64 if wide else torch.int32)
        tensors[f"{name}.values"] = module.sparse_values.detach().to("cpu").contiguous()
        if module.sparse_bias is not None:
            tensors[f"{name}.bias_values"] = module.sparse_bias.detach().to("cpu").contiguous()
    for name, parameter in _head(model, selection).items():
        tensors[name] = parameter.detach().to("cpu").contiguous()
    # One entry: safetensors writes several in any order, and equal deltas give equal files.
    content = dump_tensors(tensors, {"format": f"{FORMAT}.{VERSION}"})
    with files.directory(path) as folder:
        files.write_bytes(folder / "delta.safetensors", content)
        selection.save(folder / "selection.json")
        config = {
            "format": FORMAT,
            "version": VERSION,
            "base_hash": selection.base_hash,
            "base_class": type(model).__name__,
            "tensors_sha256": files.sha256_of(folder / "delta.safetensors"),
            "trained": selection.trained,
            "density": selection.density,
            "extra": dict(extra or {}),
        }
        files.write_json(folder / "config.json", config)
        files.write_text(folder / "README.md", model_card(selection, config, len(content)))
    return Path(path)


def _head(model: nn.Module, selection: Selection) -> dict[str, nn.Parameter]:
    return {n: p for n, p in model.named_parameters() if n.split(".")[0] in selection.head}


def read_delta(path: str | os.PathLike[str]) -> Delta:
    """Read and check a delta folder, without any model.

    Raises:
        DeltaError: a file is missing, truncated or changed, or of another format version.
    """
    folder = Path(path)
    config = files.read_json(folder / "config.json", DeltaError)
    found = (config.get("format"), config.get("version")) if isinstance(config, dict) else None
    if found != (FORMAT, VERSION):
        raise DeltaError(
            f"expected {FORMAT} version {VERSION} in {folder}, got {found}; "
            "save the delta again with this release."
        )
    tensor_file = folder / "delta.safetensors"
    try:
        digest = files.sha256_of(tensor_file)
        if digest != config.get("tensors_sha256"):
            raise DeltaError(
                f"expected {tensor_file} with SHA-256 {str(config.get('tensors_sha256'))[:12]}…, "
                f"got {digest[:12]}…; the file is truncated or was changed, copy it again."
            )
        tensors = load_tensors(tensor_file.read_bytes())
    except OSError as error:
        raise DeltaError(
            f"expected a readable {tensor_file}, got: {error.strerror}; copy the delta again."
        ) from error
    except SafetensorError as error:
        raise DeltaError(
            f"expected safetensors in {tensor_file}, got: {error}; copy the delta again."
        ) from error
    try:
        selection = Selection.load(folder / "selection.json")
    except SelectionError as error:
        raise DeltaError(f"expected a selection in {folder}, got: {error}") from error
    return Delta(tensors, selection, config)


def _check(model: nn.Module, delta: Delta, base: str) -> None:
    """Everything that could go wrong while applying, before anything is applied."""
    selection = delta.selection
    if base != delta.config["base_hash"] or base != selection.base_hash:
        raise DeltaError(
            f"expected the base model with hash {selection.base_hash[:12]}…, got {base[:12]}…; "
            "load the base model (and dtype) that the delta was trained on."
        )
    shapes = {n: tuple(p.shape) for n, p in _head(model, selection).items()}
    for selected in selection.modules:
        n, k = selected.shape
        m = int(selected.index.size)
        each = {"rows": (m, k), "embedding": (m, k), "columns": (n, m), "elements": (m,)}
        shapes[f"{selected.module}.values"] = each.get(
            selected.structure, (m, selected.edge, selected.edge)
        )
        shapes[f"{selected.module}.index"] = (m,)
        if selected.bias:
            shapes[f"{selected.module}.bias_values"] = (m,)
        stored = delta.tensors.get(f"{selected.module}.index")
        if stored is None or stored.tolist() != selected.index.tolist():
            raise DeltaError(
                f"expected the indices of {selected.module} to match selection.json, got others; "
                "the delta is damaged, copy it again."
            )
    found = {name: tuple(tensor.shape) for name, tensor in delta.tensors.items()}
    if found != shapes:
        name = min(set(found.items()) ^ set(shapes.items()))[0]
        raise DeltaError(
            f"expected {name} of shape {shapes.get(name)}, got {found.get(name)}; "
            "the model's head or layers differ from those the delta was trained with."
        )


def load_delta(model: Model, path: str | os.PathLike[str] | Delta) -> Model:
    """Apply a saved delta to its base model, in place; it can be trained on from there.

    Args:
        model: the plain base with a head of the right shape; changed and returned.
        path: the delta's folder, or what `read_delta` returned.

    Raises:
        DeltaError: damaged, another format version, another base, other shapes; the model is
            then unchanged.
        SelectionError: the model already carries a selection (see `swap`).
    """
    delta = path if isinstance(path, Delta) else read_delta(path)
    if selection_or_none(model) is not None:
        raise SelectionError(
            "expected a plain model, got one that already carries a delta; "
            "call sparseft.swap, or sparseft.unload first."
        )
    _check(model, delta, base_hash(model, delta.selection.head))
    return _apply(model, delta)


def swap(model: Model, path: str | os.PathLike[str] | Delta) -> Model:
    """Exchange the delta that a model carries for another of the same base, bit for bit.

    Raises:
        DeltaError: as `load_delta`; the model then still carries its old delta.
    """
    delta = path if isinstance(path, Delta) else read_delta(path)
    _check(model, delta, selection_of(model).base_hash)
    return _apply(unload(model), delta)


@torch.no_grad()
def _apply(model: Model, delta: Delta) -> Model:
    sparsify(model, delta.selection, verify_base=False)
    modules = sparse_modules(model)
    for selected in delta.selection.modules:
        module = modules[selected.module]
        module.sparse_values.copy_(delta.tensors[f"{selected.module}.values"])
        if module.sparse_bias is not None:
            module.sparse_bias.copy_(delta.tensors[f"{selected.module}.bias_values"])
    for name, parameter in _head(model, delta.selection).items():
        parameter.copy_(delta.tensors[name])
    sync(model)
    return model
