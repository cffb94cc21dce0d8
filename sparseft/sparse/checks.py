"""Whether a selection fits a model; asked before anything is changed."""

from __future__ import annotations

import torch
from torch import nn

from sparseft.errors import SelectionError
from sparseft.selection.selection import ModuleSelection, Selection, VectorSelection

__all__ = ["check_module", "check_vector", "tied"]


def check_module(modules: dict[str, nn.Module], selected: ModuleSelection) -> None:
    """Refuse a module of which these entries cannot be trained.

    Raises:
        SelectionError: it is missing, of another class or shape, or tied in a way that forbids it.
    """
    module = modules.get(selected.module)
    expected: type[nn.Module] = nn.Embedding if selected.structure == "embedding" else nn.Linear
    if module is None:
        raise SelectionError(
            f"expected a module {selected.module!r} in the model, got none of that name; "
            "the selection belongs to another model."
        )
    if type(module) is not expected:
        raise SelectionError(
            f"expected torch.nn.{expected.__name__} at {selected.module!r}, got "
            f"{type(module).__name__}; quantised or adapted layers cannot be trained sparsely."
        )
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    if tuple(weight.shape) != selected.shape:
        raise SelectionError(
            f"expected {selected.module}.weight of shape {selected.shape}, got "
            f"{tuple(weight.shape)}; the selection belongs to another model."
        )
    if selected.bias and module.bias is None:
        raise SelectionError(
            f"expected a bias at {selected.module!r}, got none; "
            "the selection belongs to another model."
        )
    if isinstance(module, nn.Embedding) and (
        module.max_norm is not None or module.scale_grad_by_freq or module.sparse
    ):
        raise SelectionError(
            f"expected a plain embedding at {selected.module!r}, got one with max_norm, "
            "scale_grad_by_freq or sparse gradients; switch them off."
        )

    for name, other in tied(modules, selected.module):
        if isinstance(other, nn.Embedding) and selected.structure not in ("rows", "embedding"):
            raise SelectionError(
                f"expected rows of {selected.module!r}, which is tied to the embedding {name!r}, "
                f"got {selected.structure}; select embedding rows, or untie the weights."
            )


def check_vector(
    modules: dict[str, nn.Module], vector: VectorSelection, selection: Selection
) -> None:
    """Refuse vectors that the model has not, or that the selection's modules train already.

    Raises:
        SelectionError: it does not fit.
    """
    module = modules.get(vector.module)
    for name in vector.parameters:
        parameter = None if module is None else module._parameters.get(name)
        if parameter is None or tuple(parameter.shape) != (vector.size,):
            found = None if parameter is None else tuple(parameter.shape)
            raise SelectionError(
                f"expected a vector {vector.module}.{name} of {vector.size}, got "
                f"{found}; the selection belongs to another model."
            )
    selected = [s for s in selection.modules if s.module == vector.module]
    if any(s.bias for s in selected) or (selected and vector.parameters != ("bias",)):
        raise SelectionError(
            f"expected the bias of {vector.module!r} to be selected once, got it by rows and "
            "whole; the selection is damaged."
        )
    users = {name for name, _ in tied(modules, vector.module)}
    if not selected and users & {s.module for s in selection.modules}:
        raise SelectionError(
            f"expected the bias of a weight of its own, got that of {vector.module!r}, which is "
            "tied to a selected one; leave it out."
        )


def tied(modules: dict[str, nn.Module], name: str) -> list[tuple[str, nn.Module]]:
    """The other modules that use the same weight."""
    weight = modules[name].weight
    return [
        (other_name, other)
        for other_name, other in modules.items()
        if other_name != name and getattr(other, "weight", None) is weight
    ]
