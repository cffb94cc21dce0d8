"""The whole training step on a CPU: every method, on a pretrained model and real batches, float32.

    python experiments/step_time/bench.py --model minilm       writes results/minilm-cpu.json
    python experiments/step_time/bench.py --model smollm2      writes results/smollm2-cpu.json

All methods are prepared first and then take turns in a shuffled order, round after round, each
round on its own batch: whatever else the machine does falls on all alike. A ratio is taken inside
a round; the record holds its median and 20th and 80th percentile over the rounds. The bytes that a
step holds are counted, not measured (`memory.py`), on the largest of the batches.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from cases import METHODS, Case, MissingPackage, spec_of
from hydra import compose, initialize_config_dir
from memory import step_bytes
from omegaconf import OmegaConf
from timing import figures, ratios, take_turns
from torch import Tensor

from sparseft import files, models
from sparseft.config import RunConfig
from sparseft.data import BatchLoader, load_data
from sparseft.models import TextClassifier
from sparseft.paths import conf_dir
from sparseft.results import environment
from sparseft.training.devices import device_name, seed_everything

Batches = Sequence[Mapping[str, Tensor]]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", default="minilm", help="a file of conf/model")
    parser.add_argument("--data", default="intent", help="a file of conf/data")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--warm-up", type=int, default=4, help="rounds that are not kept")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cpu")
    config = _config((f"model={options.model}", f"data={options.data}"))
    data = load_data(config.data, 0)
    loaded = models.load(config.model, data.num_labels, data.multi_label, config.seed)
    loader = BatchLoader(
        data.train, loaded.tokenizer, options.batch_size, config.model.max_length,
        seed=0, shuffle=True, device=device,
    )  # fmt: skip
    batches = [{k: v for k, v in batch.items() if k != "indices"} for batch in loader]
    largest = _largest(batches, options.warm_up + options.rounds)
    record = {
        "model": options.model,
        "data": options.data,
        "batch_size": options.batch_size,
        "largest_batch": list(batches[largest]["input_ids"].shape),  # [texts, tokens]
        "rounds": options.rounds,
        "environment": environment(device_name(device), torch.get_num_threads()),
        "methods": measure(loaded.model, batches, options.rounds, options.warm_up),
    }
    print(files.write_json(options.out / f"{options.model}-cpu.json", record))


def _config(overrides: tuple[str, ...]) -> RunConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composed = compose("config", list(overrides))
    mapping: Any = OmegaConf.to_container(composed, resolve=True)
    return RunConfig.from_mapping(mapping)


def measure(
    model: TextClassifier, batches: Batches, rounds: int, warm_up: int
) -> dict[str, dict[str, Any]]:
    """What a step of each method costs on `model`, which stays as it is; by method."""
    seed_everything(0)  # dropout
    cases = {}
    for name in METHODS:
        try:
            cases[name] = Case(name, copy.deepcopy(model), batches)
        except MissingPackage as error:
            print(f"{spec_of(name).label}: left out. {error}")
    largest = _largest(batches, warm_up + rounds)
    memory = {name: step_bytes(case, largest) for name, case in cases.items()}
    seconds = take_turns(
        {name: case.step for name, case in cases.items()}, rounds=rounds, warm_up=warm_up
    )
    rows = {}
    for name, case in cases.items():
        rows[name] = {
            "label": spec_of(name).label,
            **figures(seconds[name], "ms", 1e3),
            **figures(ratios(seconds[name], seconds["full"]), "ratio"),
            **case.facts(),
            "memory": memory[name],
        }
        row = rows[name]
        print(
            f"{row['label']:26s} {row['ms_median']:8.1f} ms   ratio {row['ratio_median']:.3f} "
            f"({row['ratio_p20']:.3f} to {row['ratio_p80']:.3f})   holds "
            f"{row['memory']['held_bytes'] / 1e6:.0f} MB   {case.trained:,} trained"
        )
    return rows


def _largest(batches: Batches, used: int) -> int:
    """The number of the batch with the most tokens among the first `used`."""
    return max(range(min(used, len(batches))), key=lambda i: batches[i]["input_ids"].numel())


if __name__ == "__main__":
    main()
