"""The averaged values are what is validated, kept and saved; training itself does not notice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sparseft
from sparseft.config import TrainingConfig
from sparseft.errors import CheckpointError, ConfigError
from sparseft.training import Evaluation, execute
from sparseft.training.averaging import Average, make_average
from tests.methods.common import prepare
from tests.tiny import tiny, tiny_batch
from tests.training.helpers import task_config
from tests.training.test_loop import _evaluation, _train, _values


def _path(count: int = 7) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, generator=generator) for _ in range(count)]


def _fed(average: Average, parameter: Tensor, values: list[Tensor]) -> Average:
    for step, value in enumerate(values, start=1):
        parameter.copy_(value)
        average.update(step)
    return average


def test_the_exponential_mean_is_the_normalised_weighted_sum() -> None:
    values, parameter = _path(), torch.empty(3, 4)
    found = _fed(Average([parameter], decay=0.8), parameter, values).values()[0]
    weights = [0.8 ** (len(values) - 1 - step) for step in range(len(values))]
    sums = sum(w * v.double() for w, v in zip(weights, values, strict=True))
    torch.testing.assert_close(found.double(), sums / sum(weights), rtol=1e-6, atol=1e-6)
    first = _fed(Average([parameter], decay=0.8), parameter, values[:1]).values()[0]
    assert torch.equal(first, values[0])


@pytest.mark.parametrize(("share", "taken"), [(0.25, 2), (0.3, 3), (1.0, 7), (0.01, 1)])
def test_the_tail_is_the_mean_of_the_last_steps(share: float, taken: int) -> None:
    values, parameter = _path(), torch.empty(3, 4)
    config = TrainingConfig(averaging="tail", averaging_share=share)
    average = make_average(config, [parameter], len(values))
    assert average is not None
    _fed(average, parameter, values[:-taken])
    assert not average.ready and average.bytes == 0
    for step, value in enumerate(values[-taken:], start=len(values) - taken + 1):
        parameter.copy_(value)
        average.update(step)
    expected = torch.stack(values[-taken:]).double().mean(0)
    torch.testing.assert_close(average.values()[0].double(), expected, rtol=1e-6, atol=1e-6)
    assert average.bytes == 4 * 12


def test_averages_of_half_precision_are_in_fp32() -> None:
    parameter = torch.ones(4, dtype=torch.bfloat16)
    average = Average([parameter])
    average.update(1)
    parameter += 2**-7  # the next number above 1
    average.update(2)
    (mean,) = average.values()
    assert mean.dtype == torch.float32 and torch.equal(mean, torch.full((4,), 1 + 2**-8))


def test_a_state_of_other_shapes_is_refused() -> None:
    average = _fed(Average([parameter := torch.empty(3, 4)], decay=0.9), parameter, _path(3))
    with pytest.raises(CheckpointError, match="remove the checkpoint"):
        Average([torch.empty(4, 3)], decay=0.9).load_state(average.state())


@pytest.mark.parametrize(
    ("setting", "value"),
    [("averaging_decay", 1.0), ("averaging_share", 0.0), ("averaging_share", 1.1)],
)
def test_settings_out_of_range_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"training.{setting}"):
        TrainingConfig(**{setting: value})  # type: ignore[arg-type]


class _Watch:
    """Records the trained values at each validation, and those after each step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.after: list[list[Tensor]] = []
        self.seen: list[list[Tensor]] = []
        self.parameters: list[Tensor] = []
        update = Average.update

        def watched(average: Average, step: int) -> None:
            self.parameters = average._parameters
            self.after.append([p.detach().clone() for p in self.parameters])
            update(average, step)

        monkeypatch.setattr(Average, "update", watched)

    def validate(self) -> Evaluation:
        self.seen.append([p.detach().clone() for p in self.parameters])
        return _evaluation(0.5 + 0.1 * len(self.seen))


@pytest.mark.parametrize("method", ["full", "lora", "sparse"])
@pytest.mark.parametrize("averaging", ["ema", "tail"])
def test_what_is_validated_and_kept_is_the_average(
    method: str, averaging: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = (
        {"density": 0.2, "batches": 1, "folds": 0} if method == "sparse" else {}
    )
    both = []
    for _ in range(2):
        torch.manual_seed(0)  # of the adapters
        both.append(prepare(tiny("bert"), method, **options))
    prepared, plain = both
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    batches = [tiny_batch(prepared.model, seed=seed) for seed in range(3)]
    watch = _Watch(monkeypatch)
    settings: dict[str, Any] = {"averaging": averaging, "averaging_share": 0.5}
    outcome = _train(prepared, batches, tmp_path / "a", watch.validate, epochs=2, **settings)
    if averaging == "tail":
        # Before the tail the values themselves, then the mean of steps 4, 5 and 6.
        expected = [watch.after[2], [torch.stack(v).mean(0) for v in zip(*watch.after[3:])]]  # noqa: B905
    else:
        weights = [0.99**age for age in range(5, -1, -1)]
        total = [
            sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
            for values in zip(*watch.after, strict=True)
        ]
        expected = [watch.seen[0], total]
        assert not torch.equal(watch.seen[0][0], watch.after[2][0])
    for seen, wanted in zip(watch.seen, expected, strict=True):
        for found, value in zip(seen, wanted, strict=True):
            torch.testing.assert_close(found, value)
    # The second validation was the better one: its very values are in the model now.
    now = [*prepared.body, *prepared.head]
    assert all(torch.equal(p, v) for p, v in zip(now, watch.seen[1], strict=True))
    assert not torch.equal(now[0], watch.after[-1][0])
    if method == "sparse":
        for module in sparseft.sparse.apply.sparse_modules(prepared.model).values():
            assert torch.equal(module.sparse_plan.read(module.weight), module.sparse_values)
    assert outcome.cost["averaging_bytes"] == 4 * sum(p.numel() for p in now)
    # The steps are those of a training without an average.
    cost = _train(plain, batches, tmp_path / "b", epochs=2).cost
    assert cost["averaging_bytes"] == 0
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("a", "b")]
    steps = [[line for line in part if '"train"' in line] for part in lines]
    assert steps[0] == steps[1] and len(steps[0]) == 6


@pytest.mark.parametrize("averaging", ["ema", "tail"])
def test_a_resumed_training_has_the_same_average(averaging: str, tmp_path: Path) -> None:
    batches = [tiny_batch(tiny("bert"), seed=seed) for seed in range(4)]
    states: list[dict[str, Any]] = []
    settings: dict[str, Any] = {"averaging": averaging, "averaging_share": 0.6, "epochs": 3}
    options = {"density": 0.2, "batches": 1, "folds": 0}

    def scores(given: list[float]) -> Callable[[], Evaluation]:
        left = iter(given)
        return lambda: _evaluation(next(left))

    whole = prepare(tiny("bert"), "sparse", **options)
    every: dict[str, Any] = {"checkpoint_every": 3}
    keep = states.append
    _train(
        whole,
        batches,
        tmp_path,
        scores([0.1, 0.2, 0.3]),
        save=lambda state: keep(copy.deepcopy(state)),
        **settings,
        **every,
    )
    assert len(states) == 4
    for state in states[:3]:
        part = prepare(tiny("bert"), "sparse", **options)
        left = [0.1, 0.2, 0.3][state["progress"]["epoch"] :]
        _train(part, batches, tmp_path, scores(left), resume=state, **settings)
        want, found = _values(whole.model), _values(part.model)
        assert all(torch.equal(found[name], value) for name, value in want.items())


def test_the_delta_of_a_run_holds_the_average(task: Path, tmp_path: Path) -> None:
    results = {}
    for averaging in ("off", "ema"):
        config = task_config(task, tmp_path, "sparse", averaging=averaging, epochs=1)
        kept: list[Any] = []

        def look(run: Any, kept: list[Any] = kept) -> None:
            kept.append({n: p.detach().clone() for n, p in run.prepared.model.named_parameters()})

        outcome = execute(config, look)
        delta = sparseft.read_delta(outcome.folder / "delta")
        for name, tensor in delta.tensors.items():
            if name.endswith(".values"):
                trained = kept[0][name.removesuffix(".values") + ".sparse_values"]
                assert torch.equal(trained, tensor)
        results[averaging] = delta.tensors, outcome.result.cost
    names = [name for name in results["off"][0] if name.endswith(".values")]
    assert any(not torch.equal(results["off"][0][n], results["ema"][0][n]) for n in names)
    assert results["ema"][1]["averaging_bytes"] == 4 * results["ema"][1]["trainable_parameters"]
