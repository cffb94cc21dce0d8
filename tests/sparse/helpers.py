"""Selections made by hand, for models and single layers."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

import sparseft
from sparseft.selection import ModuleSelection, Selection
from tests.tiny import tiny, tiny_batch

STRUCTURES = ("rows", "columns", "blocks", "elements")


def module_selection(
    model: nn.Module, name: str, structure: str, share: float, seed: int = 0, edge: int = 1
) -> ModuleSelection:
    """A random `share` of one weight's entries of a structure."""
    module = model.get_submodule(name)
    weight = module.weight
    assert isinstance(weight, Tensor)
    n, k = weight.shape
    limit = {"rows": n, "embedding": n, "columns": k, "elements": n * k}.get(
        structure, (n // edge) * (k // edge)
    )
    chosen = np.random.default_rng(seed).permutation(limit)[: round(share * limit)]
    return ModuleSelection(
        name,
        structure,  # type: ignore[arg-type]
        np.sort(chosen).astype(np.int64),
        (n, k),
        bias=structure == "rows" and getattr(module, "bias", None) is not None,
        edge=edge if structure == "blocks" else 0,
    )


def selection_by_hand(
    model: nn.Module, modules: Sequence[ModuleSelection], head: tuple[str, ...] = ()
) -> Selection:
    """A selection of the given entries; its base hash is the model's own."""
    from sparseft.sparse.fingerprint import base_hash

    total = sum(p.numel() for p in model.parameters())
    return Selection(tuple(modules), (), 1, 0, total, base_hash(model, head), head, ("layer",), {})


def analysed(
    family: str = "bert",
    *,
    density: float = 0.1,
    units: Sequence[str] = ("neuron", "head"),
    depth: float | str = 1.0,
    seed: int = 0,
) -> tuple[nn.Module, Selection]:
    """A tiny plain model and a selection analysed on it."""
    model = tiny(family)
    batches = [tiny_batch(model, 4, 7, seed=seed + s) for s in range(2)]
    selection = sparseft.analyze(
        model,
        batches,
        budget=sparseft.Budget(density=density),
        units=units,
        depth=depth,
        block_edge=8,
    )
    return model, selection


def train(model: nn.Module, steps: int = 3, lr: float = 1e-2, seed: int = 5) -> None:
    """A few steps of SparseAdamW on a fixed batch."""
    optimizer = sparseft.optim.SparseAdamW(sparseft.trainable(model), lr=lr)
    batch = tiny_batch(model, 4, 7, seed=seed)
    model.train()
    for _ in range(steps):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def bits(model: nn.Module, without: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Clones of all plain parameters (compact values left out)."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if "sparse_" not in name and not name.startswith(without or ("\0",))
    }


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two parameter listings are equal bit for bit."""
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )
