"""The whole-step benchmark, in miniature on the CPU: every method, resuming, failures, tables."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny import tiny, tiny_batch

_FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "step_time"
_MODULES = (
    "cases", "timing", "memory", "shapes", "capture", "records", "sitting", "targets", "gpu",
    "table", "bench",
)  # fmt: skip
Program = Any


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """The scripts' modules. They import each other by plain names, as a script's folder allows."""
    kept = {name: sys.modules.pop(name) for name in _MODULES if name in sys.modules}
    sys.path.insert(0, str(_FOLDER))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in _MODULES})
    finally:
        sys.path.remove(str(_FOLDER))
        for name in _MODULES:
            sys.modules.pop(name, None)
        sys.modules.update(kept)


@pytest.fixture
def run(program: Program, tmp_path: Path) -> Any:
    """run("minilm", …): the GPU program in miniature; returns its exit status."""

    def call(*models: str, options: tuple[str, ...] = ()) -> int:
        common = ["--device", "cpu", "--tiny", "--out", str(tmp_path)]
        return int(program.gpu.main([*common, *options, "--models", *models]))

    return call


def _records(folder: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]
    return {(r["model"], r["method"], r["mode"]): r for r in found}


# --- the GPU program


def test_every_method_is_measured_and_a_rerun_goes_on(
    program: Program, run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert run("minilm") == 0
    first = _records(tmp_path)
    assert {method for _, method, _ in first} == set(program.cases.METHODS)
    for record in first.values():
        assert (record["status"], record["order"]) == ("measured", "interleaved")
        assert record["ms_p20"] <= record["ms_median"] <= record["ms_p80"]
        assert record["tokens_per_second"] > 0 and record["ratio_median"] > 0
        assert record["memory"]["gradient_bytes"] > 0
    assert first["minilm", "full", "eager"]["ratio_median"] == 1
    assert "faster than LoRA, all depths" in capsys.readouterr().out

    # One record is lost: it alone is measured again, beside the reference.
    (tmp_path / "tiny-cpu" / "minilm-lora-eager.json").unlink()
    built = []
    case = program.sitting.Case
    monkeypatch.setattr(
        program.sitting, "Case", lambda name, *a, **k: built.append(name) or case(name, *a, **k)
    )
    assert run("minilm") == 0
    assert built == ["full", "lora"]
    second = _records(tmp_path)
    assert [key for key in second if second[key] != first[key]] == [("minilm", "lora", "eager")]


def test_one_after_another_each_beside_the_reference(
    program: Program, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("full", "sparse_upper", "shira")
    monkeypatch.setattr(program.records, "METHODS", _some(program, *names))
    assert run("modernbert-base", options=("--one-by-one",)) == 0
    for (_, method, _), record in _records(tmp_path).items():
        assert (record["status"], record["order"]) == ("measured", "one after another")
        assert record["reference"] == "full" and record["drift"] > 0, method


def test_no_time_measures_nothing(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("minilm", options=("--seconds", "0")) == 0
    assert _records(tmp_path) == {}
    assert "9 left" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_one_line_says_what_is_needed(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.gpu.main(["--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("expected a CUDA device") and error.count("\n") == 1
    assert program.gpu.main(["--device", "cpu", "--out", str(tmp_path)]) == 2
    assert program.gpu.main(["--models", "gpt", "--out", str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []


def test_without_peft_the_rest_runs_and_peft_is_tried_again(
    program: Program, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program.records, "METHODS", _some(program, "full", "lora"))
    with monkeypatch.context() as without:
        without.setattr(program.cases.importlib.util, "find_spec", lambda _: None)
        run("bert-base")
    records = _records(tmp_path)
    assert records["bert-base", "full", "eager"]["status"] == "measured"
    assert records["bert-base", "lora", "eager"]["status"] == "skipped"
    assert "pip install" in records["bert-base", "lora", "eager"]["reason"]
    run("bert-base", options=("--run", "another"))
    assert _records(tmp_path)["bert-base", "lora", "eager"]["status"] == "measured"


def _some(program: Program, *names: str) -> dict[str, Any]:
    return {name: program.cases.METHODS[name] for name in names}


def test_where_full_does_not_fit_the_fallback_is_the_reference(
    program: Program, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program.records, "METHODS", _some(program, "full", "sparse_upper"))
    case = program.sitting.Case

    def too_large(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "full":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return case(name, *arguments, **options)

    monkeypatch.setattr(program.sitting, "Case", too_large)
    # Held at once first, then one by one.
    assert run("llama-1b") == 0
    records = _records(tmp_path)
    full = records["llama-1b", "full", "eager"]
    assert full["status"] == "does not fit"
    assert "(20 bytes each)" in full["reason"] and "2 GiB" in full["reason"]
    fallback = records["llama-1b", "full_no_masters", "eager"]
    assert (fallback["status"], fallback["ratio_median"]) == ("measured", pytest.approx(1))
    sparse = records["llama-1b", "sparse_upper", "eager"]
    assert (sparse["status"], sparse["reference"]) == ("measured", "full_no_masters")


def test_a_failed_method_is_recorded_and_the_others_go_on(
    program: Program, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program.records, "METHODS", _some(program, "full", "lora", "sparse"))
    case = program.sitting.Case

    def failing(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "sparse":
            raise RuntimeError("an illegal memory access")
        return case(name, *arguments, **options)

    monkeypatch.setattr(program.sitting, "Case", failing)
    run("minilm")
    status = {method: record["status"] for (_, method, _), record in _records(tmp_path).items()}
    assert status == {"full": "measured", "lora": "measured", "sparse": "failed"}


class _Capturer:
    """Captures on the CPU what has no SHiRA in it; one failure ends it, as on a GPU."""

    def __init__(self, capture_error: type[Exception]) -> None:
        self.usable, self._error = True, capture_error

    def capture(self, case: Any) -> Any:
        if "shira" in case.name:
            self.usable = False
            raise self._error("RuntimeError: operation not permitted when stream is capturing")
        return case.step


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_step_that_cannot_be_captured_is_recorded(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_by_one: bool
) -> None:
    names = ("full", "sparse_upper", "shira", "shira_upper")
    monkeypatch.setattr(program.records, "METHODS", _some(program, *names))
    for name in ("max_memory_allocated", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: 0)
    monkeypatch.setattr(
        program.sitting, "Capturer", lambda _: _Capturer(program.capture.CaptureError)
    )
    modes = ("eager", "graphs")
    records = program.records.Records(tmp_path, {"commit": "c", "device": "cpu"}, "run")
    shape = program.shapes.SHAPES["minilm"].tiny()
    processes = 0
    while left := records.pending("minilm", modes):
        sitting = program.sitting.Sitting(
            "minilm", shape, records, torch.device("cpu"), modes, float("inf")
        )
        assert sitting.measure(one_by_one)
        assert len(records.pending("minilm", modes)) < len(left)
        processes += 1
    assert processes == 2  # a new one after the first failed capture; the second has the last word
    found = _records(tmp_path)
    assert all(found["minilm", name, "eager"]["status"] == "measured" for name in names)
    assert found["minilm", "sparse_upper", "graphs"]["ratio_median"] > 0
    for name in ("shira", "shira_upper"):
        record = found["minilm", name, "graphs"]
        assert record["status"] == "cannot be captured" and "capturing" in record["reason"]


def test_a_process_for_each_model_is_told_what_to_do(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def started(command: list[str], **_: Any) -> Any:
        seen.append(command)
        return SimpleNamespace(returncode=4)

    monkeypatch.setattr(program.gpu.subprocess, "run", started)
    records = program.records.Records(tmp_path, {"device": "some gpu"}, "a-run")
    options = program.gpu._parser().parse_args(["--out", str(tmp_path), "--one-by-one"])
    assert program.gpu._in_a_process("minilm", options, records, 90.4) == 4
    child = program.gpu._parser().parse_args(seen[0][2:])
    assert Path(seen[0][1]).name == "gpu.py"
    assert (child.child, child.run, child.seconds, child.out) == ("minilm", "a-run", 90, tmp_path)
    assert child.one_by_one and not child.tiny and child.device == "cuda"

    # It did not fit at once, and then nothing could be measured: two processes, no more.
    seen.clear()
    options.one_by_one = False
    device, modes = torch.device("cuda"), ("eager", "graphs")
    program.gpu._all_of("minilm", options, records, device, modes, float("inf"))
    assert [("--one-by-one" in command) for command in seen] == [False, True]


# --- cases


def _batches(model: Any, count: int = 2) -> list[dict[str, Tensor]]:
    return [tiny_batch(model, seed=seed) for seed in range(count)]


def test_a_step_changes_what_is_trained_and_nothing_else(program: Program) -> None:
    for name, method in program.cases.METHODS.items():
        if method.kind in ("lora", "shira"):  # their r is too large for this model
            continue
        model = tiny("bert").to(torch.bfloat16)
        model.head.float()
        case = program.cases.Case(name, model, _batches(model), analyse=False)
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        for group in case.update.optimizer.param_groups:
            group["lr"] = 0.1  # bfloat16 would not show a small step
        case.step()
        changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        layers = {int(n.split("layer.")[1].split(".")[0]) for n in changed if "layer." in n}
        lowest = {"full": 0, "sparse": 0, "sparse_quarter": 2}.get(name, 1)
        assert min(layers) == lowest, name
        assert ("backbone.embeddings.word_embeddings.weight" in changed) == (name == "full")
        assert all(p.grad is None for p in model.parameters())


class _Looks(TorchDispatchMode):
    """Notes the operations by which a host reads a device's values, and so waits for it."""

    _NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_coalesce", "_unique2")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        name = function._schema.name.split("::")[1]
        if name in self._NAMES:
            self.seen.append(name)
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("model", ["llama-1b", "modernbert-base"])
def test_no_step_waits_for_the_device(program: Program, model: str) -> None:
    """A CUDA graph could not be captured otherwise."""
    shape, device = program.shapes.SHAPES[model].tiny(), torch.device("cpu")
    batch = program.shapes.static_batch(shape, device)
    for name in program.cases.METHODS:
        built = program.shapes.build(shape, device)
        case = program.cases.Case(name, built, [batch], analyse=False)
        case.step()
        with _Looks() as looks:
            case.step()
        assert looks.seen == [], name


def test_both_optimizers_clip_alike(program: Program) -> None:
    first, second = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    for parameter, sparse in ((first, False), (second, True)):
        update = program.cases.Update([parameter], sparse=sparse)
        for size in (100.0, 0.1):  # without clipping the first gradient would drown the second
            parameter.grad = torch.tensor([size, -size, 0.0])
            update()
    assert torch.equal(first, second)
    step = program.cases.LEARNING_RATE * torch.tensor([1.0, -1.0, 0.0])
    assert not torch.allclose(-first, 2 * step, rtol=1e-3)


def test_masters_keep_what_bfloat16_cannot_show(program: Program) -> None:
    weight = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    update = program.cases.Update([weight], sparse=False)
    for _ in range(600):  # steps of 1e-5 near 1, where bfloat16's spacing is 4e-3 below it
        weight.grad = torch.ones_like(weight)
        update()
    assert torch.allclose(weight.float(), torch.full((4,), 1 - 600e-5), atol=4e-3)
    assert (weight < 1).all() and weight.grad is None
    # Master and two moments of four numbers each, and the step's count.
    assert update.state_bytes() == 3 * 4 * 4 + 4


def test_a_random_selection_has_the_structure_and_budget_of_an_analysis(program: Program) -> None:
    import sparseft

    model = tiny("llama")
    # Wide enough for both kinds of units.
    analysed = sparseft.analyze(
        model, _batches(model), budget=sparseft.Budget(density=0.3), depth=0.7, seed=0
    )
    first, again, other = (
        program.cases.random_selection(model, 0.1, 0.7, length=7, seed=seed) for seed in (0, 0, 1)
    )
    assert first.to_dict() == again.to_dict() != other.to_dict()
    assert first.backbone_parameters == analysed.backbone_parameters
    assert 0.08 < first.density <= 0.1 and first.lowest_layer >= 1
    structures = {(m.module.split(".", 3)[3], m.structure, m.bias) for m in analysed.modules}
    assert {(m.module.split(".", 3)[3], m.structure, m.bias) for m in first.modules} <= structures
    sparseft.sparsify(model, first, verify_base=False)


def test_the_bytes_of_a_step_are_exact(program: Program) -> None:
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 5)

        def forward(self, x: Tensor) -> Any:
            return SimpleNamespace(loss=(self.linear(x) ** 2).sum())

    model = Square()
    update = program.cases.Update(list(model.parameters()), sparse=False)
    batch = {"x": torch.ones(7, 3)}
    counted = program.memory.step_bytes(
        SimpleNamespace(model=model, update=update, batch=lambda _: batch)
    )
    assert counted == {
        "weight_bytes": 20 * 4,
        "forward_bytes": 7 * 5 * 4,  # the linear's output; its input is the batch
        "gradient_bytes": 20 * 4,
        "optimizer_state_bytes": 2 * 20 * 4 + 2 * 4,  # and two step counts
        "held_bytes": (20 + 35 + 20 + 40 + 2) * 4,
    }


def test_fewer_trained_weights_hold_fewer_bytes(program: Program) -> None:
    held = {}
    for name in ("full", "layers_upper", "sparse", "sparse_upper"):
        model = tiny("bert")
        case = program.cases.Case(name, model, _batches(model))
        held[name] = program.memory.step_bytes(case)
        assert held[name]["gradient_bytes"] == 4 * case.trained
        assert program.memory.step_bytes(case) == held[name]
    assert held["sparse_upper"]["forward_bytes"] < held["sparse"]["forward_bytes"]
    assert held["sparse"]["forward_bytes"] < held["full"]["forward_bytes"]
    assert held["layers_upper"]["held_bytes"] < held["full"]["held_bytes"]


# --- turns, targets, tables


def test_turns_are_shuffled_and_the_first_rounds_are_dropped(program: Program) -> None:
    taken: list[tuple[str, int]] = []
    steps = {name: lambda i, name=name: taken.append((name, i)) for name in "abc"}
    seconds = program.timing.take_turns(steps, rounds=6, warm_up=2, steps_a_turn=2)
    assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys("abc", 6)
    rounds = [taken[start : start + 6] for start in range(0, len(taken), 6)]
    assert len(rounds) == 8
    for number, round_ in enumerate(rounds):
        assert {name for name, _ in round_} == set("abc")
        assert {index for _, index in round_} == {2 * number, 2 * number + 1}
    assert len({tuple(name for name, _ in round_) for round_ in rounds}) > 1
    late = program.timing.take_turns(steps, rounds=6, warm_up=0, deadline=0.0)
    assert len(late["a"]) == 3


def test_targets_are_met_missed_or_not_run(program: Program) -> None:
    def record(method: str, ratio: float, peak: int, mode: str = "eager") -> dict[str, Any]:
        return {
            "model": "llama-1b", "method": method, "mode": mode, "status": "measured",
            "ratio_median": ratio, "memory": {"peak_bytes": peak},
        }  # fmt: skip

    lines = program.targets.verdicts(
        [
            record("full", 1.0, 100),
            record("sparse", 0.8, 50),
            record("sparse_upper", 0.4, 30),
            record("lora_upper", 0.5, 20),
            {"model": "llama-1b", "method": "shira", "mode": "eager", "status": "failed"},
        ]
    )
    text = "\n".join(lines)
    assert "upper half: at least 2x faster than full: llama-1b met (2.50x)" in text
    assert "all depths: at least 1.5x faster than full: llama-1b missed by 20% (1.25x)" in text
    assert "upper half: faster than LoRA, upper half: llama-1b met (0.80); minilm not run" in text
    assert "all depths: faster than SHiRA, all depths: llama-1b not run" in text
    assert (
        "all depths: peak memory at most 0.4 of that of full: llama-1b missed by 25% (0.50)" in text
    )
    assert "at most that of LoRA, upper half: llama-1b missed by 50% (1.50)" in text


def test_the_readme_shows_the_records(program: Program) -> None:
    text = (_FOLDER / "README.md").read_text(encoding="utf-8")
    assert text.count("<!-- table: ") == 3
    again = "run `python experiments/step_time/table.py --write`"
    assert program.table.filled(text, _FOLDER) == text, again


def test_tables_of_new_records(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("bert")
    monkeypatch.setattr(program.bench, "METHODS", _some(program, "full", "sparse"))
    rows = program.bench.measure(model, _batches(model, 3), rounds=3, warm_up=1)
    environment = {"threads": 1, "device": "cpu", "torch": "2", "commit": "0123456789"}
    record = {
        "model": "tiny", "data": "none", "batch_size": 4, "largest_batch": [4, 7], "rounds": 3,
        "environment": environment, "methods": rows,
    }  # fmt: skip
    table = program.table.cpu_table(record)
    assert "4 texts of 7 tokens" in table and "| **sparse 5%, all depths** |" in table
    shown = {
        "model": "minilm", "mode": "graphs", "batch": 2, "length": 8, "environment": environment,
    }  # fmt: skip
    measured = {
        **shown, "method": "full", "label": "full", "status": "measured", "reference": "full",
        "order": "interleaved", "trained_parameters": 10, "tokens_per_second": 16.0,
        **{f"{name}_{part}": 1.0 for name in ("ms", "ratio") for part in ("p20", "median", "p80")},
        "memory": {"peak_bytes": 2**30, "optimizer_state_bytes": 2**29},
    }  # fmt: skip
    failed = {
        **shown, "method": "shira", "label": "SHiRA", "status": "cannot be captured",
        "reason": "RuntimeError: a | b\nmore",
    }  # fmt: skip
    folder = tmp_path / "gpu" / "some-gpu"
    folder.mkdir(parents=True)
    for number, content in enumerate((measured, failed)):
        (folder / f"{number}.json").write_text(json.dumps(content))
    table = program.table.gpu_tables(folder.parent)
    assert "**minilm, with CUDA graphs**" in table
    assert "| full | 10 | 1.00 | 1 | 16 | 1.00 | 1.00 | 0.50 |" in table
    assert "| SHiRA |  | cannot be captured: RuntimeError: a / b |" in table
