"""The contract of every method, over the families of models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparseft.methods import Prepared, names
from sparseft.models import TextClassifier
from sparseft.selection.layout import layout_of
from tests.methods.common import layer_modules, layers_with_a_graph, prepare, train
from tests.tiny import FAMILIES, LAYERS, tiny, tiny_batch

BASELINES = (
    "bitfit",
    "full",
    "layers",
    "layers_sensitivity",
    "lora",
    "lora_upper",
    "prefix",
    "probe",
    "rslora",
    "shira",
)
WITHOUT_BIASES = ("modernbert", "llama", "qwen3")
WITHOUT_PREFIX = ("distilbert", "modernbert")
CASES = [
    (name, family)
    for name in BASELINES
    for family in FAMILIES
    if not (name == "bitfit" and family in WITHOUT_BIASES)
    and not (name == "prefix" and family in WITHOUT_PREFIX)
]


def test_all_baselines_are_registered() -> None:
    assert set(BASELINES) <= set(names())


def linears(model: TextClassifier) -> list[str]:
    return [name for layer in layout_of(model.backbone).layers for name in layer.linears.values()]


def expected_own_weights(name: str, model: TextClassifier, chosen: list[int]) -> set[str]:
    """Which of the backbone's own parameters the method trains, told from their names."""
    own = [key for key, _ in model.backbone.named_parameters()]
    layout = layout_of(model.backbone)
    if name == "full":
        return set(own)
    if name == "bitfit":
        return {key for key in own if key.endswith(".bias")}
    if name.startswith("layers"):
        inside = tuple(layout.layers[index].module_name + "." for index in chosen)
        return {key for key in own if key.startswith(inside)}
    return set()


@pytest.mark.parametrize(("name", "family"), CASES)
def test_a_method_trains_what_it_says_and_nothing_else(name: str, family: str) -> None:
    model = tiny(family)
    own = dict(model.backbone.named_parameters())
    before = {key: weight.detach().clone() for key, weight in own.items()}
    head_before = model.head.weight.detach().clone()
    names_of_linears = linears(model)

    reference = tiny(family)
    prepared = prepare(model, name)
    chosen = prepared.notes.get("layers", [])
    expected = expected_own_weights(name, reference, chosen)
    if name == "layers":
        assert chosen == [1, 2]

    assert prepared.model is model
    assert {id(weight) for weight in prepared.body + prepared.head} == {
        id(weight) for weight in model.parameters() if weight.requires_grad
    }
    assert {key for key, weight in own.items() if weight.requires_grad} == expected
    assert prepared.head == list(model.head.parameters())
    assert all(weight.requires_grad for weight in prepared.body + prepared.head)
    check_adapter(name, prepared, names_of_linears)

    losses = train(prepared)
    assert losses[1] < losses[0]
    for key, weight in own.items():
        if key in expected:
            assert not torch.equal(weight, before[key]), key
        else:
            assert torch.equal(weight, before[key]), key
    assert not torch.equal(model.head.weight, head_before)


def check_adapter(name: str, prepared: Prepared, names_of_linears: list[str]) -> None:
    """The added values: where they are, and how many."""
    trained = [key for key, weight in prepared.model.named_parameters() if weight.requires_grad]
    inside = [key for key in trained if not key.startswith("head.")]
    count = sum(weight.numel() for weight in prepared.body)
    if name in ("lora", "rslora", "lora_upper", "shira"):
        per_layer = len(names_of_linears) // LAYERS
        targets = names_of_linears[per_layer:] if name == "lora_upper" else names_of_linears
        touched = {
            target for target in names_of_linears if any(f".{target}." in key for key in inside)
        }
        assert touched == set(targets)
        assert prepared.notes["linears"] == len(targets)
        shapes = [
            prepared.model.get_submodule(f"backbone.base_model.model.{target}").base_layer
            for target in targets
        ]
        # LoRA's r (m + n) values in each linear; SHiRA has as many.
        assert count == sum(2 * (linear.in_features + linear.out_features) for linear in shapes)
        marker = ".shira_weight." if name == "shira" else ".lora_"
        assert all(marker in key for key in inside)
    elif name == "prefix":
        layout = layout_of(prepared.model.backbone.base_model)
        assert count == 3 * LAYERS * 2 * layout.num_kv_heads * layout.head_dim
    elif name == "probe":
        assert inside == []


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("name", "expected"),
    [("probe", []), ("lora_upper", [1, 2]), ("layers", [1, 2]), ("lora", [0, 1, 2])],
)
def test_backward_stops_at_the_lowest_trained_layer(
    name: str, expected: list[int], family: str
) -> None:
    model = tiny(family)
    layers = layer_modules(model)
    prepare(model, name)
    assert layers_with_a_graph(model, layers) == expected


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
@pytest.mark.parametrize("before", [True, False])
def test_checkpointing_keeps_the_depth_and_the_gradients(family: str, before: bool) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = tiny(family).train()
        layers = layer_modules(model)
        if checkpointing and before:
            model.gradient_checkpointing_enable()
        prepared = prepare(model, "lora_upper")
        if checkpointing and not before:
            model.gradient_checkpointing_enable()
        assert layers_with_a_graph(model, layers) == [1, 2]
        model(**tiny_batch(model)).loss.backward()
        gradients.append([weight.grad for weight in prepared.body])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize("name", ["lora", "rslora", "shira", "prefix"])
def test_adapters_come_from_their_seed_alone(name: str) -> None:
    def trained(seed: int, noise: int) -> list[torch.Tensor]:
        torch.manual_seed(noise)
        model = tiny("bert")
        state = torch.get_rng_state()
        prepared = prepare(model, name, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        train(prepared, steps=2)
        batch = tiny_batch(model)
        with torch.no_grad():
            return [model(**batch).logits, *[weight.detach() for weight in prepared.body]]

    first, same, other = trained(1, noise=5), trained(1, noise=6), trained(2, noise=5)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("name", ["full", "layers", "bitfit", "shira", "lora", "prefix"])
def test_a_bfloat16_model_trains_in_fp32_values(name: str) -> None:
    model = tiny("bert")
    model.backbone.to(torch.bfloat16)
    prepared = prepare(model, name)
    assert {weight.dtype for weight in prepared.body} == {torch.float32}
    own_weights_trained = name not in ("lora", "prefix")
    assert prepared.notes.get("upcast_to_fp32", False) == own_weights_trained
    losses = train(prepared, steps=3)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["lora", "shira"])
def test_a_fresh_adapter_changes_nothing(name: str) -> None:
    batch = tiny_batch(tiny("bert"))
    with torch.no_grad():
        expected = tiny("bert")(**batch).logits
        model = tiny("bert")
        prepare(model, name)
        assert torch.equal(model.eval()(**batch).logits, expected)


def test_shira_draws_other_places_in_each_linear() -> None:
    model = tiny("bert")
    prepare(model, "shira")
    places = [
        module.shira_indices["default"]
        for module in model.modules()
        if isinstance(module, nn.Module) and hasattr(module, "shira_indices")
    ]
    assert len(places) == 6 * LAYERS
    square = [value for value in places if value.shape[1] == 2 * (16 + 16)]
    assert len(square) == 4 * LAYERS
    assert len({tuple(value.flatten().tolist()) for value in square}) == len(square)


def test_rslora_scales_by_the_square_root_of_r() -> None:
    scale = {}
    for name in ("lora", "rslora"):
        model = tiny("bert")
        prepare(model, name, r=4, alpha=8.0)
        scale[name] = {
            module.scaling["default"] for module in model.modules() if hasattr(module, "lora_A")
        }
    assert scale == {"lora": {2.0}, "rslora": {4.0}}


@pytest.mark.parametrize(
    ("sensitivities", "depth", "expected"),
    [
        ([5.0, 1.0, 3.0], 0.5, [0, 2]),
        ([5.0, 1.0, 3.0], 0.3, [0]),
        ([2.0, 2.0, 2.0], 0.5, [1, 2]),
    ],
)
def test_layers_sensitivity_trains_the_most_sensitive_layers(
    monkeypatch: pytest.MonkeyPatch, sensitivities: list[float], depth: float, expected: list[int]
) -> None:
    asked = []

    def measured(model: TextClassifier, batches: list) -> list[float]:
        asked.append(len(batches))
        return sensitivities

    monkeypatch.setattr("sparseft.analysis.layer_sensitivities", measured)
    prepared = prepare(tiny("bert"), "layers_sensitivity", depth=depth, batches=5)
    assert prepared.notes["layers"] == expected
    assert prepared.notes["layer_sensitivities"] == sensitivities
    assert prepared.analysis_seconds > 0
    assert asked == [5]


@pytest.mark.parametrize("name", ["full", "lora", "prefix", "shira"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_methods_train_under_autocast(name: str, family: str) -> None:
    model = tiny(family)
    prepared = prepare(model, name)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**tiny_batch(model)).loss
    loss.backward()
    assert loss.dtype == torch.float32
    for weight in prepared.body:
        assert weight.grad is not None
        assert weight.grad.dtype == torch.float32
        assert weight.grad.isfinite().all()
