"""Integrated gradients are complete, exact on a linear model, and start where they say."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from sparseft.errors import ConfigError
from sparseft.saliency import integrated_gradients
from sparseft.saliency.target import logits_of, row_losses
from sparseft.selection import layout_of
from tests.tiny import DECODERS, FAMILIES, tiny, tiny_batch


def _loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    return row_losses(logits_of(model, batch), batch["labels"], False)


@pytest.mark.parametrize("family", FAMILIES)
def test_attributions_add_up_to_the_loss(family: str) -> None:
    model = tiny(family)
    batch = tiny_batch(model, 4, 7, seed=1)
    errors = []
    for steps in (1, 16, 64):
        found = integrated_gradients(model, batch, _loss, steps=steps, baseline=4)
        errors.append(float(found.completeness_error.max()))
    torch.testing.assert_close(found.end, _loss(model, batch))
    change = float((found.end - found.start).abs().max())
    assert errors[2] < 0.01 * change + 1e-5
    assert errors[2] < errors[0]
    assert torch.all(found.values[batch["attention_mask"] == 0] == 0)


def test_one_step_is_enough_where_the_loss_is_linear() -> None:
    model = tiny("bert").double()
    batch = tiny_batch(model, 3, 6, seed=2)
    embedding = layout_of(model).modules[layout_of(model).embeddings]
    direction = torch.randn(16, dtype=torch.float64)

    def loss(net: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        hidden = net.get_submodule("backbone.embeddings.word_embeddings")(inputs["input_ids"])
        return ((hidden @ direction) * inputs["attention_mask"]).sum(1)

    found = integrated_gradients(model, batch, loss, steps=1, baseline="zero")
    expected = embedding(batch["input_ids"]) @ direction * batch["attention_mask"]
    torch.testing.assert_close(found.values, expected.detach().float(), rtol=1e-4, atol=1e-5)
    assert float(found.start.abs().max()) == 0.0
    assert float(found.completeness_error.max()) < 1e-5


@pytest.mark.parametrize(("baseline", "token"), [("pad", 0), (4, 4), (59, 59)])
def test_the_path_starts_at_the_baselines_text(baseline: str | int, token: int) -> None:
    model = tiny("bert")
    batch = tiny_batch(model, 4, 7, seed=1)
    found = integrated_gradients(model, batch, _loss, steps=1, baseline=baseline)  # type: ignore[arg-type]
    empty = {**batch, "input_ids": torch.full_like(batch["input_ids"], token)}
    torch.testing.assert_close(found.start, _loss(model, empty))


def test_a_text_of_the_baseline_has_no_attribution() -> None:
    model = tiny("bert")
    batch = tiny_batch(model, 2, 5, seed=1)
    batch["input_ids"][:] = 4
    found = integrated_gradients(model, batch, _loss, steps=2, baseline=4)
    assert float(found.values.abs().max()) == 0.0


def test_one_loss_for_the_batch_is_complete_as_a_whole() -> None:
    model = tiny("bert")
    batch = tiny_batch(model, 4, 7, seed=1)
    found = integrated_gradients(model, batch, lambda m, b: m(**b).loss, steps=32)
    assert found.end.ndim == 0 and found.completeness_error.ndim == 0
    assert float(found.completeness_error) < 1e-4
    rows = integrated_gradients(model, batch, _loss, steps=32)
    torch.testing.assert_close(found.values * 4, rows.values, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", DECODERS)
def test_a_decoders_path_cannot_start_at_zero(family: str) -> None:
    model = tiny(family)  # its padding row is zero, as transformers draws it
    batch = tiny_batch(model, 2, 5, seed=1)
    for baseline in ("pad", "zero"):
        with pytest.raises(ConfigError, match="baseline other than zeros"):
            integrated_gradients(model, batch, _loss, baseline=baseline)


def test_refusals() -> None:
    model = tiny("bert")
    batch = tiny_batch(model, 2, 5, seed=1)
    with pytest.raises(ConfigError, match="steps of 1 or more, got 0"):
        integrated_gradients(model, batch, _loss, steps=0)
    for baseline in (60, -1, True, "mask"):
        with pytest.raises(ConfigError, match="expected a baseline"):
            integrated_gradients(model, batch, _loss, baseline=baseline)  # type: ignore[arg-type]
    model.backbone.config.pad_token_id = None  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="id None"):
        integrated_gradients(model, batch, _loss)
