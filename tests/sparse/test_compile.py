"""torch.compile sees one graph, and training through it changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import sparseft
from tests.sparse.helpers import STRUCTURES, analysed, module_selection, selection_by_hand
from tests.tiny import tiny_batch

# torch's tracer makes an instance of every autograd.Function that it meets, and warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def _losses(model: nn.Module, forward: nn.Module, steps: int = 3) -> list[Tensor]:
    optimizer = sparseft.optim.SparseAdamW(sparseft.trainable(model), lr=1e-2)
    batch = tiny_batch(model, 4, 7, seed=5)
    losses = []
    for _ in range(steps):
        loss = forward(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return losses


@pytest.mark.parametrize(
    ("family", "units"),
    [
        ("bert", ("neuron", "head", "embedding")),
        ("llama", ("block",)),
        ("modernbert", ("element",)),
    ],
)
def test_training_a_compiled_model_equals_training_it(family: str, units: tuple[str, ...]) -> None:
    model, selection = analysed(family, units=units)
    sparseft.sparsify(model, selection)
    other = copy.deepcopy(model)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    expected, found = _losses(model, model), _losses(other, compiled)
    torch.testing.assert_close(found, expected)
    assert expected[-1] < expected[0]
    for (name, weight), (_, same) in zip(
        model.named_parameters(), other.named_parameters(), strict=True
    ):
        torch.testing.assert_close(same, weight, msg=name)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_structure_compiles(structure: str, autocast: bool) -> None:
    model = nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 4))
    chosen = module_selection(model, "0", structure, 0.4, edge=8)
    sparseft.sparsify(model, selection_by_hand(model, [chosen]))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    values = model[0].sparse_values
    x = torch.randn(3, 5, 16)
    gradients = []
    for forward in (model, compiled):
        values.grad = None
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            forward(x).float().square().sum().backward()
        gradients.append(values.grad)
    assert gradients[0] is not None and gradients[0].dtype == torch.float32
    # The traced GELU is a composition, and each of its steps rounds to bfloat16.
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if autocast else {}
    torch.testing.assert_close(gradients[1], gradients[0], **tolerance)


def test_disabling_reaches_compiled_code() -> None:
    model, selection = analysed("bert")
    sparseft.sparsify(model, selection)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    _losses(model, compiled)
    batch = tiny_batch(model, 4, 7, seed=5)
    trained = compiled(**batch).logits
    with sparseft.disabled(model):
        base = compiled(**batch).logits
        torch.testing.assert_close(base, model(**batch).logits)
    torch.testing.assert_close(compiled(**batch).logits, trained)
    assert not torch.allclose(trained, base)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own, about torch.jit and more
def test_the_default_compiler_takes_it_too() -> None:
    model, selection = analysed("bert")
    sparseft.sparsify(model, selection)
    other = copy.deepcopy(model)
    compiled = torch.compile(other, fullgraph=True)
    torch.testing.assert_close(_losses(other, compiled), _losses(model, model))
