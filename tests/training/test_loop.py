"""One loop: exact accumulation, the schedule, the best epoch, early stop, resume."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparseft.config import TrainingConfig
from sparseft.errors import CheckpointError, ConfigError
from sparseft.methods import MethodContext, Prepared, get
from sparseft.models import TextClassifier
from sparseft.optim import SparseAdamW
from sparseft.training import Evaluation, MetricsLog, TrainOutcome, train
from sparseft.training.loop import accumulate
from sparseft.training.schedule import make_optimizer, schedule_factor
from tests.tiny import tiny, tiny_batch
from tests.training.helpers import FixedBatches


def _prepared(model: TextClassifier, method: str = "full") -> Prepared:
    context = MethodContext(batches=lambda n: [], seed=0, num_layers=3)
    return get(method)(model, context)


def _evaluation(accuracy: float, loss: float = 1.0) -> Evaluation:
    empty = np.zeros(0)
    return Evaluation({"accuracy": accuracy, "loss": loss}, empty, empty, empty)


def _train(
    prepared: Prepared,
    batches: list[dict[str, Tensor]],
    folder: Path,
    validate: Callable[[], Evaluation] = lambda: _evaluation(1.0),
    lr: float = 1e-2,
    save: Callable[[dict[str, Any]], None] | None = None,
    resume: dict[str, Any] | None = None,
    **settings: Any,
) -> TrainOutcome:
    config = TrainingConfig(**{"progress": "off", "epochs": 2, **settings})
    with MetricsLog(folder / "metrics.jsonl") as log:
        return train(
            prepared,
            FixedBatches(batches),
            validate,
            config,
            lr=lr,
            metric="accuracy",
            seed=0,
            log=log,
            save=save,
            resume=resume,
        )


def _values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("multi_label", [False, True])
def test_accumulation_is_the_mean_over_all_rows(multi_label: bool) -> None:
    model, twin = (tiny("bert", multi_label=multi_label) for _ in range(2))
    whole = tiny_batch(model, rows=7)
    # Unequal parts: a mean of means would be another gradient.
    parts = [{key: value[:5] for key, value in whole.items()}]
    parts.append({key: value[5:] for key, value in whole.items()})
    loss = accumulate(model, parts)
    expected = twin(**whole).loss
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    for (name, parameter), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert parameter.grad is not None and other.grad is not None
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_one_step_is_torchs_adamw(tmp_path: Path) -> None:
    model, twin = tiny("bert"), tiny("bert").train()
    batch = tiny_batch(model)
    _train(
        _prepared(model),
        [batch],
        tmp_path,
        epochs=1,
        lr=1e-2,
        head_lr=1e-1,
        weight_decay=0.1,
        clip_norm=0.5,
        schedule="constant",
        warmup_share=0.0,
    )
    optimizer = torch.optim.AdamW(
        [
            {"params": list(twin.backbone.parameters()), "lr": 1e-2},
            {"params": list(twin.head.parameters()), "lr": 1e-1},
        ],
        weight_decay=0.1,
        fused=True,
    )
    twin(**batch).loss.backward()
    norm = nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
    optimizer.step()
    assert all(torch.equal(v, _values(model)[n]) for n, v in _values(twin).items())
    assert _lines(tmp_path)[0]["gradient_norm"] == pytest.approx(float(norm))


def test_the_schedule_rises_and_falls_linearly() -> None:
    factors = [schedule_factor(step, 10, 0.2, "linear") for step in range(10)]
    assert factors == pytest.approx([0.5, 1.0, *(k / 8 for k in range(8, 0, -1))])
    assert [schedule_factor(step, 4, 0.0, "constant") for step in range(4)] == [1.0] * 4
    assert schedule_factor(0, 1, 0.1, "linear") == 1.0


def test_the_logged_learning_rate_follows_the_schedule(tmp_path: Path) -> None:
    model = tiny("bert")
    _train(_prepared(model), [tiny_batch(model)] * 5, tmp_path, epochs=2, warmup_share=0.2, lr=0.01)
    rates = [line["lr"] for line in _lines(tmp_path) if line["kind"] == "train"]
    assert rates == pytest.approx([0.01 * schedule_factor(s, 10, 0.2, "linear") for s in range(10)])


def test_the_best_epochs_values_are_put_back(tmp_path: Path) -> None:
    model = tiny("bert")
    seen: list[dict[str, Tensor]] = []
    scores = iter([(0.5, 1.0), (0.8, 0.9), (0.8, 0.7), (0.8, 0.8), (0.6, 0.1)])

    def validate() -> Evaluation:
        seen.append(_values(model))
        return _evaluation(*next(scores))

    outcome = _train(_prepared(model), [tiny_batch(model)] * 2, tmp_path, validate, epochs=5)
    # Of equal scores the lower loss.
    assert (outcome.score, outcome.best_epoch, outcome.best_step) == (0.8, 3, 6)
    assert all(torch.equal(value, seen[2][name]) for name, value in _values(model).items())
    assert not torch.equal(seen[4]["head.weight"], seen[2]["head.weight"])
    cost = outcome.cost
    assert 0 < outcome.seconds_to_best < cost["train_seconds"] + cost["evaluation_seconds"]
    assert cost["steps"] == 10


def test_early_stop_and_max_steps(tmp_path: Path) -> None:
    model = tiny("bert")
    batches = [tiny_batch(model)] * 4
    outcome = _train(_prepared(model), batches, tmp_path, epochs=9, early_stop_patience=2)
    assert (outcome.cost["steps"], outcome.best_epoch) == (12, 1)
    outcome = _train(_prepared(tiny("bert")), batches, tmp_path, epochs=9, max_steps=6)
    assert outcome.cost["steps"] == 6
    assert [line["step"] for line in _lines(tmp_path) if line["kind"] == "validation"] == [4, 6]


@pytest.mark.parametrize("every", [3, 4])
def test_a_resumed_training_has_the_same_bits(every: int, tmp_path: Path) -> None:
    # Dropout, so that the random state matters; 4 steps an epoch, the last of them short.
    def model() -> TextClassifier:
        made = tiny("bert")
        for module in made.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.2
        return made

    batches = [tiny_batch(tiny("bert"), seed=seed) for seed in range(7)]
    scores = [0.9, 0.5, 0.7]
    states: list[dict[str, Any]] = []

    def validate(given: list[float]) -> Callable[[], Evaluation]:
        remaining = iter(given)
        return lambda: _evaluation(next(remaining))

    whole = _prepared(model())
    expected = _train(
        whole,
        batches,
        tmp_path,
        validate(scores),
        epochs=3,
        accumulation=2,
        checkpoint_every=every,
        save=lambda state: states.append(copy.deepcopy(state)),
    )
    assert [state["progress"]["step"] for state in states] == list(range(every, 13, every))
    for state in states[:-1]:
        torch.manual_seed(99)
        part = _prepared(model())
        rest = scores[state["progress"]["epoch"] :]
        found = _train(
            part, batches, tmp_path, validate(rest), resume=state, epochs=3, accumulation=2
        )
        got, want = _values(part.model), _values(whole.model)
        assert all(torch.equal(got[name], value) for name, value in want.items())
        assert (found.score, found.best_step) == (expected.score, expected.best_step) == (0.9, 4)
        assert found.cost["steps"] == 12


def test_a_state_of_another_method_is_refused(tmp_path: Path) -> None:
    states: list[dict[str, Any]] = []
    model = tiny("bert")
    batches = [tiny_batch(model)] * 2
    _train(_prepared(model), batches, tmp_path, save=states.append, checkpoint_every=2)
    with pytest.raises(CheckpointError, match="remove"):
        _train(_prepared(tiny("bert"), "probe"), batches, tmp_path, resume=states[0])


def test_counting_flops_does_not_change_the_training(tmp_path: Path) -> None:
    values = []
    for measured in (True, False):
        model = tiny("bert")
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.2
        batches = [tiny_batch(model)] * 2
        outcome = _train(_prepared(model), batches, tmp_path, measure_flops=measured)
        assert (outcome.cost["flops_per_step"] is not None) == measured
        values.append(_values(model))
    assert all(torch.equal(value, values[1][name]) for name, value in values[0].items())


def test_flops_are_those_of_a_step_of_median_size(tmp_path: Path) -> None:
    model = tiny("bert")
    batches = [tiny_batch(model, length=length) for length in (9, 3, 6)]
    mixed = _train(_prepared(model), batches, tmp_path, epochs=1).cost["flops_per_step"]
    middle = _train(_prepared(tiny("bert")), batches[2:], tmp_path, epochs=1).cost
    assert mixed == middle["flops_per_step"]


def test_a_probe_trains_the_head_alone(tmp_path: Path) -> None:
    model = tiny("llama")
    before = _values(model)
    outcome = _train(_prepared(model, "probe"), [tiny_batch(model)] * 3, tmp_path)
    changed = {n for n, value in _values(model).items() if not torch.equal(value, before[n])}
    assert changed == {"head.weight", "head.bias"}
    assert outcome.cost["optimizer_state_bytes"] == 2 * 4 * (3 * 16 + 3) + 2 * 4


def test_a_diverging_training_says_what_to_do(tmp_path: Path) -> None:
    model = tiny("bert")
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    with pytest.raises(ConfigError, match=r"finite loss.*lower method\.lr"):
        _train(_prepared(model), [tiny_batch(model)], tmp_path)


def test_gradient_checkpointing_and_autocast_train_the_same_model(tmp_path: Path) -> None:
    plain, checkpointed, half = tiny("bert"), tiny("bert"), tiny("bert")
    batches = [tiny_batch(plain, seed=seed) for seed in range(3)]
    _train(_prepared(plain), batches, tmp_path, lr=1e-3)
    _train(_prepared(checkpointed), batches, tmp_path, lr=1e-3, gradient_checkpointing=True)
    _train(_prepared(half), batches, tmp_path, lr=1e-3, autocast="bfloat16")
    want, exact, near = _values(plain), _values(checkpointed), _values(half)
    for name, value in want.items():
        torch.testing.assert_close(exact[name], value, msg=name)
        assert near[name].dtype == torch.float32
        assert float((near[name] - value).abs().max()) < 0.02, name
    assert any(not torch.equal(near[name], value) for name, value in want.items())


def test_the_optimizer_is_the_one_that_the_method_asks_for() -> None:
    prepared = _prepared(tiny("bert"))
    dense = make_optimizer(prepared, 1e-3, 1e-2, 0.1)
    assert type(dense) is torch.optim.AdamW
    assert [group["lr"] for group in dense.param_groups] == [1e-3, 1e-2]
    prepared.optimizer = "sparse_adamw"
    assert isinstance(make_optimizer(prepared, 1e-3, 1e-2, 0.1), SparseAdamW)
    prepared.optimizer = "sgd"
    with pytest.raises(ConfigError, match="sparse_adamw"):
        make_optimizer(prepared, 1e-3, 1e-2, 0.1)
