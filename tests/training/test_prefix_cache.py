"""Training from stored states: equal to the bit where widths are equal, else to rounding."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparseft.config import TrainingConfig
from sparseft.errors import ConfigError, DataError, ModelError
from sparseft.methods import MethodContext, Prepared, get
from sparseft.training import Evaluation, MetricsLog, PrefixCache, evaluate, train
from sparseft.training.loop import accumulate
from sparseft.training.meters import count_flops
from sparseft.training.prefix_cache import cache as cache_module
from sparseft.training.prefix_cache import room
from tests.tiny import DECODERS, FAMILIES, HIDDEN, LAYERS, tiny, tiny_batch
from tests.training.helpers import FixedBatches

_METHODS = ("layers", "lora_upper", "sparse", "probe")


def _prepared(family: str, method: str = "layers", upper_dropout: float = 0.0) -> Prepared:
    model = tiny(family)
    options: dict[str, Any] = {}
    if method == "sparse":
        options = {"density": 0.2, "depth": 0.5, "folds": 0}
    if method == "lora_upper":
        options = {"dropout": upper_dropout}
    batch = tiny_batch(model)
    return get(method)(model, MethodContext(lambda n: [batch] * n, 0, LAYERS, options))


def _batches(family: str, lengths: tuple[int, ...] = (7, 7, 7)) -> list[dict[str, Tensor]]:
    model = tiny(family)
    return [tiny_batch(model, rows=4, length=n, seed=i) for i, n in enumerate(lengths)]


def _train(
    prepared: Prepared, batches: list[dict[str, Tensor]], folder: Path, cache: PrefixCache | None
) -> list[float]:
    """The losses of all steps."""
    empty = np.zeros(0)
    config = TrainingConfig(progress="off", epochs=3, accumulation=2, measure_flops=False)
    with MetricsLog(folder / "metrics.jsonl") as log:
        train(
            prepared,
            FixedBatches(batches),
            lambda: Evaluation({"accuracy": 1.0, "loss": 1.0}, empty, empty, empty),
            config,
            lr=1e-2,
            metric="accuracy",
            seed=0,
            log=log,
            cache=cache,
        )
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def _values(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_step_has_the_same_bits_with_and_without(
    family: str, method: str, tmp_path: Path
) -> None:
    batches = _batches(family)
    plain = _prepared(family, method)
    expected = _train(plain, batches, tmp_path, None)
    cached = _prepared(family, method)
    # Of other rows than the training's batches, but as wide: rows do not change one another.
    rows = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    other = [{key: value[part] for key, value in rows.items()} for part in order.split(5)]
    cache = PrefixCache.build(cached.model, other, progress="off")
    assert cache.layers == (LAYERS if method == "probe" else cache.layers) > 0
    assert _train(cached, batches, tmp_path, cache) == expected
    assert all(map(torch.equal, _values(cached.model), _values(plain.model)))
    assert len(set(expected)) > 3


@pytest.mark.parametrize("family", FAMILIES)
def test_other_widths_are_equal_to_rounding(family: str, tmp_path: Path) -> None:
    batches = _batches(family, (5, 9, 7))
    plain, cached = _prepared(family), _prepared(family)
    expected = _train(plain, batches, tmp_path, None)
    texts = [{k: v for k, v in batch.items() if v.ndim == 2} for batch in batches]
    wide = [
        {k: nn.functional.pad(v, (0, 21 - v.shape[1])) for k, v in batch.items()} for batch in texts
    ]
    cache = PrefixCache.build(cached.model, wide, progress="off")
    found = _train(cached, batches, tmp_path, cache)
    assert found == pytest.approx(expected, rel=2e-4) and len(set(found)) > 3


def test_dropout_above_the_cut_draws_the_same_numbers(tmp_path: Path) -> None:
    def prepared() -> Prepared:
        made = _prepared("bert", "lora_upper", upper_dropout=0.3)
        for name, module in made.model.named_modules():
            if isinstance(module, nn.Dropout) and "layer.2" in name:
                module.p = 0.2
        return made

    batches = _batches("bert")
    plain, cached = prepared(), prepared()
    expected = _train(plain, batches, tmp_path, None)
    cache = PrefixCache.build(cached.model, batches, progress="off")
    assert _train(cached, batches, tmp_path, cache) == expected
    other = _prepared("bert", "lora_upper")
    assert _train(other, batches, tmp_path, None) != expected


def test_dropout_below_the_cut_is_off() -> None:
    prepared = _prepared("bert")
    batch = _batches("bert")[0]
    model = prepared.model
    expected = model(**batch).loss
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and ("embeddings" in name or "layer.0" in name):
            module.p = 0.5
    model.train()
    assert not torch.equal(model(**batch).loss, expected)
    cache = PrefixCache.build(model, [batch], progress="off")
    with cache.replay(batch):
        assert torch.equal(model(**batch).loss, expected)


def test_evaluation_from_stored_states() -> None:
    prepared = _prepared("modernbert")
    batches = [
        {**batch, "indices": torch.arange(4) + 4 * i} for i, batch in enumerate(_batches("bert"))
    ]
    cache = PrefixCache.build(prepared.model, batches, progress="off")
    expected = evaluate(prepared.model, batches)
    found = evaluate(prepared.model, batches, cache=cache)
    assert found.metrics == expected.metrics
    assert np.array_equal(found.probability, expected.probability)


def test_a_text_is_stored_once_and_without_padding(caplog: pytest.LogCaptureFixture) -> None:
    model = _prepared("bert").model
    batches = _batches("bert")
    lengths = {
        tuple(r[m == 1].tolist())
        for b in batches
        for r, m in zip(b["input_ids"], b["attention_mask"], strict=True)
    }
    tokens = sum(map(len, lengths))
    with caplog.at_level(logging.INFO):
        cache = PrefixCache.build(model, [*batches, *batches], progress="off")
    assert (cache.texts, cache.tokens) == (len(lengths), tokens)
    assert cache.bytes == tokens * HIDDEN * 4
    assert cache.seconds == cache.build_seconds > 0 and not cache.reused
    logged = f"{len(lengths)} texts, {tokens} tokens, {tokens} x {HIDDEN} states in float32"
    assert logged in caplog.text and room.readable(cache.bytes) in caplog.text
    half = PrefixCache.build(model, batches, dtype="bfloat16", progress="off")
    assert half.bytes == tokens * HIDDEN * 2
    exact, rounded = cache.states(batches[0]), half.states(batches[0])
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=2**-8, atol=0)


def test_the_features_of_a_probe_are_one_state_a_text() -> None:
    model = _prepared("qwen2", "probe").model
    batch = _batches("qwen2")[0]
    cache = PrefixCache.build(model, [batch], progress="off")
    assert cache.whole and cache.bytes == 4 * HIDDEN * 4
    assert torch.equal(
        cache.states(batch), model.features(batch["input_ids"], batch["attention_mask"])
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_on_the_left_is_right_or_refused(family: str) -> None:
    model = _prepared(family).model
    batch = _batches(family)[0]
    cache = PrefixCache.build(model, [batch], progress="off")
    left = {**tiny_batch(model, padding_side="left"), "labels": batch["labels"]}
    if family in ("bert", "distilbert"):  # learned absolute positions, from the row's start
        with pytest.raises(ModelError, match="padding on the left"), cache.replay(left):
            pass
        with pytest.raises(ModelError, match="padding on the left"):
            PrefixCache.build(model, [left], progress="off")
        return
    with cache.replay(left):
        found = model(**left).loss
    torch.testing.assert_close(found, model(**left).loss, rtol=1e-4, atol=1e-5)
    assert (family in DECODERS) == (model.pooling == "last")


def test_what_cannot_be_cached_is_refused() -> None:
    batches = _batches("bert")
    with pytest.raises(ModelError, match="no prefix to store"):
        PrefixCache.build(_prepared("bert", "full").model, batches)
    model = _prepared("bert").model
    with pytest.raises(DataError, match="got no batch"):
        PrefixCache.build(model, [])
    with pytest.raises(ConfigError, match="float16"):
        PrefixCache.build(model, batches, dtype="float16")  # type: ignore[arg-type]
    broken = {**batches[0], "attention_mask": torch.tensor([[1, 0, 1, 0, 0, 0, 0]] * 4)}
    with pytest.raises(DataError, match="pad each text on one side"):
        PrefixCache.build(model, [broken])
    cache = PrefixCache.build(model, batches[:1], progress="off")
    with pytest.raises(DataError, match="got 4 of 4 others"), cache.replay(batches[1]):
        pass


def test_a_cache_that_is_too_large_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _prepared("bert").model
    batches = _batches("bert")
    size = PrefixCache.build(model, batches, progress="off").bytes
    monkeypatch.setattr(cache_module, "compute", _must_not_run)
    with pytest.raises(ConfigError, match="prefix_cache_max_bytes"):
        PrefixCache.build(model, batches, max_bytes=size - 1)
    monkeypatch.setattr(room, "free_memory", lambda device: size - 1)
    with pytest.raises(ConfigError, match="free memory of cpu"):
        PrefixCache.build(model, batches)
    usage = type("Usage", (), {"free": size - 1})
    monkeypatch.setattr(room.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ConfigError, match=f"free space in {tmp_path}"):
        PrefixCache.build(model, batches, where=tmp_path)
    assert list(tmp_path.iterdir()) == []


def _must_not_run(*_: Any) -> Any:
    yield pytest.fail("states were computed")


def test_free_memory_is_a_plausible_number() -> None:
    free = room.free_memory(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50
    assert [room.readable(n) for n in (0, 1500, 110_600_000)] == ["0 bytes", "1.5 kB", "111 MB"]


def test_a_step_from_the_cache_costs_fewer_flops() -> None:
    batch = _batches("bert")[0]
    model = _prepared("bert").model
    cache = PrefixCache.build(model, [batch], progress="off")
    without = count_flops(model, lambda: accumulate(model, [batch]))
    stored = count_flops(model, lambda: accumulate(model, [batch], cache=cache))
    assert without is not None and stored is not None
    # Forward through 3 layers and backward through 2, without the lowest one's input gradient:
    # a third of a forward of about 7 parts is saved.
    assert 5.5 / 7 < stored / without < 6.5 / 7


@pytest.mark.gpu
@pytest.mark.parametrize("where", ["memory", "folder"])
@pytest.mark.parametrize("method", _METHODS)
def test_on_a_gpu_it_is_equal_to_rounding(method: str, where: str, tmp_path: Path) -> None:
    prepared = _prepared("bert", method)
    model = prepared.model.cuda()
    batches = [{key: value.cuda() for key, value in b.items()} for b in _batches("bert")]
    place = where if where == "memory" else tmp_path
    cache = PrefixCache.build(model, batches, where=place, progress="off")
    for batch in batches:
        with cache.replay(batch):
            found = model(**batch).loss
        torch.testing.assert_close(found, model(**batch).loss, rtol=1e-3, atol=1e-4)
        assert cache.states(batch).device.type == "cuda"
