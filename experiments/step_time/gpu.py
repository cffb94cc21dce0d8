"""The whole training step on a GPU: every method, on random models of five known shapes.

    python experiments/step_time/gpu.py --out experiments/step_time/results/gpu --seconds 900

Models, batches and rounds stand in `shapes.py`, the methods in `cases.py`, the way they take turns
in `sitting.py`. Each finished (model, method, mode) is one file, in a folder of the GPU's name; the
same command goes on with what is left, for the same code. Every model has a process of its own,
and a new one after a method that failed: a failed CUDA graph leaves no usable process behind.

Without a GPU the same code runs in miniature: `--device cpu --tiny` (no graphs, no memory).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from records import EAGER, GRAPHS, Records
from shapes import SHAPES
from sitting import Sitting
from targets import verdicts

from sparseft.results import environment

_NOT_AT_ONCE = 4
# What a process may take beyond its time: the method that it is at, and its start.
_GRACE = 180


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = _parser().parse_args(arguments)
    unknown = sorted(set(options.models) - set(SHAPES))
    if unknown:
        print(f"expected --models out of {', '.join(SHAPES)}, got {unknown[0]}.", file=sys.stderr)
        return 2
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "expected a CUDA device and a torch built for it, got none; on a CPU only the check "
            "in miniature runs: --device cpu --tiny.",
            file=sys.stderr,
        )
        return 2
    if options.device == "cpu" and not options.tiny:
        print("expected --tiny with --device cpu, got full sizes; add --tiny.", file=sys.stderr)
        return 2
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    where = environment(name, torch.get_num_threads()) | {
        "cuda": torch.version.cuda,
        "peft": importlib.metadata.version("peft") if find_spec("peft") else None,
    }
    folder = options.out / ("tiny-" * options.tiny + name.lower().replace(" ", "-"))
    records = Records(folder, where, options.run or f"{time.time():.0f}")
    modes = (EAGER, GRAPHS) if device.type == "cuda" else (EAGER,)
    deadline = time.monotonic() + options.seconds
    if options.child is not None:
        return _measure(options, options.child, records, device, modes, deadline)
    for model in options.models:
        _all_of(model, options, records, device, modes, deadline)
    _report(options, records, modes)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    default = Path(__file__).parent / "results" / "gpu"
    parser.add_argument("--out", type=Path, default=default, help="the folder of GPUs")
    parser.add_argument("--seconds", type=float, default=900.0, help="begin nothing after these")
    parser.add_argument("--models", nargs="+", default=list(SHAPES), help="in this order")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="miniatures of the models")
    parser.add_argument("--one-by-one", action="store_true", help="hold one method at a time")
    # What a process tells the ones that it starts.
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    return parser


def _all_of(
    model: str, options: argparse.Namespace, records: Records, device: torch.device,
    modes: Sequence[str], deadline: float,
) -> None:  # fmt: skip
    """Measure a model, in as many processes as it takes."""
    while (left := len(records.pending(model, modes))) and time.monotonic() < deadline:
        if device.type == "cuda":
            status = _in_a_process(model, options, records, deadline - time.monotonic())
        else:
            status = _measure(options, model, records, device, modes, deadline)
        if status == _NOT_AT_ONCE and not options.one_by_one:
            options = argparse.Namespace(**{**vars(options), "one_by_one": True})
        elif len(records.pending(model, modes)) == left:
            print(f"{model}: nothing more could be measured (status {status})", flush=True)
            return


def _in_a_process(
    model: str, options: argparse.Namespace, records: Records, seconds: float
) -> int | str:
    command = [
        sys.executable, __file__, "--child", model, "--out", str(options.out),
        "--seconds", f"{seconds:.0f}", "--run", records.run,
    ]  # fmt: skip
    command += ["--tiny"] * options.tiny + ["--one-by-one"] * options.one_by_one
    try:
        return subprocess.run(command, timeout=seconds + _GRACE, check=False).returncode
    except subprocess.TimeoutExpired:
        return "stopped: it took too long"


def _measure(
    options: argparse.Namespace, model: str, records: Records, device: torch.device,
    modes: Sequence[str], deadline: float,
) -> int:  # fmt: skip
    shape = SHAPES[model].tiny() if options.tiny else SHAPES[model]
    sitting = Sitting(model, shape, records, device, modes, deadline)
    one_by_one = options.one_by_one or not shape.together
    return 0 if sitting.measure(one_by_one) else _NOT_AT_ONCE


def _report(options: argparse.Namespace, records: Records, modes: Sequence[str]) -> None:
    left = [key for model in options.models for key in records.pending(model, modes)]
    print(f"\nrecords: {records.folder}")
    if left:
        print(f"{len(left)} left, the first {left[0]}; the same command goes on.")
    if options.tiny:
        print("These are miniatures: they check the code, their figures say nothing.")
    print("\n".join(["", *verdicts(records.valid())]))


if __name__ == "__main__":
    sys.exit(main())
