"""Prefix tuning: that the prefix acts where PEFT can place one, and a clear refusal elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparseft.errors import ConfigError, ModelError
from sparseft.methods import adapters
from sparseft.methods import prefix as prefix_module
from tests.methods.common import prepare
from tests.methods.test_methods import WITHOUT_PREFIX
from tests.tiny import FAMILIES, LAYERS, tiny, tiny_batch

WITH_PREFIX = [family for family in FAMILIES if family not in WITHOUT_PREFIX]


@pytest.mark.parametrize("family", WITH_PREFIX)
def test_the_prefix_of_every_layer_acts_and_learns(family: str) -> None:
    model = tiny(family)
    batch = tiny_batch(model)
    with torch.no_grad():
        without = model(**batch).logits
    (values,) = prepare(model, "prefix").body
    output = model(**batch)
    assert (output.logits - without).abs().max() > 1e-3
    output.loss.backward()
    by_layer = values.grad.view(3, LAYERS, -1).abs().sum(dim=(0, 2))
    assert (by_layer > 0).all()


@pytest.mark.parametrize("family", WITHOUT_PREFIX)
def test_models_that_take_no_prefix_are_refused(family: str) -> None:
    model = tiny(family)
    backbone = model.backbone
    with pytest.raises(ModelError, match=r"PEFT cannot prefix.*choose another method"):
        prepare(model, "prefix")
    assert model.backbone is backbone


def test_a_prefix_that_does_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = prefix_module.wrap

    def wrap_without_effect(model: Any, config: Any, seed: int) -> Any:
        wrapper = real(model, config, seed)
        wrapper.forward = wrapper.get_base_model().forward
        return wrapper

    monkeypatch.setattr(prefix_module, "wrap", wrap_without_effect)
    with pytest.raises(ModelError, match="changes nothing"):
        prepare(tiny("bert"), "prefix")


def test_prefix_and_text_must_fit_the_positions() -> None:
    model = tiny("bert")  # 64 positions
    prepare(model, "prefix", tokens=10)
    with torch.no_grad():
        model(**tiny_batch(model, length=54))
        with pytest.raises(ConfigError, match="at most 54 tokens beside a prefix of 10, got 55"):
            model(**tiny_batch(model, length=55))
    with pytest.raises(ConfigError, match="beside a prefix of 60"):
        prepare(tiny("bert"), "prefix", tokens=60)


def test_prefix_and_checkpointing_exclude_each_other() -> None:
    model = tiny("bert")
    model.gradient_checkpointing_enable()
    with pytest.raises(ModelError, match="gradient_checkpointing=false"):
        prepare(model, "prefix")
    model.gradient_checkpointing_disable()
    prepare(model, "prefix")
    with pytest.raises(ModelError, match="gradient_checkpointing=false"):
        model.gradient_checkpointing_enable()


def test_other_warnings_of_peft_still_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    def warn(model: object, config: object) -> None:
        warnings.warn("something new", FutureWarning, stacklevel=2)

    monkeypatch.setattr(adapters, "get_peft_model", warn)
    with pytest.raises(FutureWarning, match="something new"):
        prepare(tiny("bert"), "lora")
