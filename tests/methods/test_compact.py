"""The sparse methods' options beside the selection: vectors within the density, rates by width."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparseft.errors import ConfigError
from sparseft.methods import Prepared
from sparseft.methods.width import width_factor
from sparseft.sparse.refresh import RefreshOptions
from tests.methods.common import layer_modules, layers_with_a_graph, prepare, train
from tests.tiny import tiny

_OPTIONS = {"density": 0.2, "batches": 1, "folds": 0}


def _sparse(family: str = "bert", name: str = "sparse", **options: Any) -> Prepared:
    return prepare(tiny(family), name, **{**_OPTIONS, **options})


@pytest.mark.parametrize(
    ("density", "power", "expected"),
    [
        (0.05, 0.5, 1.0),
        (0.2, 0.5, 0.5),
        (0.2, 1.0, 0.25),
        (0.0125, 0.5, 2.0),
        (0.9, 1.0, 0.25),  # clipped from 0.056
        (0.0001, 1.0, 4.0),  # and from 500
        (0.0001, 0.0, 1.0),
    ],
)
def test_the_rate_falls_with_the_density(density: float, power: float, expected: float) -> None:
    assert width_factor(density, power, 0.05) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lr_by_width": 1.5}, r"method\.lr_by_width"),
        ({"lr_by_width": -0.5}, r"method\.lr_by_width"),
        ({"lr_by_width": True}, r"method\.lr_by_width"),
        ({"lr_by_width": 0.5, "reference_density": 0.0}, r"method\.reference_density"),
        ({"biases": "yes"}, r"method\.biases"),
        ({"norms": 1}, r"method\.norms"),
        ({"refresh": [1]}, r"method\.refresh to be null or a mapping"),
        ({"refresh": {"share": 0}}, r"refresh\.share"),
    ],
)
def test_options_out_of_range_are_refused_before_the_model_changes(
    options: dict[str, Any], match: str
) -> None:
    model = tiny("bert")
    with pytest.raises(ConfigError, match=match):
        prepare(model, "sparse", **{**_OPTIONS, **options})
    assert all(weight.requires_grad for weight in model.parameters())


def test_the_options_reach_the_loop() -> None:
    plain = _sparse()
    assert plain.lr_factor == 1.0 and plain.refresh is None
    prepared = _sparse(lr_by_width=0.5, reference_density=0.05, refresh={"every": 2})
    assert prepared.lr_factor == pytest.approx(0.5)
    assert prepared.refresh == RefreshOptions(every=2)
    by_time = _sparse(density=None, step_time=0.9, lr_by_width=0.5)
    assert by_time.selection is not None
    expected = width_factor(by_time.selection.density, 0.5, 0.05)
    assert by_time.lr_factor == pytest.approx(expected) and by_time.lr_factor < 1


@pytest.mark.parametrize("name", ["sparse", "sparse_random", "sparse_magnitude"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_vectors_are_trained_within_the_density(name: str, family: str) -> None:
    units_alone = _sparse(family, name).selection
    prepared = _sparse(family, name, biases=True, norms=True)
    selection = prepared.selection
    assert units_alone is not None and selection is not None and selection.vectors
    assert 0.15 < selection.density <= 0.2
    assert sum(m.weights for m in selection.modules) < sum(m.weights for m in units_alone.modules)
    assert sum(p.numel() for p in prepared.body) == selection.trained
    assert selection.info["vectors"] == {"biases": True, "norms": True}
    assert prepared.notes == {"vectors": sum(vector.trained for vector in selection.vectors)}
    losses = train(prepared, steps=2)
    assert losses[-1] < losses[0]


def test_backward_reaches_no_deeper_for_vectors() -> None:
    reached = []
    for vectors in (False, True):
        prepared = _sparse(biases=vectors, norms=vectors)
        reached.append(layers_with_a_graph(prepared.model, layer_modules(prepared.model)))
    assert reached[0] == reached[1] == [1, 2]


def test_a_density_that_the_vectors_exceed_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.density above 0\.0\d+, which the biases"):
        _sparse(density=0.01, biases=True, norms=True)
    assert _sparse(density=0.06, biases=True, norms=True, units=["row"]).selection is not None


def test_without_vectors_nothing_is_reserved() -> None:
    first, second = _sparse(), _sparse(biases=False, norms=False)
    assert first.selection is not None and second.selection is not None
    assert first.selection.to_dict()["modules"] == second.selection.to_dict()["modules"]
    assert all(torch.equal(a, b) for a, b in zip(first.body, second.body, strict=True))
