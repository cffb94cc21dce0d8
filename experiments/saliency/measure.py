"""Does each token saliency know what a finetuned model reads? Deletion and insertion curves.

    python experiments/saliency/measure.py            measures, writes results/ and the table
    python experiments/saliency/measure.py --table    writes the table of README.md again

A model is finetuned on a few hundred rows; on drawn test texts the true class's probability is
followed while the salient tokens are masked one after the other, and while they come back into a
fully masked text, against random orders of the same texts.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from sparseft import files
from sparseft.config import RunConfig
from sparseft.constructs import construct_saliency, mine
from sparseft.data import BatchLoader
from sparseft.paths import conf_dir
from sparseft.results import environment
from sparseft.saliency import integrated_gradients, saliency_curves, token_saliency
from sparseft.saliency.target import logits_of, row_losses
from sparseft.training import TrainedRun, execute
from sparseft.training.devices import device_name

_FOLDER = Path(__file__).parent
_MARK = re.compile(r"(<!-- table -->\n).*?(<!-- end of table -->)", re.DOTALL)

METHODS = {
    "gradient_x_input": "gradient × input",
    "gradient_norm": "gradient norm",
    "integrated_gradients": "integrated gradients",
    "attention_rollout": "attention roll-out",
    "constructs": "constructs, by score",
    "uniform": "uniform (control)",
}


def config_of(options: argparse.Namespace, output: str) -> RunConfig:
    """The configuration of the run that trains the model."""
    overrides = [
        f"model={options.model}",
        f"data={options.data}",
        f"data.rows={options.rows}",
        f"data.test_rows={options.texts}",
        "data.validation_rows=150",
        f"method={options.method}",
        f"training.epochs={options.epochs}",
        f"threads={options.threads}",
        f"output={output}",
        "training.save=none",
        "training.measure_flops=false",
        "tracking.wandb=off",
    ]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composed = compose("config", overrides)
    mapping: Any = OmegaConf.to_container(composed, resolve=True)
    return RunConfig.from_mapping(mapping)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The record."""
    found: dict[str, Any] = {}

    def look(run: TrainedRun) -> None:
        found.update(_curves(run, options))
        device = next(run.prepared.model.parameters()).device
        found["environment"] = environment(device_name(device), torch.get_num_threads())

    with tempfile.TemporaryDirectory() as output:
        result = execute(config_of(options, output), look).result
    return {
        "model": options.model,
        "method": options.method,
        "data": result.data,
        "accuracy": result.metrics["accuracy"],
        "epochs": options.epochs,
        **found,
    }


def _curves(run: TrainedRun, options: argparse.Namespace) -> dict[str, Any]:
    model, tokenizer, data = run.prepared.model, run.loaded.tokenizer, run.data
    device = next(model.parameters()).device
    loader = BatchLoader(
        data.test, tokenizer, 50, run.config.model.max_length, shuffle=False, device=device
    )
    batches = [{k: v for k, v in batch.items() if k != "indices"} for batch in loader]
    labels = data.train.labels
    constructs = mine(data.train.texts, labels, data.label_names, tokenizer)

    def membership(ids: Tensor, mask: Tensor, of: Tensor) -> Tensor:
        return construct_saliency(ids, mask, constructs, of, weight="score")

    seconds = dict.fromkeys(METHODS, 0.0)

    def weigh(name: str, batch: Mapping[str, Tensor]) -> Tensor:
        started = time.perf_counter()
        weights = token_saliency(model, batch, name, constructs=membership, steps=options.steps)
        seconds[name] += time.perf_counter() - started
        return weights

    mask_id = tokenizer.mask_token_id
    replacement = tokenizer.pad_token_id if mask_id is None else mask_id
    framing = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
    curves = saliency_curves(
        model,
        batches,
        {name: partial(weigh, name) for name in METHODS},
        replacement=replacement,
        special_ids=framing - {None},
        points=options.points,
        seeds=range(options.seeds),
    )
    errors, changes = [], []
    for batch in batches:
        path = integrated_gradients(
            model,
            batch,
            lambda m, b: row_losses(logits_of(m, b), b["labels"], data.multi_label),
            steps=options.steps,
        )
        errors.append(path.completeness_error)
        changes.append((path.end - path.start).abs())
    return {
        "texts": len(curves.tokens),
        "tokens_mean": float(curves.tokens.mean()),
        "points": options.points,
        "random_orders": options.seeds,
        "constructs": len(constructs),
        "integrated_gradients": {
            "steps": options.steps,
            "completeness_error_mean": float(torch.cat(errors).mean()),
            "loss_change_mean": float(torch.cat(changes).mean()),
        },
        "methods": {
            name: {
                "seconds": seconds[name],
                "deletion": asdict(curves.deletion(name)),
                "insertion": asdict(curves.insertion(name)),
                "deletion_curve": curves.by_method[name].deletion.mean(0).tolist(),
                "insertion_curve": curves.by_method[name].insertion.mean(0).tolist(),
            }
            for name in METHODS
        },
    }


def table(record: Mapping[str, Any]) -> str:
    """The record as Markdown."""
    where, path = record["environment"], record["integrated_gradients"]
    first = next(iter(record["methods"].values()))
    lines = [
        f"{record['model']} after {record['epochs']} epochs of {record['method']} on "
        f"{record['data']['rows']['train']} rows of {record['data']['name']} (accuracy "
        f"{100 * record['accuracy']:.1f}% on the {record['texts']} test texts, "
        f"{record['tokens_mean']:.1f} tokens each), {record['points']} points a curve, "
        f"{record['random_orders']} random orders, {where['device']}, torch {where['torch']}, "
        f"commit {where['commit'][:7]}. Random orders: {first['deletion']['random']:.3f} under "
        f"deletion, {first['insertion']['random']:.3f} under insertion. Integrated gradients took "
        f"{path['steps']} steps; their sum misses the loss's change (mean "
        f"{path['loss_change_mean']:.2f}) by {path['completeness_error_mean']:.3f}.",
        "",
        "| saliency | deletion area | against random | insertion area | against random "
        "| ms a text |",
        "|---|---|---|---|---|---|",
    ]
    for name, label in METHODS.items():
        row = record["methods"][name]
        lines.append(
            f"| {label} | {row['deletion']['mean']:.3f} | {_against(row['deletion'], -1)} | "
            f"{row['insertion']['mean']:.3f} | {_against(row['insertion'], 1)} | "
            f"{1e3 * row['seconds'] / record['texts']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def _against(compared: Mapping[str, float], better: int) -> str:
    shown = f"{compared['difference']:+.3f} ({compared['low']:+.3f} to {compared['high']:+.3f})"
    worst = compared["low"] if better > 0 else -compared["high"]
    return f"**{shown}**" if worst > 0 else shown


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", default="minilm", help="a file of conf/model")
    parser.add_argument("--data", default="trec", help="a file of conf/data")
    parser.add_argument("--method", default="full", help="a file of conf/method")
    parser.add_argument("--rows", type=int, default=600, help="drawn training rows")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--texts", type=int, default=150, help="drawn test texts")
    parser.add_argument("--points", type=int, default=10, help="of a curve")
    parser.add_argument("--seeds", type=int, default=5, help="random orders")
    parser.add_argument("--steps", type=int, default=16, help="of integrated gradients")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="only write the table again")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = f"{options.model}-{options.data}-{options.method}-{device}.json"
    if not options.table:
        print(files.write_json(_FOLDER / "results" / name, measure(options)))
    # README.md shows the record of the default settings on a CPU.
    shown, readme = _FOLDER / "results" / "minilm-trec-full-cpu.json", _FOLDER / "README.md"
    if shown.exists():
        text = readme.read_text(encoding="utf-8")
        content = table(files.read_json(shown))
        files.write_text(readme, _MARK.sub(lambda m: m.group(1) + content + m.group(2), text))


if __name__ == "__main__":
    main()
