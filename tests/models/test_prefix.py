"""The frozen prefix: found by autograd, run alone, stood in for, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from sparseft.errors import ModelError
from sparseft.methods import MethodContext, get, names
from sparseft.models import FrozenPrefix, TextClassifier
from sparseft.selection.layout import layout_of
from tests.tiny import FAMILIES, LAYERS, tiny, tiny_batch, tiny_config


def _inputs(model: TextClassifier, **options: Any) -> tuple[Tensor, Tensor]:
    batch = tiny_batch(model, **options)
    return batch["input_ids"], batch["attention_mask"]


def _cut_at(model: TextClassifier, layer: int) -> TextClassifier:
    """Train the layers from `layer` on, and the head."""
    model.backbone.requires_grad_(False)
    layout = layout_of(model)
    for trained in layout.layers[layer:]:
        layout.modules[trained.module_name].requires_grad_(True)
    return model


def _ran(model: nn.Module, call: Callable[[], object]) -> set[int]:
    """The layers whose linears ran during the call; -1 stands for the token embedding."""
    layout = layout_of(model)
    seen: set[int] = set()
    watched = [(-1, layout.embeddings)]
    watched += [(layer.index, name) for layer in layout.layers for name in layer.linears.values()]

    def hook_for(index: int) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, _: Any) -> None:
            if "forward" not in module.__dict__:  # else a stand-in for it is called
                seen.add(index)

        return hook

    hooks = [layout.modules[n].register_forward_pre_hook(hook_for(i)) for i, n in watched]
    call()
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("method", names())
def test_the_prefix_of_every_method_is_what_its_gradients_do_not_reach(method: str) -> None:
    model = tiny("bert")
    options = {"density": 0.2, "folds": 0} if method.startswith("sparse") else {}
    batch = tiny_batch(model)
    get(method)(model, MethodContext(lambda n: [batch] * n, 0, LAYERS, options))
    prefix = FrozenPrefix(model)
    # Two of three layers are the upper half; a sensitive layer may be any.
    upper = {"lora_upper": 1, "layers": 1, "probe": 3}
    expected = upper.get(method, 0)
    if method.startswith("sparse"):
        expected = _lowest_trained(model)
    if method == "layers_sensitivity":
        expected = _lowest_trained(model)
    assert prefix.layers == expected
    assert prefix.whole == (method == "probe")


def _lowest_trained(model: TextClassifier) -> int:
    """By the names of the trained parameters: another way than autograd's."""
    layers = layout_of(model).layers
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    starts = [layer.module_name + "." for layer in layers]
    return next(i for i, start in enumerate(starts) if any(n.startswith(start) for n in trained))


def test_a_trained_embedding_or_norm_around_the_layers_counts() -> None:
    model = _cut_at(tiny("llama"), LAYERS)
    assert FrozenPrefix(model).whole
    model.get_submodule("backbone.norm").requires_grad_(True)
    prefix = FrozenPrefix(model)
    assert (prefix.layers, prefix.whole) == (LAYERS, False)
    assert prefix.states(*_inputs(model)).shape == (4, 7, 16)
    model.get_submodule("backbone.embed_tokens").requires_grad_(True)
    assert FrozenPrefix(model).layers == 0


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_states_are_transformers_own_hidden_states(family: str, layer: int) -> None:
    model = _cut_at(tiny(family), layer)
    ids, mask = _inputs(model)
    with torch.no_grad():
        outputs = model.backbone(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    prefix = FrozenPrefix(model.train())
    found = prefix.states(ids, mask)
    assert prefix.layers == layer
    assert torch.equal(found, outputs.hidden_states[layer]) and not found.requires_grad
    assert _ran(model, lambda: prefix.states(ids, mask)) == {-1, *range(layer)}
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("padding_side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_stored_states_give_the_same_loss_and_gradients(family: str, padding_side: str) -> None:
    model = _cut_at(tiny(family), 2)
    batch = tiny_batch(model, padding_side=padding_side)
    model(**batch).loss.backward()
    expected = {name: weight.grad for name, weight in model.named_parameters()}
    loss = model(**batch).loss
    model.zero_grad()
    prefix = FrozenPrefix(model)
    states = prefix.states(batch["input_ids"], batch["attention_mask"])
    # What stands at padding must not matter.
    states[batch["attention_mask"] == 0] = 1.0

    def call() -> None:
        with prefix.replaced(states):
            outcome = model(**batch)
        outcome.loss.backward()
        assert torch.equal(outcome.loss, loss)

    assert _ran(model, call) == {2}
    for name, weight in model.named_parameters():
        assert (weight.grad is None) == (expected[name] is None), name
        assert weight.grad is None or torch.equal(weight.grad, expected[name]), name
    assert _ran(model, lambda: model(**batch)) == {-1, *range(LAYERS)}


def test_the_whole_backbone_hands_on_one_feature_vector_a_text() -> None:
    model = _cut_at(tiny("qwen3"), LAYERS)
    batch = tiny_batch(model)
    prefix = FrozenPrefix(model)
    states = prefix.states(batch["input_ids"], batch["attention_mask"])
    assert prefix.whole and states.shape == (4, 16)
    loss = model(**batch).loss

    def call() -> None:
        with prefix.replaced(states):
            assert torch.equal(model(**batch).loss, loss)

    assert _ran(model, call) == set()
    assert "features" not in model.__dict__


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert", "qwen2"])
def test_models_of_transformers_with_their_own_heads_work_too(family: str) -> None:
    torch.manual_seed(0)
    config = tiny_config(family)
    config.num_labels = 3
    model = AutoModelForSequenceClassification.from_config(config).eval()
    layout = layout_of(model)
    for name, weight in model.named_parameters():
        in_upper = name.startswith(layout.layers[2].module_name + ".")
        weight.requires_grad_(in_upper or name.split(".")[0] in ("classifier", "score"))
    inputs = {k: v for k, v in tiny_batch(tiny(family)).items() if k != "labels"}
    expected = model(**inputs).logits
    prefix = FrozenPrefix(model)
    assert (prefix.layers, prefix.whole) == (2, False)
    states = prefix.states(**inputs)

    def call() -> None:
        with prefix.replaced(states):
            assert torch.equal(model(**inputs).logits, expected)

    assert _ran(model, call) == {2}


def test_an_error_inside_leaves_the_model_as_it_was() -> None:
    model = _cut_at(tiny("bert"), 2)
    layers = [layout_of(model).modules[layer.module_name] for layer in layout_of(model).layers]
    own = layers[0].forward
    layers[0].forward = own  # as accelerate does
    prefix = FrozenPrefix(model)
    ids, mask = _inputs(model)
    with (
        pytest.raises(ModelError, match=r"shape \[4, 7\].*\[4, 6\]"),
        prefix.replaced(prefix.states(ids, mask)),
    ):
        model(ids[:, :6], mask[:, :6])
    assert layers[0].__dict__["forward"] is own
    assert all("forward" not in layer.__dict__ for layer in layers[1:])


def test_a_prefix_that_changed_is_refused() -> None:
    model = _cut_at(tiny("bert"), 2)
    ids, mask = _inputs(model)
    prefix = FrozenPrefix(model)
    states = prefix.states(ids, mask)
    layout = layout_of(model)
    with torch.no_grad():  # above the cut: what training does
        layout.linear(layout.layers[2].linears["query"]).weight.add_(1.0)
    with prefix.replaced(states):
        model(ids, mask)
    below = layout.linear(layout.layers[1].linears["query"]).weight
    below.requires_grad_(True)
    with pytest.raises(ModelError, match="build the prefix cache again"), prefix.replaced(states):
        pass
    below.requires_grad_(False)
    with prefix.replaced(states):
        pass
    below.mul_(2.0)
    with pytest.raises(ModelError, match="build the prefix cache again"), prefix.replaced(states):
        pass


def test_a_compiled_model_is_refused() -> None:
    model = _cut_at(tiny("bert"), 2)
    model.backbone.compile(backend="eager")
    with pytest.raises(ModelError, match=r"torch\.compile"):
        FrozenPrefix(model)


def test_the_digest_names_weights_below_the_cut_and_how_they_are_used() -> None:
    def digest(family: str = "bert", layer: int = 2, seed: int = 0) -> str:
        return FrozenPrefix(_cut_at(tiny(family, seed=seed), layer)).digest()

    assert digest() == digest()
    assert len({digest(), digest(layer=1), digest(seed=1), digest("roberta"), digest(layer=3)}) == 5
    model = _cut_at(tiny("bert"), 2)
    layout = layout_of(model)
    with torch.no_grad():
        layout.linear(layout.layers[2].linears["query"]).weight.add_(1.0)
        model.head.weight.add_(1.0)
    assert FrozenPrefix(model).digest() == digest()
    model.backbone.config.layer_norm_eps = 1e-3  # type: ignore[union-attr]
    assert FrozenPrefix(model).digest() != digest()


def test_methods_of_equal_cut_share_one_digest() -> None:
    digests = set()
    for method in ("layers", "lora_upper"):
        model = tiny("bert")
        get(method)(model, MethodContext(lambda n: [], 0, LAYERS))
        digests.add(FrozenPrefix(model).digest())
    assert len(digests) == 1
