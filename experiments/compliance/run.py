"""The comparison of this folder's README, resumable: a run that has its file is not done again.

    python experiments/compliance/run.py                     # everything; hours on two cores
    python experiments/compliance/run.py --data service --arms sparse --seeds 0
    python experiments/compliance/run.py --dry-run

Every tuned arm runs three learning rates on the first seed; the one with the best validation score
runs the other seeds, after one rate beyond it where it is the lowest or highest. Test scores play
no part in the choice.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from settings import ARMS, COMMON, DATA, FURTHER, SCALES, SEEDS, Arm

from sparseft import files
from sparseft.config import RunConfig
from sparseft.paths import conf_dir
from sparseft.training.compliance import execute_compliance

_RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Job:
    """One run, and the file that says it is done."""

    data: str
    arm: Arm
    seed: int
    scale: float

    @property
    def path(self) -> Path:
        name = "".join(sign if sign.isalnum() else "-" for sign in self.arm.name)
        return _RESULTS / self.data / f"{name}.seed{self.seed}.x{self.scale:g}.json"

    def overrides(self) -> tuple[str, ...]:
        return (
            *COMMON,
            *DATA[self.data],
            *self.arm.overrides,
            f"seed={self.seed}",
            f"lr_scale={self.scale:g}",
        )


def scales_of(data: str, arm: Arm) -> tuple[float, ...]:
    """The rates that an arm tries, as far as it is known by now which."""
    scores = _validation(data, arm, SCALES)
    further = None if scores is None else FURTHER.get(_best(scores))
    return SCALES if further is None else (*SCALES, further)


def best_scale(data: str, arm: Arm) -> float | None:
    """The rate with the best validation score on the first seed; None: not all have run."""
    tuned = next(other for other in ARMS if other.name == arm.tuned_as)
    scores = _validation(data, tuned, scales_of(data, tuned))
    return None if scores is None else _best(scores)


def _validation(data: str, arm: Arm, scales: Sequence[float]) -> dict[float, float] | None:
    paths = {scale: Job(data, arm, SEEDS[0], scale).path for scale in scales}
    if not all(path.is_file() for path in paths.values()):
        return None
    return {s: float(files.read_json(p)["result"]["validation"]) for s, p in paths.items()}


def _best(scores: dict[float, float]) -> float:
    return max(scores, key=lambda scale: (scores[scale], -abs(scale - 1)))


def jobs(data: str, arm: Arm, seeds: Sequence[int]) -> Iterator[Job]:
    """What an arm needs, as far as it is known by now."""
    if arm.tuned_as == arm.name and SEEDS[0] in seeds:
        for scale in scales_of(data, arm):
            yield Job(data, arm, SEEDS[0], scale)
    scale = best_scale(data, arm)
    if scale is not None:
        for seed in seeds:
            yield Job(data, arm, seed, scale)


def config_of(overrides: Sequence[str], output: Path) -> RunConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composed = compose("config", [*overrides, f"output={output}"])
    mapping: Any = OmegaConf.to_container(composed, resolve=True)
    return RunConfig.from_mapping(mapping)


def run(job: Job, output: Path) -> dict[str, Any]:
    """Do a run and keep its result, scores, and the values of every test record."""
    outcome = execute_compliance(config_of(job.overrides(), output))
    lines = (outcome.folder / "records.jsonl").read_text("utf-8").splitlines()
    content = {
        "arm": job.arm.name,
        "overrides": list(job.overrides()),
        "result": outcome.result.to_mapping(),
        "scores": files.read_json(outcome.folder / "scores.json"),
        "records": [
            {
                "id": record["id"],
                "values": record["values"],
                "review": len(record["review"]),
                "seconds": record["notes"]["seconds"],
            }
            for record in map(json.loads, lines)
        ],
    }
    files.write_text(job.path, json.dumps(content, ensure_ascii=False, sort_keys=True) + "\n")
    shutil.rmtree(outcome.folder)
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", choices=sorted(DATA), default=sorted(DATA)[::-1])
    parser.add_argument("--arms", nargs="*", choices=[arm.name for arm in ARMS])
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--results", type=Path, default=_RESULTS, help="another folder of records")
    parser.add_argument("--output", type=Path, default=Path("runs/compliance"))
    parser.add_argument("--dry-run", action="store_true", help="say what is left to do")
    arguments = parser.parse_args()
    globals()["_RESULTS"] = arguments.results
    for data in arguments.data:
        for arm in ARMS:
            if data not in arm.data or (arguments.arms and arm.name not in arguments.arms):
                continue
            done: set[Path] = set()
            # Known only once the tuning has run: asked for again until nothing new comes.
            while left := [
                job
                for job in jobs(data, arm, arguments.seeds)
                if job.path not in done and not job.path.is_file()
            ]:
                job = left[0]
                done.add(job.path)
                if arguments.dry_run:
                    print(f"{data}, {arm.name}, seed {job.seed}, rate x {job.scale:g}")
                    continue
                metrics = run(job, arguments.output)["result"]["metrics"]
                shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
                print(f"{data}, {arm.name}, seed {job.seed}, rate x {job.scale:g}: {shown}")


if __name__ == "__main__":
    main()
