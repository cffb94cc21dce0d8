"""Units cover what they say, in every family."""

import numpy as np
import pytest
import torch

from sparseft.errors import ModelError, SelectionError
from sparseft.selection import layout_of, unit_groups
from tests.tiny import FAMILIES, HEADS, INTERMEDIATE, LAYERS, tiny


@pytest.mark.parametrize("family", FAMILIES)
def test_layouts_name_every_linear_of_every_layer(family: str) -> None:
    model = tiny(family)
    layout = layout_of(model)
    assert len(layout.layers) == LAYERS
    named = {name for layer in layout.layers for name in layer.linears.values()}
    inside = {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and any(name.startswith(f"{layer.module_name}.") for layer in layout.layers)
    }
    assert named == inside
    assert isinstance(model.get_submodule(layout.embeddings), torch.nn.Embedding)


def test_an_unknown_shape_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="bert, distilbert, modernbert, llama"):
        layout_of(torch.nn.Sequential(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_are_the_numbers_that_units_cover(family: str) -> None:
    model = tiny(family)
    layout = layout_of(model)
    for kinds in (("neuron", "head"), ("row",), ("column",), ("block",), ("element",)):
        for group in unit_groups(layout, kinds, block_edge=8):
            covered = 0
            for piece in group.pieces:
                weight = model.get_submodule(piece.module).weight
                entries = piece.of(torch.arange(group.count))
                assert entries.unique().numel() == entries.numel(), "no entry has two owners"
                each = {
                    "rows": weight.shape[1],
                    "columns": weight.shape[0],
                    "elements": 1,
                    "blocks": 64,
                }[piece.structure]
                bias = piece.structure == "rows" and model.get_submodule(piece.module).bias
                covered += entries.numel() * (
                    each + (1 if bias is not None and bias is not False else 0)
                )
            assert covered == group.count * group.size, (family, group.label)


@pytest.mark.parametrize("family", FAMILIES)
def test_zeroing_a_neuron_or_head_changes_only_its_own_part(family: str) -> None:
    """The pieces of a unit belong together: silence its output columns and its inputs are dead."""
    model = tiny(family)
    layout = layout_of(model)
    for group in unit_groups(layout, ("neuron", "head")):
        out = next(p for p in group.pieces if p.structure == "columns")
        module = model.get_submodule(out.module)
        seen: list[torch.Tensor] = []
        handle = module.register_forward_pre_hook(
            lambda _m, args, seen=seen: seen.append(args[0].detach())
        )
        ids = torch.tensor([[5, 6, 7, 8]])
        mask = torch.ones_like(ids)
        saved = {
            p.module: model.get_submodule(p.module).weight.detach().clone() for p in group.pieces
        }
        with torch.no_grad():
            model.features(ids, mask)
            for piece in group.pieces:
                if piece.structure == "rows":
                    target = model.get_submodule(piece.module)
                    target.weight[piece.of(torch.tensor([0]))] += 0.5
            model.features(ids, mask)
            for name, weight in saved.items():
                model.get_submodule(name).weight.copy_(weight)
        handle.remove()
        moved = (seen[0] != seen[1]).any(dim=1)[0]
        allowed = set(out.of(torch.tensor([0])).tolist())
        assert moved.any() and set(np.flatnonzero(moved.numpy()).tolist()) <= allowed


def test_counts() -> None:
    layout = layout_of(tiny("bert"))
    counts = {(g.kind, g.layer): g.count for g in unit_groups(layout, ("neuron", "head"))}
    assert counts == {
        (kind, layer): count
        for layer in range(LAYERS)
        for kind, count in (("neuron", INTERMEDIATE), ("head", HEADS))
    }


@pytest.mark.parametrize(
    ("kinds", "edge", "message"),
    [
        (("neurone",), 32, "got 'neurone'"),
        ((), 32, "at least one unit kind"),
        (("row", "neuron"), 32, "both claim"),
        (("block",), 7, "divides some weight"),
        (("block",), 0, "at least 1"),
    ],
)
def test_bad_kinds(kinds: tuple[str, ...], edge: int, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        unit_groups(layout_of(tiny("bert")), kinds, block_edge=edge)
