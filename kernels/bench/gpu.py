"""`make gpu`: everything that needs a CUDA device, in stages, unattended and resumable.

Each stage is a process of its own with a time limit, and leaves a mark when it has passed. The
marks belong to one GPU and one state of the code; a call begins with the stages that were tried
least, so a stage that fails does not keep the others from their turn.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparseft import files

__all__ = ["ROOT", "Stage", "State", "code_of_everything", "run_stages", "stages"]

ROOT = Path(__file__).resolve().parents[2]
# All stages together, over all calls: 20 minutes less what the starts of the calls take.
TOTAL_SECONDS = 1140.0
_ENDING = 5.0  # kept back to write the state and the summary
MORE = 3  # exit status of a command that stopped at its time limit and can go on

# These tests need no device, or start processes that must not see one.
_NOT_ON_THE_DEVICE = ("test_aot.py", "test_bench.py", "test_dispatch.py")
_NEEDED_BY_TESTS = ("pytest", "hypothesis", "numpy", "einops", "safetensors", "transformers")


@dataclass(frozen=True)
class Stage:
    """One step.

    Attributes:
        group: "test", "bench" or "steps".
        command: seconds that it may take -> the command line.
        budget: seconds over all calls; what exceeds them is ended.
        least: seconds below which it is not worth beginning.
        judge: (exit status, output) -> "passed", "failed", "unfinished" or "not run: …".
        missing: why it cannot run here; "" where it can.
        if_missing: what that comes to: "failed" or "not run".
        environment: further variables.
        restarts: how often a command that stopped before its time goes on in a new process.
    """

    name: str
    group: str
    command: Callable[[float], Sequence[str]]
    budget: float
    least: float
    judge: Callable[[int, str], str]
    missing: str = ""
    if_missing: str = "failed"
    environment: Mapping[str, str] | None = None
    restarts: int = 0


def by_status(status: int, output: str) -> str:
    """0 passed, 3 unfinished, all else failed."""
    return {0: "passed", MORE: "unfinished"}.get(status, "failed")


def by_steps(status: int, output: str) -> str:
    """The whole-step benchmark ends well also when its time was up; it then says what is left."""
    if status != 0:
        return "failed"
    return "unfinished" if re.search(r"^\d+ left, ", output, re.MULTILINE) else "passed"


def by_sanitizer(kernels: Sequence[str]) -> Callable[[int, str], str]:
    """compute-sanitizer's verdict, and whether an error lies in one of our kernels."""

    def judge(status: int, output: str) -> str:
        if "Device not supported" in output or "ERROR SUMMARY" not in output.replace(
            "RACECHECK SUMMARY", "ERROR SUMMARY"
        ):
            return "not run: compute-sanitizer does not work on this machine"
        if status == 0:
            return "passed"
        ours = [name for name in kernels if re.search(rf"\b{re.escape(name)}\b", output)]
        if ours:
            return "failed"
        return "passed: hazards only in kernels that are not ours (see the log)"

    return judge


def kernel_names() -> list[str]:
    """Names of all kernels, read from the sources: nothing is imported."""
    sources = (ROOT / "kernels" / "sparseft_kernels").rglob("triton_kernel.py")
    pattern = re.compile(r"@triton\.jit[^\n]*\ndef (\w+)")
    return sorted({name for source in sources for name in pattern.findall(source.read_text())})


def stages(
    results: Path, python: str = sys.executable, capability: int | None = None
) -> list[Stage]:
    """All stages in their order.

    Args:
        results: the folder of the records, over all GPUs.
        python: the interpreter.
        capability: of the device, times ten; None asks torch.
    """
    if capability is None:
        import torch

        major, minor = torch.cuda.get_device_capability()
        capability = 10 * major + minor
    bench = [python, "-m", "bench"]
    run = [*bench, "run", "--results", str(results)]
    return [
        *_compilation(bench, capability),
        *_tests(python),
        *_sanitizers(bench),
        Stage("quick cases", "bench", _timed([*run, "--quick"]), 240, 40, by_status, restarts=20),
        *_whole_steps(python),
        Stage("all cases", "bench", _timed(run), 600, 30, by_status, restarts=20),
    ]


def _compilation(bench: Sequence[str], capability: int) -> list[Stage]:
    """Fills Triton's cache on all cores: later stages would compile one kernel at a time."""
    if capability not in (80, 90):
        return []
    workers = max(1, min(14, (os.cpu_count() or 2) - 1))
    command = [
        *bench, "aot", "--architectures", str(capability), "--processes", str(workers),
        "--more", "--stack", "1000000",
    ]  # fmt: skip
    return [Stage("compile", "test", _always(command), 90, 20, by_status)]


def _tests(python: str) -> list[Stage]:
    """One stage for each file, so that a call that ends early loses little."""
    absent = [name for name in _NEEDED_BY_TESTS if importlib.util.find_spec(name) is None]
    missing = f"{', '.join(absent)} not installed" if absent else ""
    workers = min(8, os.cpu_count() or 1)
    parallel = ["-n", str(workers)] if importlib.util.find_spec("xdist") and workers > 1 else []
    found = []
    for path in (
        ROOT / "tests" / "sparse" / "test_gpu.py",
        *sorted((ROOT / "tests" / "kernels").glob("test_*.py")),
    ):
        if path.name in _NOT_ON_THE_DEVICE or not path.exists():
            continue
        # A warning of some package of this machine must not end an unattended run.
        command = [
            python, "-m", "pytest", "-q", "-p", "bench.pytest_plugin", "-W", "default",
            *parallel, str(path.relative_to(ROOT)),
        ]  # fmt: skip
        name = f"tests {path.parent.name}/{path.stem.removeprefix('test_')}"
        found.append(Stage(name, "test", _always(command), 120, 30, by_status, missing))
    return found


def _sanitizers(bench: Sequence[str]) -> list[Stage]:
    """compute-sanitizer over tiny shapes; what it finds in kernels of others is in the log."""
    tool = shutil.which("compute-sanitizer")
    missing = "" if tool else "compute-sanitizer is not on the PATH"
    found = []
    for check, script, variables in (
        # Each tensor its own allocation, so that a step outside one is seen.
        ("memcheck", ["small", "--dtype", "bfloat16"], {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}),
        ("racecheck", ["small", "--dtype", "bfloat16", "--quick"], None),
    ):
        command = [
            tool or "compute-sanitizer", "--tool", check, "--error-exitcode", "9",
            "--print-limit", "20", *bench, *script,
        ]  # fmt: skip
        judge = by_sanitizer(kernel_names())
        found.append(
            Stage(check, "test", _always(command), 100, 30, judge, missing, "not run", variables)
        )
    return found


def _whole_steps(python: str) -> list[Stage]:
    script = ROOT / "experiments" / "step_time" / "gpu.py"
    command = [python, str(script), "--out", str(script.parent / "results" / "gpu")]
    missing = "" if script.exists() else f"{script.relative_to(ROOT)} is not there"
    # It begins nothing after its seconds; what it has begun takes some more.
    return [Stage("whole steps", "steps", _timed(command, 30), 480, 75, by_steps, missing)]


def _timed(command: Sequence[str], margin: float = 0.0) -> Callable[[float], Sequence[str]]:
    return lambda seconds: [*command, "--seconds", f"{max(1.0, seconds - margin):.0f}"]


def _always(command: Sequence[str]) -> Callable[[float], Sequence[str]]:
    return lambda seconds: command


def code_of_everything() -> str:
    """A short hash of all code that the stages run: the marks of other code do not count."""
    digest = hashlib.sha256()
    folders = ("kernels", "sparseft", "tests/kernels", "tests/sparse", "experiments/step_time")
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


class State:
    """stages.json: what each stage came to, and the seconds that are spent."""

    def __init__(self, path: Path, code: str) -> None:
        self.path = path
        content: dict[str, Any] = {}
        if path.exists():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                content = {}
        self.stages: dict[str, dict[str, Any]] = (
            content.get("stages", {}) if content.get("code") == code else {}
        )
        self.code = code

    def of(self, name: str) -> dict[str, Any]:
        """One stage's mark."""
        return self.stages.get(name, {"status": "", "seconds": 0.0, "attempts": 0})

    @property
    def spent(self) -> float:
        """Seconds of all stages so far."""
        return float(sum(mark["seconds"] for mark in self.stages.values()))

    def note(self, name: str, status: str, seconds: float) -> None:
        """Keep what an attempt came to."""
        old = self.of(name)
        self.stages[name] = {
            "status": status,
            "seconds": round(old["seconds"] + seconds, 1),
            "attempts": old["attempts"] + 1,
        }
        files.write_json(self.path, {"code": self.code, "stages": self.stages})


def _is_done(mark: Mapping[str, Any], stage: Stage) -> bool:
    status: str = mark["status"]
    if status.startswith(("passed", "not run")):
        return True
    # What has used its time stays as far as it came.
    return status == "unfinished" and bool(mark["seconds"] >= stage.budget - stage.least)


def run_stages(
    wanted: Iterable[Stage],
    state: State,
    log: Path,
    *,
    seconds: float,
    total: float = TOTAL_SECONDS,
    say: Callable[[str], None] = print,
) -> int:
    """Run what is not done yet.

    Args:
        wanted: the stages.
        state: the marks so far.
        log: all output is appended there.
        seconds: of this call.
        total: of all calls with this code.

    Returns:
        0 all done, 1 some stage failed, 3 the time ended before all were done.
    """
    wanted = list(wanted)
    started = time.monotonic()
    order = sorted(wanted, key=lambda stage: state.of(stage.name)["attempts"])
    for stage in order:
        mark = state.of(stage.name)
        if _is_done(mark, stage):
            continue
        if stage.missing:
            say(f"== {stage.name}: not run: {stage.missing}")
            state.note(stage.name, f"{stage.if_missing}: {stage.missing}", 0.0)
            continue
        for _ in range(1 + stage.restarts):
            spent = state.of(stage.name)["seconds"]
            left = min(seconds - _ENDING - (time.monotonic() - started), total - state.spent)
            share = min(left, stage.budget - spent)
            if share < stage.least:
                break
            say(f"== {stage.name}: at most {share:.0f} s")
            status = _attempt(stage, share, state, log)
            say(f"== {stage.name}: {status} after {state.of(stage.name)['seconds'] - spent:.0f} s")
            if status != "unfinished":
                break
    return _summary(wanted, state, total, say)


def _attempt(stage: Stage, share: float, state: State, log: Path) -> str:
    """Run a stage once and keep what it came to."""
    begun = time.monotonic()
    # A command that obeys a limit of its own gets a little less than the limit on the process.
    code, output = _run(stage.command(share - _ENDING), share, stage.environment, log)
    status = "unfinished" if code is None else stage.judge(code, output)
    state.note(stage.name, status, time.monotonic() - begun)
    return status


def _summary(
    wanted: Sequence[Stage], state: State, total: float, say: Callable[[str], None]
) -> int:
    say(f"\n{'stage':32s} {'seconds':>8s}  outcome")
    more, failed = False, False
    for stage in wanted:
        mark = state.of(stage.name)
        say(f"{stage.name:32s} {mark['seconds']:8.1f}  {mark['status'] or 'not begun'}")
        failed |= mark["status"].startswith("failed")
        more |= not _is_done(mark, stage) and not mark["status"].startswith("failed")
    say(f"{state.spent:.0f} of {total:.0f} s used with this code")
    if more and state.spent < total - 60:
        say("There is more to do: run the same command again, it goes on from here.")
    elif more:
        say("The time of this code is used; TOTAL=<seconds> allows more.")
    return 1 if failed else MORE if more else 0


def _run(
    command: Sequence[str], limit: float, environment: Mapping[str, str] | None, log: Path
) -> tuple[int | None, str]:
    """The exit status (None after the limit) and the output, which is shown and logged."""
    variables = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]),
        "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", **(environment or {}),
    }  # fmt: skip
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        stream.write(f"\n$ {' '.join(command)}\n".encode())
        stream.flush()
        begin = stream.tell()
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=stream, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        except BaseException:
            _end(process)
            raise
        if code is None:
            _end(process)
    with log.open("rb") as read:
        read.seek(begin)
        output = read.read().decode(errors="replace")
    print("\n".join(output.splitlines()[-15:]), flush=True)
    return code, output


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the stage's process and those that it started: they are a process group of their own."""
    for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
