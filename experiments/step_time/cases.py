"""One training method, ready to step: the same forward, clipping and AdamW for every method.

Legend: in a bfloat16 model every trained number has a float32 master. The sparse method's compact
values are such masters themselves; for all others `Update` keeps them beside the weights.
"""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import sparseft
from sparseft.models.classifier import TextClassifier
from sparseft.optim import SparseAdamW
from sparseft.selection import (
    Budget,
    Choice,
    ModuleSelection,
    Selection,
    head_names,
    layout_of,
    unit_groups,
)
from sparseft.selection.budget import lowest_layer_of_depth, solve
from sparseft.selection.cost import step_cost

__all__ = [
    "FALLBACK",
    "METHODS",
    "Case",
    "MethodSpec",
    "MissingPackage",
    "random_selection",
    "release",
]

RANK = 16
DENSITY = 0.05
UNITS = ("neuron", "head")
LEARNING_RATE = 1e-5
CLIP_NORM = 1.0

Kind = Literal["full", "full_no_masters", "lora", "shira", "layers", "sparse"]


@dataclass(frozen=True)
class MethodSpec:
    """What is trained, and from which share of the upper layers."""

    label: str
    kind: Kind
    depth: float = 1.0


METHODS: dict[str, MethodSpec] = {
    "full": MethodSpec("full", "full"),
    "sparse": MethodSpec("sparse 5%, all depths", "sparse"),
    "sparse_upper": MethodSpec("sparse 5%, upper half", "sparse", 0.5),
    "sparse_quarter": MethodSpec("sparse 5%, upper quarter", "sparse", 0.25),
    "lora": MethodSpec("LoRA, all depths", "lora"),
    "lora_upper": MethodSpec("LoRA, upper half", "lora", 0.5),
    "layers_upper": MethodSpec("layers, upper half", "layers", 0.5),
    # Last: their CUDA graphs are the likeliest to fail, and a failed capture ends a process's.
    "shira": MethodSpec("SHiRA, all depths", "shira"),
    "shira_upper": MethodSpec("SHiRA, upper half", "shira", 0.5),
}
# Only where `full` does not fit: what full finetuning with the least memory would be.
FALLBACK = "full_no_masters"
_FALLBACK = MethodSpec("full, bfloat16 states, no masters", "full_no_masters")


class MissingPackage(Exception):
    """A method's package is not installed; the message says how to install it."""


def spec_of(name: str) -> MethodSpec:
    """The method called `name`, the fallback included."""
    return _FALLBACK if name == FALLBACK else METHODS[name]


class Update:
    """Clipping to norm 1 and AdamW, as they follow a backward pass.

    Parameters in bfloat16 get float32 masters (`masters=True`): one foreach copy widens their
    gradients, the clipping and the fused AdamW work on float32, one foreach copy writes the
    weights back. Without masters, AdamW and its moments are in the parameters' own precision.
    The sparse method's optimizer clips by itself, with the coefficient on the device.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], *, sparse: bool, masters: bool = True
    ) -> None:
        self._narrow = [p for p in parameters if masters and p.dtype != torch.float32]
        self._masters = [nn.Parameter(p.detach().float()) for p in self._narrow]
        narrow = set(map(id, self._narrow))
        self._trained = [*self._masters, *(p for p in parameters if id(p) not in narrow)]
        self._clip = not sparse
        options: dict[str, Any] = {
            "lr": LEARNING_RATE,
            "weight_decay": 0.0,
            "fused": True,
            # Step counts on the device, as a CUDA graph needs them.
            "capturable": parameters[0].device.type == "cuda",
        }
        self.optimizer: torch.optim.Optimizer
        if sparse:
            self.optimizer = SparseAdamW(self._trained, **options, max_grad_norm=CLIP_NORM)
        else:
            self.optimizer = torch.optim.AdamW(self._trained, **options)

    def __call__(self) -> None:
        """Use up the gradients."""
        pairs = [
            (weight, master)
            for weight, master in zip(self._narrow, self._masters, strict=True)
            if weight.grad is not None
        ]
        if pairs:
            for _, master in pairs:
                master.grad = torch.empty_like(master)
            torch._foreach_copy_([m.grad for _, m in pairs], [w.grad for w, _ in pairs])
            for weight, _ in pairs:
                weight.grad = None
        if self._clip:
            nn.utils.clip_grad_norm_(self._trained, CLIP_NORM, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if pairs:
            with torch.no_grad():
                torch._foreach_copy_([w for w, _ in pairs], [m.detach() for _, m in pairs])

    def state_bytes(self) -> int:
        """The bytes of the masters and of the optimizer's moments."""
        state = [
            value
            for values in self.optimizer.state.values()
            for value in values.values()
            if isinstance(value, Tensor)
        ]
        return sum(t.numel() * t.element_size() for t in [*self._masters, *state])


class Case:
    """A model prepared for one method, with its optimizer.

    Args:
        name: of METHODS, or FALLBACK.
        model: a plain classifier on its device; changed.
        batches: input_ids, attention_mask [B, T] and labels [B]; step i takes batch i, round and
            round.
        seed: of LoRA's factors, SHiRA's places and a random selection.
        analyse: choose the sparse method's units by `sparseft.analyze` on the first four batches;
            else at random, in the same structure (see `random_selection`).

    Raises:
        MissingPackage: the method needs PEFT, which is not installed.
    """

    def __init__(
        self,
        name: str,
        model: TextClassifier,
        batches: Sequence[Mapping[str, Tensor]],
        *,
        seed: int = 0,
        analyse: bool = True,
    ) -> None:
        self.name, self.model, self.batches = name, model, batches
        self.total = sum(p.numel() for p in model.parameters())
        spec = spec_of(name)
        self.selection: Selection | None = None
        if spec.kind == "sparse":
            self.selection = _select(model, batches[:4], spec.depth, seed, analyse)
            sparseft.sparsify(model, self.selection, verify_base=False)
        elif spec.kind in ("lora", "shira"):
            _adapt(model, spec, seed)
        elif spec.kind == "layers":
            _only_upper_layers(model, spec.depth)
        else:
            model.requires_grad_(True)
        model.train()
        trained = [p for p in model.parameters() if p.requires_grad]
        self.trained = sum(p.numel() for p in trained)
        self.update = Update(
            trained, sparse=spec.kind == "sparse", masters=spec.kind != "full_no_masters"
        )

    def batch(self, index: int) -> Mapping[str, Tensor]:
        """The batch of step `index`."""
        return self.batches[index % len(self.batches)]

    def step(self, index: int = 0) -> None:
        """Forward, backward, clipping and update; the device may still be at work after."""
        self.model(**self.batch(index)).loss.backward()
        self.update()

    def facts(self) -> dict[str, Any]:
        """What is trained, as plain data."""
        selection = self.selection
        return {
            "trained_parameters": self.trained,
            "total_parameters": self.total,
            "density": None if selection is None else selection.density,
            "lowest_layer": None if selection is None else selection.lowest_layer,
            "predicted_ratio": (
                None if selection is None else selection.info["predicted_step_share"]
            ),
        }


def release(device: torch.device) -> None:
    """Give back what dropped cases held; call after the last reference is gone."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


# --- methods


def _only_upper_layers(model: TextClassifier, depth: float) -> None:
    layers = layout_of(model.backbone).layers
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    for layer in layers[lowest_layer_of_depth(depth, len(layers)) :]:
        model.backbone.get_submodule(layer.module_name).requires_grad_(True)


def _adapt(model: TextClassifier, spec: MethodSpec, seed: int) -> None:
    """PEFT's LoRA (alpha 2r, no dropout) or SHiRA, on all linears of the upper layers.

    The adapters take the precision of the backbone, so that no product is computed in float32;
    their masters are in `Update`, as everybody's.
    """
    if importlib.util.find_spec("peft") is None:
        raise MissingPackage("PEFT is not installed: pip install 'peft>=0.18'")
    from peft import LoraConfig, ShiraConfig

    from sparseft.methods.adapters import linear_names, wrap

    targets = linear_names(model, spec.depth)
    dtype = next(model.backbone.parameters()).dtype
    config: Any
    if spec.kind == "lora":
        config = LoraConfig(r=RANK, lora_alpha=2.0 * RANK, lora_dropout=0.0, target_modules=targets)
    else:
        config = ShiraConfig(r=RANK, target_modules=targets)
        config.mask_fn = _places(seed)
        _leave_sparse_tensors_unchecked()
    wrap(model, config, seed)
    for parameter in model.backbone.parameters():
        parameter.data = parameter.data.to(dtype)


def _places(seed: int) -> Any:
    """SHiRA's mask, r (m + n) random places, drawn where the weight is: seconds, not minutes."""
    generators: dict[torch.device, torch.Generator] = {}

    def mask(linear: nn.Linear, r: int, **_: object) -> Tensor:
        device = linear.weight.device
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(seed)
        rows, columns = linear.weight.shape
        chosen = torch.randperm(rows * columns, generator=generators[device], device=device)
        places = torch.zeros(rows * columns, dtype=torch.bool, device=device)
        places[chosen[: r * (rows + columns)]] = True
        return places.view(rows, columns)

    return mask


def _leave_sparse_tensors_unchecked() -> None:
    # PEFT's SHiRA builds a sparse tensor in every forward. Checks of its indices are off by
    # default, but torch warns until somebody has said so.
    checks = torch.sparse.check_sparse_tensor_invariants
    if not checks.is_enabled():
        checks.disable()


# --- the sparse method's selection


def _select(
    model: TextClassifier,
    batches: Sequence[Mapping[str, Tensor]],
    depth: float,
    seed: int,
    analyse: bool,
) -> Selection:
    if analyse:
        return sparseft.analyze(
            model, batches, budget=Budget(density=DENSITY), units=UNITS, depth=depth, seed=seed
        )
    length = batches[0]["input_ids"].shape[1]
    return random_selection(model, DENSITY, depth, length=length, seed=seed)


def random_selection(
    model: nn.Module, density: float, depth: float, *, length: int, seed: int
) -> Selection:
    """Random neurons and heads of the upper layers: what `analyze` chooses, but for which ones.

    A token-driven choice leaves whole layers out; this one spreads over all that may be trained,
    the most launches that its structure and density can have. Nothing is read from the weights, so
    an 8B model costs no more than a small one; the base is not hashed.

    Args:
        model: a plain model of a known family.
        density: share of the backbone's parameters that is trained.
        depth: share of the upper layers that may be trained.
        length: tokens of a text, for the predicted step time.
        seed: of the choice.
    """
    layout = layout_of(model)
    heads = head_names(model)
    lowest = lowest_layer_of_depth(depth, len(layout.layers))
    groups = [group for group in unit_groups(layout, UNITS) if group.layer >= lowest]
    random = np.random.default_rng(seed)
    parameters = sum(p.numel() for n, p in model.named_parameters() if n.split(".")[0] not in heads)
    packing = solve(
        groups,
        # By size, as sensitivities are: else only the smallest kind of unit would be chosen.
        [group.size * random.random(group.count) for group in groups],
        Budget(density=density),
        backbone_parameters=parameters,
        cost=step_cost(layout, length),
        lowest_layers=[lowest],
    )
    taken = [(g, units) for g, units in zip(groups, packing.chosen, strict=True) if units.size]
    return Selection(
        modules=tuple(
            _entries(layout.linear(piece.module), piece, units)
            for group, units in taken
            for piece in group.pieces
        ),
        choices=tuple(
            Choice(group.kind, group.layer, group.label, units, np.ones(units.size))
            for group, units in taken
        ),
        num_layers=len(layout.layers),
        lowest_layer=min(group.layer for group, _ in taken),
        backbone_parameters=parameters,
        base_hash="",
        head=heads,
        layer_names=tuple(layer.module_name for layer in layout.layers),
        info={"predicted_step_share": round(packing.step_share, 6), "control": "random"},
    )


def _entries(linear: nn.Linear, piece: Any, units: np.ndarray) -> ModuleSelection:
    rows, columns = linear.weight.shape
    return ModuleSelection(
        module=piece.module,
        structure=piece.structure,
        index=piece.of(torch.from_numpy(units)).numpy(),
        shape=(rows, columns),
        bias=piece.structure == "rows" and linear.bias is not None,
    )


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """The bytes of the tensors' values."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
