"""What a training step costs with and without the prefix cache, as shares of full finetuning's.

    python experiments/prefix_cache/measure.py            measures, writes results/ and the table
    python experiments/prefix_cache/measure.py --table    writes the table of README.md again

All methods are prepared first and then take turns in a shuffled order, round after round, each
round on its own batch: whatever else the machine does falls on all alike. A ratio is taken inside
a round; the record holds its median and 20th and 80th percentile over the rounds.
"""

from __future__ import annotations

import argparse
import copy
import gc
import random
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from sparseft import files, methods, models
from sparseft.config import RunConfig
from sparseft.data import BatchLoader, load_data
from sparseft.methods import MethodContext
from sparseft.models import TextClassifier
from sparseft.paths import conf_dir
from sparseft.results import environment
from sparseft.selection.layout import layout_of
from sparseft.training import PrefixCache
from sparseft.training.devices import device_name, seed_everything, synchronize
from sparseft.training.loop import accumulate
from sparseft.training.schedule import make_optimizer

_FOLDER = Path(__file__).parent
_MARK = re.compile(r"(<!-- table -->\n).*?(<!-- end of table -->)", re.DOTALL)

METHODS: dict[str, tuple[str, tuple[str, ...]]] = {
    "full": ("full", ("method=full",)),
    "layers": ("layers, upper half", ("method=layers",)),
    "lora_upper": ("LoRA, upper half", ("method=lora_upper",)),
    "sparse_half": ("sparse 5%, upper half", ("method=sparse", "method.depth=0.5")),
    "sparse_quarter": ("sparse 5%, upper quarter", ("method=sparse", "method.depth=0.25")),
    "probe": ("linear probe", ("method=probe",)),
}


def config_of(overrides: Sequence[str]) -> RunConfig:
    """The checked configuration of a command line."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composed = compose("config", list(overrides))
    mapping: Any = OmegaConf.to_container(composed, resolve=True)
    return RunConfig.from_mapping(mapping)


class Case:
    """One method on its own copy of the model, ready to step, from a cache or not."""

    def __init__(
        self,
        overrides: Sequence[str],
        model: TextClassifier,
        batches: Sequence[Mapping[str, Tensor]],
        where: str,
    ) -> None:
        config = config_of(overrides)
        context = MethodContext(
            batches=lambda count: [dict(batch) for batch in batches[:count]],
            seed=config.seed,
            num_layers=len(layout_of(model).layers),
            options={k: v for k, v in config.method.items() if k not in ("name", "lr")},
        )
        prepared = methods.get(str(config.method["name"]))(copy.deepcopy(model), context)
        self.batches = batches
        self.model, self.parameters = prepared.model, [*prepared.body, *prepared.head]
        # Rates at which nothing diverges; they do not change what a step costs.
        self.optimizer = make_optimizer(prepared, lr=1e-5, head_lr=1e-5, weight_decay=0.0)
        self.cache: PrefixCache | None = None
        if where != "off":
            self.cache = PrefixCache.build(self.model, batches, where=where, progress="off")
        self.model.train()

    def step(self, index: int) -> float:
        """Seconds of forward, backward, clipping and update on one batch."""
        batch = self.batches[index % len(self.batches)]
        device = self.parameters[0].device
        synchronize(device)
        started = time.perf_counter()
        accumulate(self.model, [batch], "off", self.cache)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        synchronize(device)
        return time.perf_counter() - started


def take_turns(cases: Mapping[str, Case], rounds: int, warm_up: int) -> dict[str, np.ndarray]:
    """Seconds of a step by case, float64 [rounds]."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    gc.disable()
    for round_ in range(warm_up + rounds):
        order = list(cases)
        random.Random(round_).shuffle(order)
        for name in order:
            taken = cases[name].step(round_)
            if round_ >= warm_up:
                seconds[name].append(taken)
        gc.collect()
    gc.enable()
    return {name: np.array(values) for name, values in seconds.items()}


def figures(values: np.ndarray, name: str) -> dict[str, float]:
    """Median, 20th and 80th percentile under `name_…`."""
    p20, median, p80 = np.percentile(values, [20, 50, 80]).tolist()
    return {f"{name}_median": median, f"{name}_p20": p20, f"{name}_p80": p80}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The record."""
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    common = (f"model={options.model}", f"data={options.data}", f"data.rows={options.rows}")
    config = config_of(common)
    data = load_data(config.data, 0)
    seed_everything(0)  # dropout
    loaded = models.load(config.model, data.num_labels, data.multi_label, config.seed)
    loaded.model.to(device)
    loader = BatchLoader(
        data.train, loaded.tokenizer, options.batch_size, config.model.max_length,
        seed=0, shuffle=True, device=device,
    )  # fmt: skip
    batches = [{k: v for k, v in batch.items() if k != "indices"} for batch in loader]
    cases: dict[str, Case] = {}
    for name, (_, overrides) in METHODS.items():
        for where in ("off",) if name == "full" else ("off", options.where):
            key = name if where == "off" else f"{name}_cached"
            cases[key] = Case((*common, *overrides), loaded.model, batches, where)
    seconds = take_turns(cases, options.rounds, options.warm_up)
    rows: dict[str, Any] = {}
    for key, case in cases.items():
        rows[key] = {
            **figures(1e3 * seconds[key], "ms"),
            **figures(seconds[key] / seconds["full"], "ratio"),
            "trained_parameters": sum(weight.numel() for weight in case.parameters),
        }
        if case.cache is not None:
            rows[key]["cache"] = {
                "layers": case.cache.layers,
                "bytes": case.cache.bytes,
                "texts": case.cache.texts,
                "tokens": case.cache.tokens,
                "seconds": case.cache.seconds,
            }
        row = rows[key]
        print(
            f"{key:24s} {row['ms_median']:8.1f} ms   ratio {row['ratio_median']:.3f} "
            f"({row['ratio_p20']:.3f} to {row['ratio_p80']:.3f})"
        )
    return {
        "model": options.model,
        "data": {"name": data.name, "sha256": data.sha256, "rows": loader.rows},
        "batch_size": options.batch_size,
        "batches": len(batches),
        "rounds": options.rounds,
        "where": options.where if options.where == "memory" else "file",
        "layers": len(layout_of(loaded.model).layers),
        "environment": environment(device_name(device), torch.get_num_threads()),
        "methods": rows,
    }


def table(record: Mapping[str, Any], epochs: int = 6) -> str:
    """The record as Markdown."""
    where = record["environment"]
    steps = epochs * record["batches"]
    full = record["methods"]["full"]["ms_median"] * steps
    lines = [
        f"{record['model']} on {record['data']['rows']} rows of {record['data']['name']}, batches "
        f"of {record['batch_size']}, {record['rounds']} rounds, {where['threads']} thread(s) of "
        f"{where['device']}, torch {where['torch']}, commit {where['commit'][:7]}, cache in "
        f"{record['where']}. Full finetuning: {record['methods']['full']['ms_median']:.0f} ms.",
        "",
        "| method | stored layers | step without cache | step with cache | with its building, "
        f"{epochs} epochs | cache, MB | built in, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (label, _) in METHODS.items():
        if name == "full":
            continue
        plain, cached = record["methods"][name], record["methods"][f"{name}_cached"]
        cache = cached["cache"]
        total = (cached["ms_median"] * steps + 1e3 * cache["seconds"]) / full
        lines.append(
            f"| {label} | {cache['layers']} of {record['layers']} | {_ratio(plain)} | "
            f"**{_ratio(cached)}** | {total:.2f} | {cache['bytes'] / 1e6:.1f} | "
            f"{cache['seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def _ratio(row: Mapping[str, Any]) -> str:
    digits = 2 if row["ratio_median"] > 0.02 else 3
    median, p20, p80 = (f"{row[f'ratio_{key}']:.{digits}f}" for key in ("median", "p20", "p80"))
    return f"{median} ({p20} to {p80})"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", default="minilm", help="a file of conf/model")
    parser.add_argument("--data", default="trec", help="a file of conf/data")
    parser.add_argument("--rows", type=int, default=600, help="drawn training rows")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--warm-up", type=int, default=4, help="rounds that are not kept")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--where", default="memory", help="memory, or a folder for files")
    parser.add_argument("--table", action="store_true", help="only write the table again")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    path = _FOLDER / "results" / f"{options.model}-{device}.json"
    if not options.table:
        print(files.write_json(path, measure(options)))
    # README.md shows the record of the default model on a CPU.
    shown, readme = _FOLDER / "results" / "minilm-cpu.json", _FOLDER / "README.md"
    if shown.exists():
        text = readme.read_text(encoding="utf-8")
        content = table(files.read_json(shown))
        files.write_text(readme, _MARK.sub(lambda m: m.group(1) + content + m.group(2), text))


if __name__ == "__main__":
    main()
