"""Deltas: the trained values of a selection, and the head, as a folder.

    delta.safetensors   compact values (fp32), int32 indices, head parameters
    selection.json      the selection, readable
    config.json         format version, base hash, hashes of the files, facts for loading
    README.md           a model card

Where tokens were added, delta.safetensors holds their embedding rows, too, and a file of the
writer's (tokens.json) says what they are.

Values replace the base's entries (they are no differences), so loading is exact. Everything is
checked before the model is touched.
"""

from __future__ import annotations

import hashlib
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
from sparseft.sparse.added import (
    AddedRows,
    add_rows,
    added_rows,
    base_tables,
    from_tensors,
    grown_tables,
    has_added,
    to_tensors,
)
from sparseft.sparse.apply import (
    disabled,
    plain_names,
    selection_of,
    selection_or_none,
    sparse_modules,
    sparsify,
    sync,
    unload,
    vector_values,
)
from sparseft.sparse.card import model_card
from sparseft.sparse.fingerprint import base_hash

__all__ = ["Delta", "load_delta", "read_delta", "save_delta", "swap"]

FORMAT = "sparseft.delta"
# 1: no vectors; what has none is still of that version.
VERSION = 2
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

    @property
    def added(self) -> AddedRows | None:
        """The embedding rows of tokens that the pretrained model lacks; None where it lacks none.

        Raises:
            DeltaError: they are damaged.
        """
        return from_tensors(self.tensors)


def save_delta(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    extra: Mapping[str, Any] | None = None,
    beside: Mapping[str, str] | None = None,
) -> Path:
    """Write the model's delta to a folder, atomically; an older one there is replaced.

    Args:
        model: after `sparsify` or `load_delta`.
        extra: JSON-serialisable facts to keep (label names, how to load the base, scores).
        beside: text files to keep with it, by name; they are checked when the delta is read.

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
        if selected.bias and module.sparse_bias is not None:
            tensors[f"{name}.bias_values"] = module.sparse_bias.detach().to("cpu").contiguous()
    for name, values in vector_values(model, selection).items():
        tensors[f"{name}.vector"] = values.detach().to("cpu").contiguous()
    for name, parameter in _head(model, selection).items():
        tensors[name] = parameter.detach().to("cpu").contiguous()
    added: AddedRows | None = None
    if has_added(model):
        with disabled(model):
            added = added_rows(model)
    tensors.update(to_tensors(added))
    # One entry: safetensors writes several in any order, and equal deltas give equal files.
    content = dump_tensors(tensors, {"format": f"{FORMAT}.{VERSION}"})
    with files.directory(path) as folder:
        files.write_bytes(folder / "delta.safetensors", content)
        selection.save(folder / "selection.json")
        config = {
            "format": FORMAT,
            "version": VERSION if selection.vectors else 1,
            "base_hash": selection.base_hash,
            "base_class": type(model).__name__,
            "tensors_sha256": files.sha256_of(folder / "delta.safetensors"),
            "trained": selection.trained,
            "density": selection.density,
            "extra": dict(extra or {}),
        }
        if added is not None:
            config["added_tokens"] = len(added.ids)
        for name, text in (beside or {}).items():
            files.write_text(folder / name, text)
        if beside:
            config["beside"] = {n: _sha256(text.encode()) for n, text in beside.items()}
        files.write_json(folder / "config.json", config)
        files.write_text(folder / "README.md", model_card(selection, config, len(content)))
    return Path(path)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


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
    if found not in ((FORMAT, 1), (FORMAT, VERSION)):
        raise DeltaError(
            f"expected {FORMAT} version 1 or {VERSION} in {folder}, got {found}; "
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
        _check_beside(folder, config.get("beside", {}))
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


def _check_beside(folder: Path, hashes: Any) -> None:
    named = isinstance(hashes, Mapping) and all(Path(name).name == name for name in hashes)
    if not named:
        raise DeltaError(
            f"expected names of files in {folder / 'config.json'} under beside, got {hashes!r}; "
            "the file is damaged, copy the delta again."
        )
    for name, digest in hashes.items():
        file = folder / name
        if not file.is_file() or files.sha256_of(file) != digest:
            raise DeltaError(
                f"expected {file} with SHA-256 {str(digest)[:12]}…, got "
                f"{'another content' if file.is_file() else 'none'}; copy the delta again."
            )


def _check(model: nn.Module, delta: Delta, base: str) -> None:
    """Everything that could go wrong while applying, before anything is applied."""
    selection = delta.selection
    if base != delta.config["base_hash"] or base != selection.base_hash:
        raise DeltaError(
            f"expected the base model with hash {selection.base_hash[:12]}…, got {base[:12]}…; "
            "load the base model (and dtype) that the delta was trained on."
        )
    shapes = {n: tuple(p.shape) for n, p in _head(model, selection).items()}
    # `base` is a hash with the added rows, so these fit.
    shapes.update({n: tuple(t.shape) for n, t in to_tensors(delta.added).items()})
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
    for vector in selection.vectors:
        for name in vector.parameters:
            shapes[f"{vector.module}.{name}.vector"] = (vector.size,)
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
    tables = {} if delta.added is None else grown_tables(model, delta.added)
    _check(model, delta, base_hash(model, delta.selection.head, tables))
    return _apply(model, delta)


def swap(model: Model, path: str | os.PathLike[str] | Delta) -> Model:
    """Exchange the delta that a model carries for another of the same base, bit for bit.

    Raises:
        DeltaError: as `load_delta`; the model then still carries its old delta.
    """
    delta = path if isinstance(path, Delta) else read_delta(path)
    _check(model, delta, _hash_below(model, delta))
    return _apply(unload(model), delta)


def _hash_below(model: nn.Module, delta: Delta) -> str:
    """What `base_hash` would be without the delta that the model carries, with `delta`'s rows."""
    if delta.added is None and not has_added(model, of_delta=True):
        return selection_of(model).base_hash
    with disabled(model):
        tables = base_tables(model) if delta.added is None else grown_tables(model, delta.added)
        return base_hash(model, delta.selection.head, tables, plain_names(model))


@torch.no_grad()
def _apply(model: Model, delta: Delta) -> Model:
    if delta.added is not None:
        add_rows(model, delta.added)
    sparsify(model, delta.selection, verify_base=False)
    modules = sparse_modules(model)
    for selected in delta.selection.modules:
        module = modules[selected.module]
        module.sparse_values.copy_(delta.tensors[f"{selected.module}.values"])
        if selected.bias and module.sparse_bias is not None:
            module.sparse_bias.copy_(delta.tensors[f"{selected.module}.bias_values"])
    for name, values in vector_values(model, delta.selection).items():
        values.copy_(delta.tensors[f"{name}.vector"])
    for name, parameter in _head(model, delta.selection).items():
        parameter.copy_(delta.tensors[name])
    sync(model)
    return model
