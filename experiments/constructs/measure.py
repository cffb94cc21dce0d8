"""What constructs are found, how stable they are, what their tokens save, what their rows lose.

    python experiments/constructs/measure.py            measures, writes results/ and the table
    python experiments/constructs/measure.py --table    writes the table of README.md again

Constructs are mined on the training rows alone, and rows are fitted on training texts; the saving
is counted and the rows' error is measured on test texts that training never saw.

Legend: N texts, D vector size.
"""

from __future__ import annotations

import argparse
import copy
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

from sparseft import files, models
from sparseft.config import RunConfig
from sparseft.constructs import Adapted, Constructs, adapt, length_saving, mine
from sparseft.data import TaskData, load_data
from sparseft.models import LoadedModel, TextClassifier
from sparseft.paths import conf_dir
from sparseft.results import environment
from sparseft.training.constructs import mining_settings
from sparseft.training.devices import device_name

_FOLDER = Path(__file__).parent
_MARK = re.compile(r"(<!-- table -->\n).*?(<!-- end of table -->)", re.DOTALL)
_ROWS = {"mean": "mean", "fitted": "least_squares"}
_Found = TypeVar("_Found")


def config_of(data: str, options: argparse.Namespace) -> RunConfig:
    """The configuration of a run on `data` with new tokens."""
    overrides = [f"data={data}", f"model={options.model}", "constructs=tokens"]
    overrides += [f"constructs.{key}={getattr(options, key)}" for key in ("tokens", "contexts")]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composed = compose("config", overrides)
    mapping: Any = OmegaConf.to_container(composed, resolve=True)
    return RunConfig.from_mapping(mapping)


def timed(work: Callable[[], _Found]) -> tuple[_Found, dict[str, float]]:
    """What the work gives; its seconds, and those of the processor (others may use it, too)."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def features(model: TextClassifier, tokenizer: Any, texts: Sequence[str], length: int) -> Tensor:
    """The text vectors that the head reads, float32 [N, D]."""
    found = []
    with torch.no_grad():
        for start in range(0, len(texts), 64):
            batch = tokenizer(
                list(texts[start : start + 64]),
                padding=True,
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
            found.append(model.features(batch["input_ids"], batch["attention_mask"]))
    return torch.cat(found)


def measure(data_name: str, options: argparse.Namespace, loaded: LoadedModel) -> dict[str, Any]:
    """The record of one data set."""
    config = config_of(data_name, options)
    data = load_data(config.data, config.seed)
    length = config.model.max_length
    settings = mining_settings(config.constructs, length, config.seed)
    train = data.train
    constructs, mining = timed(
        lambda: mine(
            train.texts,
            train.labels,
            data.label_names,
            loaded.tokenizer,
            settings,
            data_name=data.name,
        )
    )
    adapted: dict[str, Adapted] = {}
    report: dict[str, Any] = {}
    for name, rows in _ROWS.items():
        model = copy.deepcopy(loaded.model)
        adapted[name], spent = timed(
            lambda model=model, rows=rows: adapt(  # type: ignore[misc]
                model,
                loaded.tokenizer,
                constructs,
                train.texts,
                count=options.tokens,
                rows=rows,
                contexts=options.contexts,
                max_length=length,
            )
        )
        report[name] = {**adapted[name].report, **spent}
    return {
        "data": {"name": data.name, "sha256": data.sha256, "rows": data.report["rows"]},
        "classes": len(data.label_names),
        "mining": {**mining, "counts": dict(constructs.counts), "settings": asdict(settings)},
        "constructs": _constructs(constructs),
        "tokens": len(adapted["mean"].new_ids),
        "adapting": report,
        "saving": {
            split: _saving(loaded.tokenizer, adapted["mean"].tokenizer, texts, length)
            for split, texts in (("train", train.texts), ("test", data.test.texts))
        },
        "held_out": _held_out(loaded, adapted, data, length, options),
    }


def _constructs(constructs: Constructs) -> dict[str, Any]:
    stable = np.array([construct.stability for construct in constructs])
    return {
        "count": len(constructs),
        "classes_with_one": len({construct.label for construct in constructs}),
        "stability_mean": float(stable.mean()),
        "stability_at_least_0.9": float((stable >= 0.9).mean()),
        "strongest": [f"{c.text} -> {c.label}" for c in constructs[:5]],
    }


def _saving(original: Any, extended: Any, texts: tuple[str, ...], length: int) -> dict[str, Any]:
    saving = length_saving(original, extended, texts, length)
    padded = 1.0 - saving.padded_after / saving.padded_before
    return {**asdict(saving), "share": saving.share, "padded_share": padded}


def _held_out(
    loaded: LoadedModel,
    adapted: Mapping[str, Adapted],
    data: TaskData,
    length: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Squared distances of test texts' vectors from those with pieces, by their variance."""
    new = adapted["mean"].tokenizer
    first = adapted["mean"].extended.first
    ids = new(list(data.test.texts), truncation=True, max_length=length)["input_ids"]
    changed = [t for t, row in zip(data.test.texts, ids, strict=True) if max(row) >= first]
    random = np.random.default_rng(0)
    chosen = random.permutation(len(changed))[: options.texts]
    texts = [changed[place] for place in sorted(chosen.tolist())]
    wanted = features(loaded.model, loaded.tokenizer, texts, length)
    scale = float((wanted - wanted.mean(0)).square().sum(1).mean())
    errors = {
        name: (
            (features(found.model, found.tokenizer, texts, length) - wanted).square().sum(1) / scale
        ).numpy()
        for name, found in adapted.items()
    }
    difference = errors["fitted"] - errors["mean"]
    low, high = _interval(difference, random)
    return {
        "texts": len(texts),
        "error": {name: float(values.mean()) for name, values in errors.items()},
        "difference": {"mean": float(difference.mean()), "low": low, "high": high},
        "better_share": float((difference < 0).mean()),
    }


def _interval(
    values: NDArray[np.float32], random: np.random.Generator, draws: int = 2000
) -> tuple[float, float]:
    """The 95% bootstrap interval of the mean, over texts."""
    means = [values[random.integers(0, len(values), len(values))].mean() for _ in range(draws)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def table(record: Mapping[str, Any]) -> str:
    """The record as Markdown."""
    where = record["environment"]
    lines = [
        f"{record['model']}, {record['tokens']} tokens at most, {record['contexts']} texts to fit "
        f"each to, {where['device']}, "
        f"{where['threads']} thread{'s' if where['threads'] > 1 else ''}, torch {where['torch']}, "
        f"commit {where['commit'][:7]}; CPU seconds.",
        "",
        "| data | rows, classes | constructs | mining, s | stability | new tokens | tokens saved "
        "| error, mean rows | error, fitted rows | fitting, s |",
        "|---|---|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for row in record["data_sets"]:
        found, held_out = row["constructs"], row["held_out"]
        better = held_out["difference"]["high"] < 0
        fitted = f"{held_out['error']['fitted']:.3f}"
        lines.append(
            f"| {row['data']['name']} | {row['data']['rows']['train']:,}, {row['classes']} "
            f"| {found['count']:,} of {row['mining']['counts']['candidates']:,} candidates "
            f"| {row['mining']['cpu_seconds']:.1f} "
            f"| {found['stability_mean']:.2f} ({found['stability_at_least_0.9']:.0%} at 0.9) "
            f"| {row['tokens']} | {row['saving']['test']['share']:.1%} "
            f"| {held_out['error']['mean']:.3f} | {f'**{fitted}**' if better else fitted} "
            f"| {row['adapting']['fitted']['cpu_seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="only write the table again")
    parser.add_argument("--model", default="minilm", help="a file of conf/model")
    parser.add_argument(
        "--data",
        nargs="+",
        default=["trec", "banking77", "clinc150", "tweet_eval_emotion"],
        help="files of conf/data",
    )
    parser.add_argument("--tokens", type=int, default=200, help="the most new tokens")
    parser.add_argument("--contexts", type=int, default=2, help="texts that a row is fitted to")
    parser.add_argument("--texts", type=int, default=300, help="test texts of the rows' error")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    path = _FOLDER / "results" / f"{options.model}.json"
    if not options.table:
        torch.set_num_threads(options.threads)
        # First: the code that measures is the code of now.
        where = environment(device_name(torch.device("cpu")), options.threads)
        loaded = models.load(config_of(options.data[0], options).model, num_labels=2)
        record = {
            "model": options.model,
            "tokens": options.tokens,
            "contexts": options.contexts,
            "data_sets": [measure(name, options, loaded) for name in options.data],
            "environment": where,
        }
        files.write_json(path, record)
    readme = _FOLDER / "README.md"
    shown = table(files.read_json(path))
    text = readme.read_text(encoding="utf-8")
    files.write_text(readme, _MARK.sub(lambda match: match[1] + shown + match[2], text))
    print(shown)


if __name__ == "__main__":
    main()
