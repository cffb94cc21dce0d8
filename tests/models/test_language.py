"""A decoder trained on its answers: loss, heads, methods and the frozen prefix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as functional

from sparseft import methods, sparse
from sparseft.config import ModelConfig
from sparseft.data.answers import AnswerBatches, AnswerRow
from sparseft.errors import ConfigError, DataError, ModelError
from sparseft.methods import MethodContext
from sparseft.models import AnswerModel, FrozenPrefix, load_language
from tests.tiny import (
    LAYERS,
    save_tiny_language_model,
    save_tiny_model,
    tiny_byte_tokenizer,
    tiny_language_model,
)

_ROWS = (
    AnswerRow("say a: ", '{"a":true,"b":"x"}', ((5, 9), (14, 17))),
    AnswerRow("say: ", '{"a":false,"b":"xyz"}', ((5, 10), (15, 20))),
    AnswerRow("é: ", '{"a":true,"b":"ü"}', ((5, 9), (14, 17))),
)


def _batches(seed: int | None = None, size: int = 3) -> AnswerBatches:
    return AnswerBatches(_ROWS, tiny_byte_tokenizer(), size, 64, seed)


def test_labels_are_the_values_and_the_end_alone() -> None:
    batches, tokenizer = _batches(), tiny_byte_tokenizer()
    batch = batches.collate(np.array([0, 1]))
    learned = batch["labels"][0] != -100
    assert tokenizer.decode(batch["labels"][0][learned]) == 'true"x"<end>'
    assert batch["parts"][0][learned].tolist() == [0] * 4 + [1] * 3 + [2]
    assert tokenizer.decode(batch["labels"][1][batch["parts"][1] == 1]) == '"xyz"'
    assert batch["attention_mask"].sum(dim=1).tolist() == batches.lengths[:2].tolist()
    ids = batch["input_ids"][0][: batches.lengths[0]]
    assert tokenizer.decode(ids) == _ROWS[0].prompt + _ROWS[0].answer + "<end>"


def test_a_character_of_several_bytes_is_one_part() -> None:
    batch = _batches().collate(np.array([2]))
    assert int((batch["parts"][0] == 1).sum()) == 4  # two quotes and two bytes


def test_orders_depend_on_seed_and_epoch_alone() -> None:
    first, second = _batches(seed=1, size=1), _batches(seed=1, size=1)
    orders = []
    for epoch in range(6):
        for loader in (first, second):
            loader.set_epoch(epoch)
        order = [int(batch["indices"][0]) for batch in first]
        assert order == [int(batch["indices"][0]) for batch in second]
        assert sorted(order) == [0, 1, 2]
        orders.append(order)
    assert len({tuple(order) for order in orders}) > 1


def test_nothing_is_cut() -> None:
    with pytest.raises(DataError, match="at most 10 tokens"):
        AnswerBatches(_ROWS, tiny_byte_tokenizer(), 1, 10)


def test_the_loss_is_the_language_models_own_on_the_learned_tokens() -> None:
    whole = tiny_language_model()
    model = AnswerModel(whole)
    batch = _batches().collate(np.arange(3))
    output = model(batch["input_ids"], batch["attention_mask"], batch["labels"])
    logits = whole(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]), batch["labels"][:, 1:].reshape(-1)
    )
    torch.testing.assert_close(output.loss, expected)
    last = model(batch["input_ids"], batch["attention_mask"]).logits
    place = batch["attention_mask"].sum(dim=1) - 1
    torch.testing.assert_close(last, logits[torch.arange(3), place])


def test_an_output_embedding_of_its_own_is_kept() -> None:
    whole = tiny_language_model()
    whole.lm_head.weight = torch.nn.Parameter(torch.randn_like(whole.lm_head.weight))
    model = AnswerModel(whole)
    hidden = torch.randn(2, 3, whole.config.hidden_size)
    torch.testing.assert_close(model.logits(hidden), whole.lm_head(hidden))
    assert not any(name.startswith("head") for name, _ in model.named_parameters())


def _context(**options: object) -> MethodContext:
    def batches(count: int) -> list[dict[str, torch.Tensor]]:
        batch = _batches().collate(np.arange(3))
        return [{key: batch[key] for key in ("input_ids", "attention_mask", "labels")}] * count

    return MethodContext(
        batches,
        seed=0,
        num_layers=LAYERS,
        options=options,
        held_out=lambda count, folds: iter(batches(count)),
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sparse", {"density": 0.2}),
        ("sparse_random", {"density": 0.2}),
        ("full", {}),
        ("layers", {}),
        ("lora", {}),
        ("lora_upper", {}),
        ("bitfit", {}),
        ("shira", {}),
        ("prefix", {"tokens": 4}),
    ],
)
def test_methods_train_an_answer_model(name: str, options: dict[str, object]) -> None:
    model = AnswerModel(tiny_language_model())
    if name == "bitfit":
        with pytest.raises(ConfigError, match="bias"):
            methods.get(name)(model, _context(**options))
        return
    prepared = methods.get(name)(model, _context(**options))
    assert prepared.body and not prepared.head
    batch = _batches().collate(np.arange(3))
    optimizer = torch.optim.AdamW(prepared.body, lr=1e-2)
    losses = []
    for _ in range(8):
        output = prepared.model(batch["input_ids"], batch["attention_mask"], batch["labels"])
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(output.loss.detach()))
    assert losses[-1] < losses[0]


def test_the_frozen_prefix_can_be_replayed() -> None:
    model = AnswerModel(tiny_language_model())
    methods.get("sparse")(model, _context(density=0.1, depth=0.5))
    prefix = FrozenPrefix(model)
    assert prefix.layers > 0
    batch = _batches().collate(np.arange(3))
    inputs = (batch["input_ids"], batch["attention_mask"])
    states = prefix.states(*inputs)
    with prefix.replaced(states):
        replayed = model(*inputs, batch["labels"]).loss
    torch.testing.assert_close(replayed, model(*inputs, batch["labels"]).loss)


def test_a_delta_survives_saving(tmp_path: Path) -> None:
    model = AnswerModel(tiny_language_model())
    prepared = methods.get("sparse")(model, _context(density=0.2))
    with torch.no_grad():
        for parameter in prepared.body:
            parameter.add_(0.1)
    sparse.sync(model)
    sparse.save_delta(model, tmp_path / "delta")
    other = AnswerModel(tiny_language_model())
    sparse.load_delta(other, tmp_path / "delta")
    batch = _batches().collate(np.arange(3))
    inputs = (batch["input_ids"], batch["attention_mask"])
    torch.testing.assert_close(other(*inputs).logits, model(*inputs).logits, rtol=0, atol=0)


def test_a_saved_model_loads_and_an_encoder_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_language_model(tmp_path / "lm")
    config = ModelConfig(name="tiny", source="path", id=str(folder), max_length=64)
    loaded = load_language(config)
    assert isinstance(loaded.model, AnswerModel) and loaded.tokenizer.padding_side == "right"
    encoder = tmp_path / "encoder"
    save_tiny_model(encoder)
    with pytest.raises(ModelError):
        load_language(ModelConfig(name="tiny", source="path", id=str(encoder), max_length=32))
