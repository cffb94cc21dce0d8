"""Milliseconds of one training step of each method, as ratios to full finetuning's.

    python experiments/step_time/bench.py            writes results/minilm-cpu.json

All methods are prepared first and then take turns in a shuffled order, round after round, each
round on its own real batch: whatever else the machine does falls on all alike. A ratio is taken
inside a round; the record holds its median and 20th and 80th percentile over the rounds.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sparseft import files, methods, models
from sparseft.config import RunConfig
from sparseft.data import BatchLoader, load_data
from sparseft.methods import MethodContext
from sparseft.paths import conf_dir
from sparseft.results import environment
from sparseft.selection.layout import layout_of
from sparseft.training.devices import device_name, seed_everything
from sparseft.training.schedule import make_optimizer

CASES: dict[str, tuple[str, ...]] = {
    "full": ("method=full",),
    "lora": ("method=lora",),
    "lora_upper": ("method=lora_upper",),
    "shira": ("method=shira",),
    "layers (upper half)": ("method=layers",),
    "sparse, all depths": ("method=sparse", "method.depth=1.0"),
    "sparse, upper half": ("method=sparse", "method.depth=0.5"),
    "sparse, upper quarter": ("method=sparse", "method.depth=0.25"),
}


def _config(overrides: tuple[str, ...]) -> RunConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composed = compose("config", list(overrides))
    mapping: Any = OmegaConf.to_container(composed, resolve=True)
    return RunConfig.from_mapping(mapping)


class Case:
    """One method, ready to step."""

    def __init__(self, overrides: tuple[str, ...], data: Any, device: torch.device) -> None:
        config = _config(overrides)
        seed_everything(config.seed)
        loaded = models.load(config.model, data.num_labels, data.multi_label, config.seed)
        loaded.model.to(device)
        loader = BatchLoader(
            data.train, loaded.tokenizer, config.training.batch_size, config.model.max_length,
            seed=0, shuffle=True, device=device,
        )  # fmt: skip
        self.batches = [{k: v for k, v in batch.items() if k != "indices"} for batch in loader]
        options = {k: v for k, v in config.method.items() if k not in ("name", "lr")}
        context = MethodContext(
            batches=lambda count: self.batches[:count],
            seed=config.seed,
            num_layers=len(layout_of(loaded.model).layers),
            options=options,
        )
        prepared = methods.get(str(config.method["name"]))(loaded.model, context)
        self.model, self.parameters = prepared.model, [*prepared.body, *prepared.head]
        self.optimizer = make_optimizer(prepared, lr=1e-5, head_lr=1e-5, weight_decay=0.0)
        self.trained = sum(p.numel() for p in self.parameters)
        self.density = None if prepared.selection is None else prepared.selection.density
        self.predicted = (
            None if prepared.selection is None else prepared.selection.info["predicted_step_share"]
        )
        self.model.train()

    def step(self, index: int) -> float:
        """Seconds of forward, backward and update on one batch."""
        batch = self.batches[index % len(self.batches)]
        started = time.perf_counter()
        self.model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - started


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--data", default="trec")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--warm-up", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    common = (f"model={arguments.model}", f"data={arguments.data}")
    data = load_data(_config(common).data, 0)
    cases = {name: Case((*common, *overrides), data, device) for name, overrides in CASES.items()}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    gc.disable()
    for round_ in range(arguments.warm_up + arguments.rounds):
        order = list(cases)
        random.Random(round_).shuffle(order)
        for name in order:
            taken = cases[name].step(round_)
            if round_ >= arguments.warm_up:
                seconds[name].append(taken)
        gc.collect()
    rows = {}
    for name, case in cases.items():
        ratios = [mine / full for mine, full in zip(seconds[name], seconds["full"], strict=True)]
        rows[name] = {
            "ms_median": 1e3 * statistics.median(seconds[name]),
            "ms_p20": 1e3 * _percentile(seconds[name], 0.2),
            "ms_p80": 1e3 * _percentile(seconds[name], 0.8),
            "ratio_median": statistics.median(ratios),
            "ratio_p20": _percentile(ratios, 0.2),
            "ratio_p80": _percentile(ratios, 0.8),
            "predicted_ratio": case.predicted,
            "trained_parameters": case.trained,
            "density": case.density,
        }
        row = rows[name]
        print(
            f"{name:24s} {row['ms_median']:8.1f} ms   ratio {row['ratio_median']:.3f} "
            f"({row['ratio_p20']:.3f} to {row['ratio_p80']:.3f})   {case.trained:>12,} trained"
        )
    record = {
        "model": arguments.model,
        "data": arguments.data,
        "batch_size": 16,
        "rounds": arguments.rounds,
        "environment": environment(device_name(device), torch.get_num_threads()),
        "methods": rows,
    }
    print(files.write_json(arguments.out / f"{arguments.model}-{device.type}.json", record))


if __name__ == "__main__":
    main()
