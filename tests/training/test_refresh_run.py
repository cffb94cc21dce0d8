"""A refresh within the loop: the best values keep their entries, averages follow, bits resume."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sparseft
from sparseft.config import RunConfig, TrainingConfig
from sparseft.errors import ConfigError
from sparseft.methods import Prepared
from sparseft.selection import ModuleSelection, Selection
from sparseft.sparse.apply import selection_of, sparse_modules
from sparseft.sparse.plan import Plan
from sparseft.sparse.refresh import RefreshOptions
from sparseft.training import Evaluation, MetricsLog, TrainOutcome, execute, pipeline, train
from sparseft.training.refresh import Refresher
from tests.methods.common import prepare
from tests.tiny import tiny, tiny_batch
from tests.training.helpers import FixedBatches, task_mapping
from tests.training.test_loop import _evaluation, _values

_OPTIONS = {"density": 0.2, "batches": 1, "folds": 0, "score": "fisher", "allocation": "score"}


def _prepared() -> Prepared:
    return prepare(tiny("bert"), "sparse", **_OPTIONS)


def _drawn(count: int, draw: int) -> list[dict[str, Tensor]]:
    return [tiny_batch(tiny("bert"), 8, seed=1000 * draw + number) for number in range(count)]


def _train(
    prepared: Prepared,
    folder: Path,
    validate: Callable[[], Evaluation],
    refresh: RefreshOptions,
    save: Callable[[dict[str, Any]], None] | None = None,
    resume: dict[str, Any] | None = None,
    **settings: Any,
) -> TrainOutcome:
    batches = [tiny_batch(prepared.model, seed=seed) for seed in range(3)]
    with MetricsLog(folder / "metrics.jsonl") as log:
        return train(
            prepared,
            FixedBatches(batches),
            validate,
            TrainingConfig(progress="off", **{"epochs": 4, **settings}),
            lr=1e-2,
            metric="accuracy",
            seed=0,
            log=log,
            save=save,
            resume=resume,
            refresher=Refresher(refresh, _drawn, 0),
        )


def _scores(given: list[float]) -> Callable[[], Evaluation]:
    left = iter(given)
    return lambda: _evaluation(next(left))


def test_the_best_values_come_back_with_their_entries(tmp_path: Path) -> None:
    prepared = _prepared()
    first = prepared.selection
    assert first is not None
    seen: list[tuple[Any, dict[str, Tensor]]] = []
    scores = iter([0.9, 0.5, 0.4, 0.3])

    def validate() -> Evaluation:
        seen.append((selection_of(prepared.model), _values(prepared.model)))
        return _evaluation(next(scores))

    refresh = RefreshOptions(every=1, share=0.5, until=1.0, batches=1)
    outcome = _train(prepared, tmp_path, validate, refresh)
    # The first epoch was best; three refreshes came after its validation.
    assert seen[0][0] is first and len({id(selection) for selection, _ in seen}) == 4
    assert prepared.selection is selection_of(prepared.model) is first
    assert all(torch.equal(v, seen[0][1][n]) for n, v in _values(prepared.model).items())
    assert outcome.notes["refresh"]["times"] == 3
    assert outcome.notes["refresh"]["exchanged_units"] > 0
    cost = outcome.cost
    assert 0 < cost["refresh_seconds"] < cost["train_seconds"]
    # What it left behind is the base's.
    trained = {n: v for n, v in _values(sparseft.unload(prepared.model)).items() if "head" not in n}
    base = _values(tiny("bert"))
    assert all(torch.equal(value, base[name]) for name, value in trained.items())


def test_an_average_follows_the_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = _prepared()
    seen: list[Any] = []

    def validate() -> Evaluation:
        for module in sparse_modules(prepared.model).values():
            assert torch.equal(module.sparse_plan.read(module.weight), module.sparse_values)
        seen.append(selection_of(prepared.model))
        return _evaluation(0.1 * len(seen))

    refresh = RefreshOptions(every=2, counted_in="steps", share=0.5, until=0.9, batches=1)
    # From the first step on, equal weights: the mean over all steps.
    settings: dict[str, Any] = {"averaging": "tail", "averaging_share": 1.0, "epochs": 2}
    steps: list[tuple[Selection, dict[str, Tensor]]] = []
    write = MetricsLog.write

    def watched(log: MetricsLog, kind: str, step: int, values: Any) -> None:
        if kind == "train":
            steps.append((selection_of(prepared.model), _values(prepared.model)))
        write(log, kind, step, values)

    monkeypatch.setattr(MetricsLog, "write", watched)
    _train(prepared, tmp_path, validate, refresh, **settings)
    assert len({id(selection) for selection, _ in steps}) == 3
    came = 0
    for place, module in enumerate(selection_of(prepared.model).modules):
        masks = torch.stack([_mask(selection.modules[place]) for selection, _ in steps])
        name = f"{module.module}.weight"
        mean = torch.stack([values[name] for _, values in steps]).mean(0)
        # A weight that is not selected is the base's, and counts as that for a unit that came. One
        # that left and came back begins anew.
        left = (masks[:-1] & ~masks[1:]).any(0)
        counted = masks[-1] & ~left
        found = prepared.model.get_submodule(module.module).weight.detach()
        torch.testing.assert_close(found[counted], mean[counted])
        came += int((counted & ~masks[0]).sum())
    assert came > 0


def _mask(selected: ModuleSelection) -> Tensor:
    """Which entries of the weight are selected."""
    plan = Plan.of(selected, torch.device("cpu"))
    mask = torch.zeros(selected.shape)
    plan.write(mask, torch.ones_like(plan.read(mask)))
    return mask.bool()


@pytest.mark.parametrize("counted_in", ["epochs", "steps"])
def test_a_resumed_training_has_the_same_bits(counted_in: Any, tmp_path: Path) -> None:
    refresh = RefreshOptions(
        every=1 if counted_in == "epochs" else 2,
        counted_in=counted_in,
        share=0.5,
        until=0.9,
        batches=1,
    )
    for scores in ([0.1, 0.2, 0.3, 0.4], [0.1, 0.9, 0.3, 0.4]):
        states: list[dict[str, Any]] = []
        whole = _prepared()
        keep = states.append
        expected = _train(
            whole,
            tmp_path,
            _scores(scores),
            refresh,
            save=lambda state: keep(copy.deepcopy(state)),  # noqa: B023
            checkpoint_every=2,
            averaging="ema",
        )
        assert len(states) == 6
        for state in states[:5]:
            part = _prepared()
            left = scores[state["progress"]["epoch"] :]
            found = _train(part, tmp_path, _scores(left), refresh, resume=state, averaging="ema")
            want, got = _values(whole.model), _values(part.model)
            assert all(torch.equal(got[name], value) for name, value in want.items())
            assert part.selection is not None and whole.selection is not None
            assert part.selection.to_dict() == whole.selection.to_dict()
            assert found.notes == expected.notes and found.best_step == expected.best_step


def _mapping(task: Path, output: Path, method: str = "sparse", **options: Any) -> dict[str, Any]:
    mapping = task_mapping(task, output, method, epochs=4, averaging="ema")
    mapping["method"].update(options)
    return mapping


def test_a_run_from_data_to_delta(task: Path, tmp_path: Path) -> None:
    refresh = {"every": 1, "share": 0.5, "until": 1.0, "batches": 1}
    kept: list[dict[str, Tensor]] = []

    def look(run: Any) -> None:
        kept.append(_values(run.prepared.model))

    config = RunConfig.from_mapping(
        _mapping(task, tmp_path, refresh=refresh, biases=True, norms=True)
    )
    outcome = execute(config, look)
    result = outcome.result
    assert result.notes["refresh"]["times"] == 3 and result.notes["refresh"]["exchanged_units"] > 0
    assert result.cost["refresh_seconds"] > 0 and result.seconds_to_best > 0
    assert result.selection is not None and 0.1 < result.selection["density"] <= 0.2
    delta = sparseft.read_delta(outcome.folder / "delta")
    assert delta.selection.vectors
    # The base without a delta is what the run began with.
    base = sparseft.load_delta(_base(config, kept[0]), delta)
    found = _values(base)
    assert all(torch.equal(kept[0][name], value) for name, value in found.items())


def _base(config: RunConfig, trained: dict[str, Tensor]) -> torch.nn.Module:
    from sparseft import models

    loaded = models.load(config.model, len(trained["head.bias"]), False, config.seed)
    return loaded.model


def test_a_killed_run_goes_on_after_a_refresh(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh = {"every": 1, "share": 0.5, "until": 1.0, "batches": 1}
    options = {"refresh": refresh, "lr_by_width": 0.5}

    def config(output: Path) -> RunConfig:
        mapping = _mapping(task, output, **options)
        mapping["training"]["checkpoint_every"] = 7
        return RunConfig.from_mapping(mapping)

    whole = execute(config(tmp_path / "whole"))
    save = pipeline.CheckpointStore.save
    count = 0

    def killed(store: Any, *args: Any) -> None:
        nonlocal count
        save(store, *args)
        count += 1
        if count == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.CheckpointStore, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        execute(config(tmp_path / "part"))
    monkeypatch.undo()
    part = execute(config(tmp_path / "part"))
    assert part.resumed and part.result.notes == whole.result.notes
    for name in ("delta/delta.safetensors", "predictions.npz"):
        assert (part.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert part.result.tuning == whole.result.tuning
    assert part.result.tuning["lr"] == pytest.approx(3e-3 * (0.05 / 0.2) ** 0.5)
    selections = [sparseft.read_delta(o.folder / "delta").selection for o in (whole, part)]
    for a, b in zip(selections[0].choices, selections[1].choices, strict=True):
        assert np.array_equal(a.units, b.units)


def test_wrong_options_end_the_run_at_once(task: Path, tmp_path: Path) -> None:
    for method, options, match in (
        ("sparse", {"refresh": {"share": 2}}, r"refresh\.share"),
        ("sparse", {"refresh": True}, r"method\.refresh to be null or a mapping"),
        ("sparse_magnitude", {"refresh": {}}, "no refresh with method=sparse_magnitude"),
        ("sparse", {"lr_by_width": 2}, r"method\.lr_by_width"),
        ("sparse", {"norms": 1}, r"method\.norms"),
    ):
        mapping = _mapping(task, tmp_path, method, **options)
        with pytest.raises(ConfigError, match=match):
            execute(RunConfig.from_mapping(mapping))
    assert list(tmp_path.iterdir()) == []
