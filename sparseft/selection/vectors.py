"""Biases and norms that are trained as a whole beside the selected units.

They cost next to nothing: a gradient is a sum over tokens, and all of them are about 0.1% of a
model (BitFit, Ben Zaken et al. 2022, arXiv 2106.10199). Only those at or above the lowest trained
layer are taken, so the backward pass reaches no deeper and stored outputs of the layers below
stay valid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from sparseft.selection.layout import ModelLayout, layout_of
from sparseft.selection.selection import Selection, VectorSelection

__all__ = ["vectors_from", "with_vectors"]


def vectors_from(
    layout: ModelLayout, lowest_layer: int, *, biases: bool, norms: bool
) -> tuple[VectorSelection, ...]:
    """The vectors at or above a layer, in the model's order.

    Args:
        layout: of the model.
        lowest_layer: the first layer that counts; -1 for the norm of the embeddings too.
        biases: every bias of the layers' linears and of norms.
        norms: weights and biases of norms; the one after the last layer is among them.
    """
    found = []
    for name, module in layout.modules.items():
        if not _above(layout, name, lowest_layer):
            continue
        names = tuple(_trained(module, biases=biases, norms=norms))
        if names:
            size = module._parameters[names[0]].numel()  # type: ignore[union-attr]
            found.append(VectorSelection(name, names, size))
    return tuple(found)


def with_vectors(selection: Selection, model: nn.Module, *, biases: bool, norms: bool) -> Selection:
    """`selection` with the vectors at or above its lowest layer."""
    vectors = vectors_from(layout_of(model), selection.lowest_layer, biases=biases, norms=norms)
    whole = {vector.module for vector in vectors if "bias" in vector.parameters}
    return replace(
        selection,
        # A bias that is trained as a whole is not trained by rows as well.
        modules=tuple(
            replace(module, bias=module.bias and module.module not in whole)
            for module in selection.modules
        ),
        vectors=vectors,
        info={**selection.info, "vectors": {"biases": biases, "norms": norms}},
    )


def _above(layout: ModelLayout, name: str, lowest_layer: int) -> bool:
    start = f"{layout.prefix}." if layout.prefix else ""
    if not name.startswith(start):
        return False
    for layer in layout.layers:
        if name.startswith(f"{layer.module_name}."):
            return layer.index >= lowest_layer
    # Beside the layers: the embeddings' norm, and the last norm of a decoder.
    embeddings = start + layout.embeddings.removeprefix(start).split(".")[0]
    beside = _is_norm(layout.modules[name])
    return beside and (lowest_layer < 0 or not f"{name}.".startswith(f"{embeddings}."))


def _trained(module: nn.Module, *, biases: bool, norms: bool) -> Iterator[str]:
    norm = _is_norm(module)
    for name in ("weight", "bias"):
        parameter = module._parameters.get(name)
        if parameter is None or parameter.dim() != 1:
            continue
        as_bias = biases and name == "bias" and (norm or isinstance(module, nn.Linear))
        if as_bias or (norms and norm):
            yield name


def _is_norm(module: nn.Module) -> bool:
    # LayerNorm, and each decoder family's own RMSNorm class.
    return type(module).__name__.endswith("Norm")
