"""Predicted against measured step times of settings that the calibration never saw.

    python experiments/calibration/measure.py            measures, writes results/ and the table
    python experiments/calibration/measure.py --table    writes the table of README.md again

One calibration, then selections that `analyze` makes under densities and step times, with several
depths and units, with and without the prefix cache. All of them and full finetuning take turns in
a shuffled order on the same real batches; a share is taken inside a round. Two clocks run: the
wall's, and with one thread on a CPU the thread's own, which other processes do not move.
"""

from __future__ import annotations

import argparse
import copy
import gc
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from sparseft import files, models
from sparseft.analysis import analyze
from sparseft.config import RunConfig
from sparseft.data import BatchLoader, load_data
from sparseft.methods.base import prepared
from sparseft.models import TextClassifier
from sparseft.paths import conf_dir
from sparseft.results import environment
from sparseft.selection import Budget, layout_of
from sparseft.selection.calibration import Calibration, calibrate
from sparseft.selection.cost import step_cost
from sparseft.sparse import sparsify
from sparseft.training import PrefixCache
from sparseft.training.devices import device_name, seed_everything, synchronize
from sparseft.training.loop import accumulate
from sparseft.training.schedule import make_optimizer

_FOLDER = Path(__file__).parent
_MARK = re.compile(r"(<!-- table -->\n).*?(<!-- end of table -->)", re.DOTALL)
_LEAST_ROUNDS = 5
_RULES = ("worth", "merit", "marginal")

Batches = Sequence[Mapping[str, Tensor]]


@dataclass(frozen=True)
class Setting:
    """What `analyze` is asked for."""

    budget: Budget
    depth: float | str
    units: tuple[str, ...] = ("neuron", "head")
    cached: bool = False

    @property
    def name(self) -> str:
        """For the table."""
        share = self.budget.density or self.budget.step_time
        kind = "density" if self.budget.density else "step_time"
        cache = ", prefix cache" if self.cached else ""
        return f"{kind} {share:g}, depth {self.depth}, {' + '.join(self.units)}{cache}"


SETTINGS = (
    Setting(Budget(density=0.02), 1.0),
    Setting(Budget(density=0.2), 1.0),
    Setting(Budget(density=0.05), 0.5),
    Setting(Budget(density=0.1), 0.33),
    Setting(Budget(density=0.05), 0.67, ("neuron",)),
    Setting(Budget(density=0.05), 0.33, ("row",)),
    Setting(Budget(step_time=0.6), "auto"),
    Setting(Budget(step_time=0.5), 0.33),
    Setting(Budget(density=0.05), 0.5, cached=True),
    Setting(Budget(density=0.1), 0.33, ("neuron",), cached=True),
    Setting(Budget(step_time=0.4), "auto", cached=True),
)


@dataclass
class Case:
    """A model that is ready to step."""

    model: TextClassifier
    batches: Batches
    cache: PrefixCache | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind = "sparse_adamw" if self.facts else "adamw"
        ready = prepared(self.model, optimizer=kind)
        self.parameters = [*ready.body, *ready.head]
        # A rate at which nothing diverges; it does not change what a step costs.
        self.optimizer = make_optimizer(ready, lr=1e-5, head_lr=1e-5, weight_decay=0.0)
        self.model.train()

    def step(self, index: int) -> tuple[float, float]:
        """Processor and wall seconds of forward, backward, clipping and update on one batch."""
        batch = self.batches[index % len(self.batches)]
        device = self.parameters[0].device
        synchronize(device)
        started, own = time.perf_counter(), time.thread_time()
        accumulate(self.model, [batch], "off", self.cache)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        synchronize(device)
        wall = time.perf_counter() - started
        alone = device.type == "cpu" and torch.get_num_threads() == 1
        return (time.thread_time() - own if alone else wall), wall


def sparse_case(
    model: TextClassifier, batches: Batches, setting: Setting, calibration: Calibration
) -> Case:
    """The setting on its own copy of the model, with both models' predictions."""
    selection = analyze(
        model, batches[:4], budget=setting.budget, depth=setting.depth, units=setting.units,
        saliency="uniform", cost=calibration, prefix_cache=setting.cached,
    )  # fmt: skip
    flops = flops_share(model, batches, setting, selection.trained, selection.lowest_layer)
    facts = {
        "setting": setting.name,
        "lowest_layer": selection.lowest_layer,
        "density": selection.density,
        "predicted": selection.info["predicted_step_share"],
        "predicted_by_flops": flops,
        "optimality_gap": selection.info["optimality_gap"],
    }
    own = copy.deepcopy(model)
    sparsify(own, selection, verify_base=False)
    cache = PrefixCache.build(own, batches, progress="off") if setting.cached else None
    return Case(own, batches, cache, facts)


def flops_share(
    model: TextClassifier, batches: Batches, setting: Setting, trained: int, lowest: int
) -> float:
    """What counting FLOPs predicts for the same selection."""
    length = sum(batch["input_ids"].shape[1] for batch in batches) / len(batches)
    cost = step_cost(layout_of(model), length, prefix_cache=setting.cached)
    return cost.share(lowest, trained)


def take_turns(cases: Sequence[Case], seconds: float, warm_up: int) -> np.ndarray:
    """Seconds of a step, float64 [rounds, cases, clocks]; for about `seconds` in all."""
    deadline = time.perf_counter() + seconds
    rounds: list[list[tuple[float, float]]] = []
    gc.disable()
    number = 0
    while len(rounds) < _LEAST_ROUNDS or time.perf_counter() < deadline:
        order = list(range(len(cases)))
        random.Random(number).shuffle(order)
        taken = {index: cases[index].step(number) for index in order}
        if number >= warm_up:
            rounds.append([taken[index] for index in range(len(cases))])
        number += 1
        gc.collect(0)
    gc.enable()
    return np.array(rounds)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The record."""
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, batches, config = load(options, device)
    calibration = calibrate(model, batches, seconds=options.calibration_seconds)
    print(f"calibrated in {calibration.seconds:.1f} s, {calibration.rounds} rounds")
    depths = depth_rules(model, batches, calibration)
    cases = [sparse_case(model, batches, setting, calibration) for setting in SETTINGS]
    # Last: all of its weights are trained.
    cases.append(Case(model.requires_grad_(True), batches))
    seconds = take_turns(cases, options.seconds, options.warm_up)
    rows = []
    for index, case in enumerate(cases[:-1]):
        shares = seconds[:, index] / seconds[:, -1]  # [rounds, clocks]
        p20, median, p80 = np.percentile(shares[:, 0], [20, 50, 80]).tolist()
        rows.append({
            **case.facts,
            "measured": median,
            "measured_p20": p20,
            "measured_p80": p80,
            "measured_ms": float(1e3 * np.median(seconds[:, index, 0])),
            "measured_by_wall": float(np.median(shares[:, 1])),
        })  # fmt: skip
    return {
        "model": options.model,
        "data": config.data.name,
        "rows": options.rows,
        "batch_size": options.batch_size,
        "rounds": len(seconds),
        "full_ms": float(1e3 * np.median(seconds[:, -1, 0])),
        "full_ms_by_wall": float(1e3 * np.median(seconds[:, -1, 1])),
        "environment": environment(device_name(device), torch.get_num_threads()),
        "shared_machine": options.shared,
        "calibration": {
            "seconds": calibration.seconds,
            "rounds": calibration.rounds,
            "length": calibration.length,
            "full_ms": calibration.full_ms,
            "forward_ms": calibration.forward_ms,
            "parts_ms": dict(calibration.parts_ms),
            "held_out_error": calibration.held_out_error,
            "cases": list(calibration.cases),
        },
        "depth_rules": depths,
        "settings": rows,
    }


def load(
    options: argparse.Namespace, device: torch.device
) -> tuple[TextClassifier, Batches, RunConfig]:
    """Model, training batches and configuration."""
    overrides = [f"model={options.model}", f"data={options.data}", f"data.rows={options.rows}"]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        mapping: Any = OmegaConf.to_container(compose("config", overrides), resolve=True)
    config = RunConfig.from_mapping(mapping)
    data = load_data(config.data, 0)
    seed_everything(0)  # dropout
    loaded = models.load(config.model, data.num_labels, data.multi_label, config.seed)
    loaded.model.to(device)
    loader = BatchLoader(
        data.train, loaded.tokenizer, options.batch_size, config.model.max_length,
        seed=0, shuffle=True, device=device,
    )  # fmt: skip
    batches = [{k: v for k, v in batch.items() if k != "indices"} for batch in loader]
    return loaded.model, batches, config


def depth_rules(
    model: TextClassifier, batches: Batches, calibration: Calibration
) -> list[dict[str, Any]]:
    """The lowest layer that each rule picks at a density of 5%."""
    found = []
    for cached in (False, True):
        for rule in _RULES:
            selection = analyze(
                model, batches[:4], budget=Budget(density=0.05), saliency="uniform",
                depth_rule=rule, cost=calibration, prefix_cache=cached,
            )  # fmt: skip
            share = selection.info["predicted_step_share"]
            found.append({
                "rule": rule, "prefix_cache": cached, "lowest_layer": selection.lowest_layer,
                "predicted": share,
            })  # fmt: skip
    return found


def table(record: Mapping[str, Any]) -> str:
    """README's table of a record."""
    where, fit = record["environment"], record["calibration"]
    shared = ", on a machine that others used as well" if record["shared_machine"] else ""
    errors = {
        name: np.abs([row[name] / row["measured"] - 1.0 for row in record["settings"]])
        for name in ("predicted", "predicted_by_flops")
    }
    lines = [
        f"{record['model']} on {record['rows']} rows of {record['data']}, batches of "
        f"{record['batch_size']}, {record['rounds']} rounds, {where['threads']} thread(s) of "
        f"{where['device']}, torch {where['torch']}, commit {where['commit'][:7]}{shared}. Full "
        f"finetuning: {record['full_ms']:.0f} ms of the processor, {record['full_ms_by_wall']:.0f} "
        f"by the wall's clock. Calibration: {fit['seconds']:.0f} s, "
        f"{fit['rounds']} rounds, error on its own held-out steps "
        f"{100 * fit['held_out_error']:.1f}%.",
        "",
        "| selection | lowest layer | trained | measured share | by the wall's clock | calibrated "
        "| error | by FLOPs | error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in record["settings"]:
        shares = [
            cell
            for name in ("predicted", "predicted_by_flops")
            for cell in (f"{row[name]:.3f}", f"{100 * (row[name] / row['measured'] - 1):+.0f}%")
        ]
        lines.append(
            f"| {row['setting']} | {row['lowest_layer']} | {100 * row['density']:.1f}% | "
            f"{row['measured']:.3f} ({row['measured_p20']:.3f} to {row['measured_p80']:.3f}) | "
            f"{row['measured_by_wall']:.3f} | {' | '.join(shares)} |"
        )
    means = [f"{100 * errors[name].mean():.1f}%" for name in errors]
    lines += [
        f"| **mean of the absolute errors** | | | | | | **{means[0]}** | | **{means[1]}** |",
        "",
        "Depth by rule, at a density of 5% (the lowest layer, and the predicted share):",
        "",
        "| rule | without cache | with prefix cache |",
        "|---|---|---|",
    ]
    for rule in _RULES:
        cells = [
            f"{row['lowest_layer']} ({row['predicted']:.2f})"
            for row in record["depth_rules"]
            if row["rule"] == rule
        ]
        lines.append(f"| {rule} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", default="minilm", help="a file of conf/model")
    parser.add_argument("--data", default="trec", help="a file of conf/data")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=150.0, help="of the turns")
    parser.add_argument("--calibration-seconds", type=float, default=12.0)
    parser.add_argument("--warm-up", type=int, default=2, help="rounds that are not kept")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shared", action="store_true", help="note that the machine was shared")
    parser.add_argument("--table", action="store_true", help="only write the table again")
    options = parser.parse_args()
    path = _FOLDER / "results" / f"{options.model}.json"
    if not options.table:
        files.write_json(path, measure(options))
    made = table(files.read_json(path))
    readme = _FOLDER / "README.md"
    text = readme.read_text(encoding="utf-8")
    files.write_text(readme, _MARK.sub(lambda match: match[1] + made + match[2], text))
    print(made)


if __name__ == "__main__":
    main()
