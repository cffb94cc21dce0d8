"""Attention roll-out follows its definition, from where the model pools."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparseft.errors import ConfigError, ModelError
from sparseft.saliency import attention_rollout
from sparseft.saliency.rollout import attention_maps
from tests.tiny import FAMILIES, tiny, tiny_batch


def _reference(model: Any, batch: dict[str, Tensor], row: int, pooling: str) -> Tensor:
    """The product of (A + I) / 2 over the layers on one text without its padding: [tokens]."""
    real = batch["attention_mask"][row].bool()
    ids = batch["input_ids"][row, real][None]
    model.backbone.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model.backbone(
            input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True
        ).attentions
    model.backbone.set_attn_implementation("sdpa")
    joint = torch.eye(ids.shape[1])
    for attention in maps:
        joint = (attention[0].mean(0) + torch.eye(ids.shape[1])) / 2 @ joint
    return {"mean": joint.mean(0), "last": joint[-1], "first": joint[0]}[pooling]


@pytest.mark.parametrize("pooling", ["auto", "mean", "last", "first"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_product_of_the_layers_mixed_attention(family: str, pooling: str) -> None:
    model = tiny(family)
    batch = tiny_batch(model, 4, 7, seed=2)
    found = attention_rollout(model, batch, pooling=pooling)  # type: ignore[arg-type]
    torch.testing.assert_close(found.sum(1), torch.ones(4))
    expected = model.pooling if pooling == "auto" else pooling
    for row in range(4):
        real = batch["attention_mask"][row].bool()
        torch.testing.assert_close(found[row, real], _reference(model, batch, row, expected))
        assert torch.all(found[row, ~real] == 0)


def test_left_padding_changes_nothing() -> None:
    model = tiny("llama")  # of relative positions
    right = tiny_batch(model, 3, 6, seed=2)
    left = tiny_batch(model, 3, 6, seed=2, padding_side="left")
    ours, others = attention_rollout(model, right), attention_rollout(model, left)
    for row in range(3):
        torch.testing.assert_close(
            ours[row, right["attention_mask"][row].bool()],
            others[row, left["attention_mask"][row].bool()],
            rtol=1e-3,
            atol=1e-4,
        )


def test_a_plain_model_says_where_it_pools() -> None:
    encoder, decoder = tiny("modernbert"), tiny("llama")
    batch = tiny_batch(encoder, 2, 5, seed=1)
    bare = encoder.backbone
    for said, meant in (("cls", "first"), ("mean", "mean")):
        bare.config.classifier_pooling = said  # type: ignore[union-attr]
        expected = attention_rollout(bare, batch, pooling=meant)  # type: ignore[arg-type]
        torch.testing.assert_close(attention_rollout(bare, batch), expected)
    bare = decoder.backbone
    expected = attention_rollout(bare, batch, pooling="last")
    torch.testing.assert_close(attention_rollout(bare, batch), expected)


def test_a_model_that_hides_its_attention_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("bert")
    batch = tiny_batch(model, 2, 5, seed=1)

    def refuse(self: nn.Module, name: str) -> None:
        if name == "eager":
            raise ValueError("this family has flash attention alone")

    with monkeypatch.context() as patch:
        patch.setattr(type(model.backbone), "set_attn_implementation", refuse)
        with pytest.raises(ModelError, match="flash attention alone"):
            attention_rollout(model, batch)
        patch.setattr(type(model.backbone), "set_attn_implementation", lambda self, name: None)
        with pytest.raises(ModelError, match="it stays with sdpa"):
            attention_rollout(model, batch)
    assert model.backbone.config._attn_implementation == "sdpa"  # type: ignore[union-attr]


def test_attention_that_is_not_shown_is_an_error() -> None:
    model = tiny("bert")
    attention = model.get_submodule("backbone.encoder.layer.1.attention.self")
    # As a family does that returns no weights.
    handle = attention.register_forward_hook(lambda _m, _a, out: (out[0], None))
    with pytest.raises(ModelError, match="expected 3 attention maps"):
        attention_maps(model, tiny_batch(model, 2, 5, seed=1))
    handle.remove()
    assert model.backbone.config._attn_implementation == "sdpa"  # type: ignore[union-attr]


def test_an_unknown_pooling_is_refused() -> None:
    model = tiny("bert")
    with pytest.raises(ConfigError, match="got 'cls'"):
        attention_rollout(model, tiny_batch(model, 2, 5, seed=1), pooling="cls")  # type: ignore[arg-type]
