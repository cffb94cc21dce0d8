"""Folders of results as runs write them, made up from a seed: what reports are tested on."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Maker:
    """One made-up method: its accuracy, its step time relative to full, what it trains."""

    name: str
    score: float
    ratio: float
    share: float
    lr: float = 1e-3
    selects: bool = False


METHODS = (
    Maker("sparse", 0.905, 0.58, 0.05, 1e-3, selects=True),
    Maker("sparse_unweighted", 0.899, 0.58, 0.05, 1e-3, selects=True),
    Maker("sparse_random", 0.881, 0.57, 0.05, 1e-3, selects=True),
    Maker("sparse_half", 0.897, 0.43, 0.03, 1e-3, selects=True),
    Maker("full", 0.911, 1.00, 1.0, 2e-4),
    Maker("lora", 0.902, 0.79, 0.012, 1e-3),
    Maker("rslora", 0.900, 0.80, 0.012, 5e-4),
    Maker("lora_half", 0.893, 0.52, 0.006, 1e-3),
    Maker("layers", 0.896, 0.55, 0.4, 5e-4),
    Maker("layers_sensitivity", 0.895, 0.62, 0.4, 5e-4),
    Maker("prefix", 0.862, 0.74, 0.002, 1e-2),
    Maker("bitfit", 0.874, 0.66, 0.001, 2e-3),
    Maker("shira", 0.894, 0.97, 0.02, 1e-3),
    Maker("probe", 0.801, 0.31, 0.0005, 1e-3),
)

EXAMPLES: list[dict[str, Any]] = [
    {
        "text": "My parcel says delivered but nothing arrived <b>today</b>",
        "tokens": ["My", "parcel", "says", "delivered", "but", "nothing", "arrived", "today"],
        "saliency": [0.2, 1.9, 0.4, 2.2, 0.3, 1.6, 1.1, 0.3],
        "label": "parcel_missing",
        "prediction": "parcel_missing",
        "probability": 0.93,
    },
    {
        "text": "cancel it, I mean the subscription not the order",
        "tokens": ["cancel", "it", "I", "mean", "the", "subscription", "not", "the", "order"],
        "saliency": [2.4, 0.2, 0.1, 0.3, 0.1, 2.8, 0.8, 0.1, 2.2],
        "label": "cancel_subscription",
        "prediction": "cancel_order",
        "probability": 0.51,
    },
]


def write_results(
    folder: Path,
    data: str = "trec",
    methods: Sequence[Maker] = METHODS,
    seeds: Sequence[int] = (0, 1, 2),
    lr_scales: Sequence[float] = (0.3, 1.0, 3.0),
    rows: int = 200,
    labels: int = 6,
    layers: int = 6,
    multi_label: bool = False,
    shift: float = 0.0,
    **settings: Any,
) -> list[Path]:
    """Write one run folder for each method, seed and learning rate; the paths of their records.

    `settings` go into the configuration's data section. The default learning rate is the best one
    on validation; the highest one is the best on test, which a report must not notice.
    """
    written = []
    for maker in methods:
        for scale in lr_scales:
            for seed in seeds:
                run = folder / data / maker.name / f"{seed}-{scale:g}"
                run.mkdir(parents=True)
                record = _record(
                    run,
                    data,
                    maker,
                    seed,
                    scale,
                    rows,
                    labels,
                    layers,
                    multi_label,
                    shift,
                    settings,
                )
                path = run / "result.json"
                path.write_text(json.dumps(record, indent=1), encoding="utf-8")
                written.append(path)
    return written


def _record(
    run: Path,
    data: str,
    maker: Maker,
    seed: int,
    scale: float,
    rows: int,
    labels: int,
    layers: int,
    multi_label: bool,
    shift: float,
    settings: dict[str, Any],
) -> dict[str, Any]:
    rng = np.random.default_rng(
        [zlib.crc32(f"{data}/{maker.name}".encode()), seed, int(100 * scale), rows]
    )
    truth = np.random.default_rng(rows).integers(0, labels, rows)
    hardness = np.random.default_rng(rows + 1).random(rows)
    bonus = {0.3: -0.02, 1.0: 0.0, 3.0: 0.01}.get(scale, 0.0)
    score = min(maker.score + shift + bonus + rng.normal(0, 0.004), 0.995)
    correct = 0.85 * hardness + 0.15 * rng.random(rows) < np.quantile(
        0.85 * hardness + 0.15 * rng.random(rows), score
    )
    guesses = np.where(correct, truth, (truth + 1 + rng.integers(0, labels - 1, rows)) % labels)
    metrics = {"loss": 0.4, "macro_f1": float(correct.mean()) - 0.013}
    if multi_label:
        eye = np.eye(labels, dtype=np.uint8)
        truth, guesses = eye[truth], eye[guesses]
        metrics["micro_f1"] = float(correct.mean())
    metrics["accuracy"] = float(correct.mean())
    np.savez(
        run / "predictions.npz",
        test_ids=np.arange(rows),
        test_labels=truth,
        test_predictions=guesses,
        test_probability=np.full(rows, 0.9),
    )
    step = 64.0 * maker.ratio * float(np.exp(rng.normal(0, 0.015)))
    total = 22_700_000
    modules = ["query", "key", "value", "output", "up", "down"]
    rise = np.linspace(0.2, 1.6, layers)[:, None] * np.abs(rng.normal(1, 0.35, (layers, 6)))
    share = np.where(rise < 0.3, 0.0, rise * maker.share)
    selection = {
        "density": maker.share,
        "lowest_layer": 1,
        "units_by_kind": {"neuron": 420, "head": 9},
        "heat_map": {"layers": layers, "modules": modules, "share": share.tolist()},
    }
    if maker.name == "sparse":
        (run / "examples.json").write_text(json.dumps(EXAMPLES), encoding="utf-8")
    return {
        "schema_version": 1,
        "experiment": "intent",
        "task": "classification",
        "method": maker.name,
        "model": "minilm",
        "seed": seed,
        "metrics": metrics,
        "validation": maker.score
        + {0.3: -0.03, 1.0: 0.0, 3.0: -0.02}.get(scale, 0.0)
        + 0.001 * seed,
        "seconds_to_best": 21.0 * maker.ratio + 2.2,
        "cost": {
            "train_seconds": 30.0 * maker.ratio,
            "evaluation_seconds": 3.0,
            "analysis_seconds": 1.6 if maker.selects else 0.0,
            "head_warmup_seconds": 0.7,
            "steps": 228,
            "step_ms_median": step,
            "step_ms_p20": 0.95 * step,
            "step_ms_p80": 1.07 * step,
            "flops_per_step": 1.2e11 * maker.ratio,
            "peak_memory_bytes": int(9e8 * (0.5 + 0.5 * maker.ratio)),
            "peak_memory_source": "VmHWM",
            "trainable_parameters": int(total * maker.share),
            "total_parameters": total,
            "optimizer_state_bytes": int(8 * total * maker.share),
            "delta_bytes": int(4 * total * maker.share),
        },
        "selection": selection if maker.selects else None,
        "data": {"name": data, "sha256": "0" * 64, "rows": {"train": 600, "test": rows}},
        "tuning": {"lr": maker.lr * scale, "lr_scale": scale},
        "environment": {
            "commit": "a" * 40,
            "dirty": False,
            "sparseft": "0.1.0",
            "python": "3.11.2",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "triton": None,
            "device": "cpu",
            "threads": 2,
        },
        "config": {
            "experiment": "intent",
            "seed": seed,
            "lr_scale": scale,
            "model": {"name": "minilm", "source": "embedded", "id": "minilm"},
            "data": {"name": data, "kind": "files", **settings},
            "method": {"name": maker.name, "lr": maker.lr},
            "task": {"name": "classification", "metric": "auto"},
            "training": {"epochs": 6, "batch_size": 16, "progress": "auto"},
        },
        "config_hash": f"{zlib.crc32(str(run).encode()):08x}" * 8,
        "notes": {},
    }
