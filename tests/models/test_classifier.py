"""Pooling, losses and the head, over every family of backbone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparseft.errors import ModelError
from sparseft.models import TextClassifier, last_token_pooling, mean_pooling
from tests.tiny import DECODERS, FAMILIES, HIDDEN, tiny, tiny_batch


def test_mean_pooling_ignores_padding_on_either_side() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [100.0]], [[100.0], [5.0], [7.0]]])
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert mean_pooling(hidden, mask).flatten().tolist() == [2.0, 6.0]


def test_last_token_pooling_takes_the_last_real_token() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [100.0]], [[100.0], [5.0], [7.0]], [[9.0], [0.0], [0.0]]])
    mask = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 0]])
    assert last_token_pooling(hidden, mask).flatten().tolist() == [3.0, 7.0, 9.0]


def test_pooling_of_a_text_without_tokens_is_finite() -> None:
    hidden, mask = torch.randn(1, 3, 2), torch.zeros(1, 3, dtype=torch.long)
    assert mean_pooling(hidden, mask).tolist() == [[0.0, 0.0]]
    assert last_token_pooling(hidden, mask).isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_backbone_weight_and_the_head_get_a_gradient(family: str) -> None:
    model = tiny(family)
    output = model(**tiny_batch(model))
    assert output.logits.shape == (4, 3)
    output.loss.backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert without == []
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"backbone", "head"}


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_behind_the_text_does_not_change_its_logits(family: str) -> None:
    model = tiny(family)
    batch = tiny_batch(model, rows=1, length=5)
    padded = {
        "input_ids": nn.functional.pad(batch["input_ids"], (0, 4)),
        "attention_mask": nn.functional.pad(batch["attention_mask"], (0, 4)),
    }
    with torch.no_grad():
        alone = model(batch["input_ids"], batch["attention_mask"]).logits
        beside_padding = model(**padded).logits
    torch.testing.assert_close(beside_padding, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", DECODERS)
def test_decoders_accept_padding_on_either_side(family: str) -> None:
    model = tiny(family)
    with torch.no_grad():
        right = model(**tiny_batch(model, padding_side="right")).logits
        left = model(**tiny_batch(model, padding_side="left")).logits
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_the_head_comes_from_its_seed_alone() -> None:
    backbone = tiny("bert").backbone
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = TextClassifier(backbone, 4, seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    same, other = TextClassifier(backbone, 4, seed=7), TextClassifier(backbone, 4, seed=8)
    assert torch.equal(one.head.weight, same.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert one.head.bias.abs().sum() == 0


def test_multi_label_loss_is_the_binary_cross_entropy() -> None:
    model = tiny("bert", multi_label=True)
    batch = tiny_batch(model)
    output = model(**batch)
    expected = nn.functional.binary_cross_entropy(output.logits.sigmoid(), batch["labels"])
    torch.testing.assert_close(output.loss, expected)
    as_integers = model.loss(output.logits, batch["labels"].to(torch.uint8))
    assert torch.equal(as_integers, output.loss)


def test_without_labels_there_is_no_loss() -> None:
    model = tiny("bert")
    batch = tiny_batch(model)
    assert model(batch["input_ids"], batch["attention_mask"]).loss is None


def test_a_bfloat16_backbone_gives_fp32_features_and_logits() -> None:
    model = tiny("bert")
    model.backbone.to(torch.bfloat16)
    batch = tiny_batch(model)
    features = model.features(batch["input_ids"], batch["attention_mask"])
    assert features.shape == (4, HIDDEN)
    assert features.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert model(**batch).logits.dtype == torch.float32


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_gradient_checkpointing_changes_no_gradient(family: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = tiny(family).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**tiny_batch(model)).loss.backward()
        gradients.append([weight.grad for weight in model.parameters()])
        if checkpointing:
            assert model.backbone.is_activation_checkpointing
            model.gradient_checkpointing_disable()
            assert not model.backbone.is_activation_checkpointing
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_does_not_reach_a_frozen_backbone(family: str) -> None:
    model = tiny(family).train()
    model.backbone.requires_grad_(False)
    batch = tiny_batch(model)
    for _ in range(2):  # a second call must not leave the first one's hook behind
        model.gradient_checkpointing_enable()
    assert not model.features(batch["input_ids"], batch["attention_mask"]).requires_grad
    with pytest.raises(ModelError, match="use_reentrant=False"):
        model.gradient_checkpointing_enable({"use_reentrant": True})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_labels": 1}, "at least 2 labels"),
        ({"num_labels": 0, "multi_label": True}, "at least 1 labels"),
        ({"num_labels": 3, "pooling": "max"}, "pooling"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        TextClassifier(tiny("bert").backbone, **arguments)


def test_a_backbone_without_a_hidden_size_is_refused() -> None:
    with pytest.raises(ModelError, match="hidden_size"):
        TextClassifier(nn.Linear(2, 2), 3)
