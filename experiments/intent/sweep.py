"""The comparison of this folder's README: every method, three learning rates, three seeds.

    python experiments/intent/sweep.py trec
    python experiments/intent/sweep.py banking77

Two stages, to spend the machine on what is reported: seed 0 runs every learning rate of every
method; the rate with the best validation score (never a test score) then runs the other seeds.
Stopped, the same command goes on: a run whose configuration and commit have a result is skipped.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sparseft.config import RunConfig
from sparseft.paths import conf_dir
from sparseft.training import RunOutcome, execute

METHODS = (
    "sparse",
    "full",
    "lora_upper",
    "layers",
    "lora",
    "probe",
    "sparse_random",
    "sparse_unweighted",
    "sparse_magnitude",
    "layers_sensitivity",
    "rslora",
    "bitfit",
    "prefix",
    "shira",
)
SCALES = (0.3, 1.0, 3.0)
SEEDS = (0, 1, 2)
# 190 and 147 steps: on banking77 the best validation score comes within the first epochs.
SETTINGS = {
    "trec": ("data=trec", "data.rows=600", "data.validation_rows=300", "training.epochs=5"),
    "banking77": (
        "data=banking77",
        "data.shots=10",
        "data.validation_rows=385",
        "data.test_rows=1000",
        "training.epochs=3",
    ),
}
COMMON = (
    "+experiment=intent",
    "training.save=none",
    "tracking.wandb=off",
    "threads=1",
)


def one(data: str, method: str, seed: int, scale: float, output: str) -> RunOutcome:
    """One run, or its earlier result."""
    overrides = [*SETTINGS[data], *COMMON, f"method={method}", f"seed={seed}", f"lr_scale={scale}"]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composed = compose("config", [*overrides, f"output={output}"])
    mapping = OmegaConf.to_container(composed, resolve=True)
    outcome = execute(RunConfig.from_mapping({str(k): v for k, v in mapping.items()}))  # type: ignore[union-attr]
    result = outcome.result
    print(
        f"{data} {method} seed {seed} lr {result.tuning['lr']:.2g}: validation "
        f"{result.validation:.4f}, accuracy {result.metrics['accuracy']:.4f}, "
        f"{result.cost['step_ms_median']:.0f} ms a step{', skipped' if outcome.skipped else ''}",
        flush=True,
    )
    return outcome


def keep(outcome: RunOutcome, output: Path, folder: Path) -> None:
    """Copy what the report needs."""
    target = folder / outcome.folder.relative_to(output)
    target.mkdir(parents=True, exist_ok=True)
    for name in ("result.json", "predictions.npz"):
        shutil.copy2(outcome.folder / name, target / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=sorted(SETTINGS))
    parser.add_argument("--output", default="runs/experiments")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--methods", nargs="*", default=METHODS, choices=METHODS)
    arguments = parser.parse_args()
    for method in arguments.methods:
        first = [one(arguments.data, method, SEEDS[0], s, arguments.output) for s in SCALES]
        best = SCALES[max(range(len(SCALES)), key=lambda i: first[i].result.validation)]
        rest = [one(arguments.data, method, s, best, arguments.output) for s in SEEDS[1:]]
        for outcome in [*first, *rest]:
            keep(outcome, Path(arguments.output), arguments.results)


if __name__ == "__main__":
    sys.exit(main())
