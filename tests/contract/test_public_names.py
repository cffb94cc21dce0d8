"""The names and parameters that other people's code is written against.

A failure here is a breaking change: take it back, or say so in CHANGELOG.md and change this file.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import sparseft

_CORE = {
    "Budget": "density=None, step_time=None",
    "Selection": "modules, choices, num_layers, lowest_layer, backbone_parameters, base_hash, head,"
    " layer_names, info=<factory>, vectors=()",
    "analyze": "model, batches, *, budget, units=('neuron', 'head'), saliency='gradient_x_input',"
    " score='fisher', allocation='score', control='none', depth='auto', depth_rule=None, cost=None,"
    " prefix_cache=False, block_edge=32, head=None, seed=0, loss_fn=loss_of, constructs=None,"
    " info=None",
    "disabled": "model",
    "load_delta": "model, path",
    "merge": "model",
    "read_delta": "path",
    "save_delta": "model, path, *, extra=None, beside=None",
    "sparsify": "model, selection, *, verify_base=True",
    "swap": "model, path",
    "sync": "model",
    "token_saliency": "model, batch, method='gradient_x_input', *, target='label', constructs=None,"
    " steps=16, baseline='pad', pooling='auto', loss_fn=None",
    "trainable": "model",
    "unload": "model",
}
# torch's own signatures may grow; these are the parameters that ours promise.
_OPTIMIZERS = {
    "SparseAdamW": ["params", "lr", "betas", "eps", "weight_decay"],
    "SparseSGD": ["params", "lr", "momentum", "dampening", "weight_decay", "nesterov"],
}


def _parameters(function: Any) -> str:
    """The parameters as they are written, without annotations."""
    written: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in written:
            written.append("*")
        default = parameter.default
        shown = getattr(default, "__name__", repr(default))
        is_required = default is parameter.empty
        written.append(parameter.name if is_required else f"{parameter.name}={shown}")
    return ", ".join(written)


def test_the_core_has_these_names() -> None:
    assert sorted(sparseft.__all__) == sorted([*_CORE, "optim"])
    assert set(sparseft.__all__) <= set(dir(sparseft))


@pytest.mark.parametrize("name", sorted(_CORE))
def test_a_name_of_the_core_has_these_parameters(name: str) -> None:
    assert _parameters(getattr(sparseft, name)) == _CORE[name]


def test_the_optimizers_have_these_names() -> None:
    assert sorted(sparseft.optim.__all__) == sorted(_OPTIMIZERS)


@pytest.mark.parametrize("name", sorted(_OPTIMIZERS))
def test_an_optimizer_is_one_of_torch_with_these_parameters(name: str) -> None:
    optimizer = getattr(sparseft.optim, name)
    assert issubclass(optimizer, torch.optim.Optimizer)
    found = list(inspect.signature(optimizer).parameters)
    assert found[: len(_OPTIMIZERS[name])] == _OPTIMIZERS[name]


@pytest.mark.parametrize("name", [*_CORE, *(f"optim.{name}" for name in _OPTIMIZERS)])
def test_a_public_name_says_what_it_is(name: str) -> None:
    found: Any = sparseft
    for part in name.split("."):
        found = getattr(found, part)
    assert inspect.getdoc(found)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = sparseft.nothing_of_ours  # type: ignore[attr-defined]


def test_the_version_is_that_of_the_distribution() -> None:
    project = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^version = "(.+)"$', project, re.MULTILINE)[1] == sparseft.__version__
