"""The comparison of this folder's README, resumable, in two sizes.

    python experiments/selection/run.py                  # the CPU size, everything
    python experiments/selection/run.py --size gpu
    python experiments/selection/run.py --part 0/2 &     # two processes share the work
    python experiments/selection/run.py --part 1/2 &

Stages: (tuning) every method runs its three learning rates on the first seed of every data set;
(edges) where the best of them by mean validation score over the data sets is the highest or the
lowest, one more rate beyond it; (seeds) the best rate runs the other seeds, and of the controls the
method's own rate as well; (variants) ablations and densities at the method's rate. Test scores play
no part in any choice. A run that has its line in results/ is not run again.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import records
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from settings import ABLATIONS, DENSITIES, METHODS, SCALES, SIZES, Arm, Size

from sparseft.config import RunConfig
from sparseft.paths import conf_dir
from sparseft.results import config_hash
from sparseft.training import TrainedRun, execute

FURTHER = {max(SCALES): 3 * max(SCALES), min(SCALES): min(SCALES) / 3}
CONTROLS = ("sparse_random", "sparse_unweighted", "sparse_magnitude")


@dataclass(frozen=True)
class Job:
    """One run."""

    stage: str
    arm: str
    data: str
    model: str
    seed: int
    scale: float
    overrides: tuple[str, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.arm, self.data, self.model, self.seed, round(self.scale, 4))


class Board:
    """What has been run, and what is to do."""

    def __init__(self, size: str, results: Path, cache: Path, arms: Sequence[str]) -> None:
        self.size: Size = SIZES[size]
        self.results = results / size
        self.cache = cache
        self.arms = [arm for arm in METHODS if not arms or arm.name in arms]
        self.ablations = [arm for arm in ABLATIONS if not arms or arm.name in arms]
        self.densities = () if arms and "density" not in arms else DENSITIES
        self.done: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read what every process has written."""
        for line in records.read(self.results):
            key = (line["arm"], line["data"], line["model"], line["seed"], round(line["scale"], 4))
            self.done[key] = line

    def job(self, stage: str, arm: Arm, data: str, model: str, seed: int, scale: float) -> Job:
        """The run of an arm."""
        overrides = [text.replace("{cache}", str(self.cache)) for text in arm.overrides]
        overrides = [
            f"data={data}",
            f"model={model}",
            *self.size.data[data],
            *self.size.common,
            f"method={arm.method}",
            *overrides,
            f"seed={seed}",
            f"lr_scale={scale:g}",
        ]
        return Job(stage, arm.name, data, model, seed, scale, tuple(overrides))

    def places(self) -> Iterator[tuple[str, str]]:
        for model in self.size.models:
            for data in self.size.data:
                yield model, data

    def tuning(self) -> Iterator[Job]:
        """Stage 1."""
        for arm in self.arms:
            for model, data in self.places():
                for scale in SCALES:
                    yield self.job("tuning", arm, data, model, self.size.seeds[0], scale)

    def mean_validation(self, name: str, model: str, scale: float) -> float:
        """Over the data sets, on the first seed.

        Raises:
            KeyError: a run is missing.
        """
        seed = self.size.seeds[0]
        keys = [(name, data, model, seed, round(scale, 4)) for data in self.size.data]
        return statistics.fmean(self.done[key]["validation"] for key in keys)

    def best_scale(self, name: str, model: str, scales: Sequence[float] = ()) -> float:
        """The rate with the best mean validation score; also beyond the three, where it was run."""
        if not scales:
            first = self.best_scale(name, model, SCALES)
            further = FURTHER.get(first)
            scales = SCALES if further is None else (*SCALES, further)
        return max(
            scales, key=lambda scale: (self.mean_validation(name, model, scale), -abs(scale - 1))
        )

    def edges(self) -> Iterator[Job]:
        """Stage 1b: where the best rate is the highest or lowest tried, one beyond it."""
        for arm in self.arms:
            for model in self.size.models:
                further = FURTHER.get(self.best_scale(arm.name, model, SCALES))
                for data in self.size.data if further is not None else ():
                    assert further is not None
                    yield self.job("edges", arm, data, model, self.size.seeds[0], further)

    def seeds(self) -> Iterator[Job]:
        """Stage 2, seed by seed, so that what is there at any time is balanced."""
        for seed in self.size.seeds[1:]:
            for model, data in self.places():
                for arm in self.arms:
                    yield self.job(
                        "seeds", arm, data, model, seed, self.best_scale(arm.name, model)
                    )
        for seed in self.size.seeds:
            for model, data in self.places():
                for arm in self.arms:
                    if arm.name in CONTROLS:
                        scale = self.best_scale("sparse", model)
                        yield self.job("equal rate", arm, data, model, seed, scale)

    def variants(self) -> Iterator[Job]:
        """Stage 3."""
        base = next(arm for arm in METHODS if arm.name == "sparse")
        arms = [
            *self.ablations,
            *(
                Arm(f"density {100 * d:g}%", "sparse", (*base.overrides, f"method.density={d:g}"))
                for d in self.densities
            ),
        ]
        for seed in self.size.variant_seeds:
            for model, data in self.places():
                for arm in arms:
                    scale = self.best_scale("sparse", model)
                    yield self.job("variants", arm, data, model, seed, scale)


def compose_config(job: Job, output: Path) -> RunConfig:
    """The run's settings."""
    common = (
        "+experiment=selection",
        "tracking.wandb=off",
        f"output={output}",
    )
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composed = compose("config", [*common, *job.overrides])
    mapping = OmegaConf.to_container(composed, resolve=True)
    return RunConfig.from_mapping({str(k): v for k, v in mapping.items()})  # type: ignore[union-attr]


def run(job: Job, results: Path, output: Path, cache: Path) -> dict[str, Any]:
    """Do a run and keep its line."""
    config = compose_config(job, output)
    units: dict[str, Any] = {}

    def look(trained: TrainedRun) -> None:
        if trained.prepared.selection is not None:
            units.update(records.unit_bits(trained.prepared.selection))

    started = time.time()
    outcome = execute(config, look=look)
    result = outcome.result
    with np.load(outcome.folder / "predictions.npz", allow_pickle=False) as arrays:
        kept = {
            name: records.pack(arrays[f"test_{name}"].astype(np.int32))
            for name in ("ids", "labels", "predictions")
        }
    selection = result.selection or {}
    line = {
        "stage": job.stage,
        "arm": job.arm,
        "data": job.data,
        "model": job.model,
        "seed": job.seed,
        "scale": job.scale,
        "lr": result.tuning["lr"],
        "overrides": [text.replace(str(cache), "CACHE") for text in job.overrides],
        "config_hash": config_hash(config.to_mapping()),
        "metrics": result.metrics,
        "validation": result.validation,
        "seconds_to_best": result.seconds_to_best,
        "cost": result.cost,
        "rows": result.data["rows"],
        "selection": {k: v for k, v in selection.items() if k != "heat_map"} or None,
        "units": units or None,
        "environment": result.environment,
        "test": kept,
        "seconds": round(time.time() - started, 1),
    }
    records.append(results / f"{job.data}.jsonl", line)
    shutil.rmtree(outcome.folder)
    return line


def mine(jobs: Sequence[Job], part: int, parts: int) -> list[Job]:
    """A process's share: neighbours go to different processes, so that all end together."""
    return [job for number, job in enumerate(jobs) if number % parts == part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="cpu")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="this process's share")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--output", type=Path, default=Path("runs/selection"))
    parser.add_argument("--stages", nargs="*", default=("tuning", "edges", "seeds", "variants"))
    parser.add_argument("--arms", nargs="*", default=(), help="only these lines of the table")
    parser.add_argument("--dry-run", action="store_true", help="say what is left to do")
    arguments = parser.parse_args()
    part, parts = map(int, arguments.part.split("/"))
    cache = (arguments.output / "prefix").resolve()
    board = Board(arguments.size, arguments.results, cache, arguments.arms)
    for stage in arguments.stages:
        try:
            jobs = list(getattr(board, stage)())
        except KeyError as error:
            sys.exit(
                f"expected the tuning runs of every data set before {stage}, got none of "
                f"{error.args[0][:3]}; run the earlier stage, or wait for the other process."
            )
        left = [job for job in jobs if job.key not in board.done]
        print(f"{stage}: {len(jobs)} runs, {len(left)} to do", flush=True)
        if arguments.dry_run:
            continue
        for job in mine(jobs, part, parts):
            board.refresh()
            if job.key in board.done:
                continue
            line = run(job, board.results, arguments.output / str(part), cache)
            print(
                f"{job.data} {job.arm} seed {job.seed} lr {line['lr']:.2g}: validation "
                f"{line['validation']:.4f}, test {line['metrics']['accuracy']:.4f}, "
                f"{line['cost']['step_ms_median']:.0f} ms a step, {line['seconds']:.0f} s",
                flush=True,
            )
        board.refresh()
        wait_for_others(board, jobs)


def wait_for_others(board: Board, jobs: Sequence[Job]) -> None:
    """The next stage needs what the other processes still run."""
    while parts_left := [job for job in jobs if job.key not in board.done]:
        print(f"waiting for {len(parts_left)} runs of other processes", flush=True)
        time.sleep(20)
        board.refresh()


if __name__ == "__main__":
    main()
