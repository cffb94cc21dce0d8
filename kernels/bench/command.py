"""The commands of `python -m bench`."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

__all__ = ["RESULTS", "main"]

RESULTS = Path(__file__).resolve().parents[2] / "experiments" / "kernels" / "results"


def _aot(arguments: argparse.Namespace) -> int:
    from bench import aot

    jobs = aot.jobs_for(
        arguments.only,
        arguments.architectures or aot.ARCHITECTURES,
        arguments.dtypes or (),
        arguments.quick,
        arguments.more,
    )
    if not jobs:
        print(f"no operation begins with {arguments.only!r}")
        return 2
    rows = aot.compile_all(jobs, arguments.processes, arguments.stack, progress=True)
    print(aot.markdown(rows))
    if arguments.json is not None:
        aot.save(arguments.json, rows)
        if arguments.document is not None:
            aot.write_table(arguments.document, json.loads(arguments.json.read_text()))
    failed = [row for row in rows if row.failure]
    for row in failed:
        print(f"FAILED sm_{row.architecture} {row.case} {row.variant} {row.config}: {row.failure}")
    print(f"{len(rows)} kernels compiled, {len(failed)} failed")
    return 1 if failed else 0


_NO_DEVICE = (
    "needs a CUDA device and a CUDA build of torch: torch.cuda.is_available() is false here "
    "(`python -m bench aot` compiles the kernels without one)"
)


def _has_device() -> bool:
    import torch

    if torch.cuda.is_available():
        return True
    print(_NO_DEVICE)
    return False


def _run(arguments: argparse.Namespace) -> int:
    if not _has_device():
        return 2
    from bench.adapters import cases_of
    from bench.machine import CudaMachine
    from bench.records import Records, folder_for, write_csv
    from bench.run import failures, run_cases

    machine = CudaMachine()
    records = Records(folder_for(machine.name, arguments.results))
    cases = cases_of(arguments.quick, arguments.only, arguments.dtype)
    summary = run_cases(
        machine,
        cases,
        records,
        anchors={case.key for case in cases_of(quick=True)},
        seconds=arguments.seconds,
        timed=not arguments.verify,
        progress=lambda line: print(line, flush=True),
    )
    if len(records):
        print(write_csv(records))
    failed = summary.failed if arguments.verify else failures(records, cases)
    for line in failed:
        print(f"FAILED {line}")
    print(
        f"{summary.finished} cases done, {summary.skipped} were measured before, "
        f"{summary.left} left, {len(failed)} implementations failed"
    )
    if summary.broken:
        print("this process can measure no more; the same command goes on after that case")
    return 3 if summary.left else 1 if failed else 0


def _verify(arguments: argparse.Namespace) -> int:
    arguments.verify = True
    return _run(arguments)


def _folders(results: Path) -> list[Path]:
    return sorted(path.parent for path in results.glob("*/cases.jsonl"))


def _tables(arguments: argparse.Namespace) -> int:
    from bench.records import Records
    from bench.tables import write_table

    for folder in _folders(arguments.results):
        records = Records(folder)
        if len(records):
            print(write_table(records, records.latest()[-1]["gpu"], arguments.folder))
    return _nothing(arguments.results)


def _report(arguments: argparse.Namespace) -> int:
    from bench.records import Records
    from bench.report import report
    from sparseft import files

    for folder in _folders(arguments.results):
        text = report(Records(folder))
        print(text)
        print(files.write_text(folder / "report.md", text + "\n"))
    return _nothing(arguments.results)


def _nothing(results: Path) -> int:
    if _folders(results):
        return 0
    print(f"no measurement of any GPU in {results}: `make gpu` on a machine that has one writes it")
    return 2


def _small(arguments: argparse.Namespace) -> int:
    if not _has_device():
        return 2
    import torch

    from bench.small import run_small

    device = torch.device("cuda", torch.cuda.current_device())
    bad = run_small(device, arguments.only, arguments.dtype, arguments.quick, print)
    torch.cuda.synchronize()
    for line in bad:
        print(f"FAILED {line}")
    return 1 if bad else 0


def _gpu(arguments: argparse.Namespace) -> int:
    if not _has_device():
        return 2
    import torch

    from bench import gpu
    from bench.records import folder_for

    folder = folder_for(torch.cuda.get_device_name(), arguments.results)
    chosen = [s for s in gpu.stages(arguments.results) if arguments.only in ("", s.group)]
    state = gpu.State(folder / "stages.json", gpu.code_of_everything())
    status = gpu.run_stages(
        chosen, state, folder / "log.txt", seconds=arguments.seconds, total=arguments.total
    )
    if _folders(arguments.results):
        _tables(argparse.Namespace(results=arguments.results, folder=None))
        _report(argparse.Namespace(results=arguments.results))
    return status


def _parser() -> argparse.ArgumentParser:
    from bench import __doc__ as text

    parser = argparse.ArgumentParser(
        "python -m bench", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("aot", help="compile every kernel without a GPU")
    one.set_defaults(run=_aot)
    one.add_argument("--only", default="", help="the start of an operation's name")
    one.add_argument("--architectures", type=int, nargs="+", help="80 90")
    one.add_argument("--dtypes", nargs="+", help="bfloat16 float16 float32")
    one.add_argument("--quick", action="store_true", help="leave variants of the kernels out")
    one.add_argument("--more", action="store_true", help="odd widths of weights, too")
    one.add_argument("--processes", type=int, default=2)
    one.add_argument("--stack", type=int, default=256, help="bytes a thread that are allowed")
    one.add_argument("--json", type=Path, help="write the whole table there")
    one.add_argument("--document", type=Path, help="and its summary between the marks in there")
    for name, run, what in (
        ("run", _run, "verify and time the cases on the CUDA device"),
        ("verify", _verify, "verify them, without timing"),
    ):
        one = commands.add_parser(name, help=what)
        one.set_defaults(run=run, verify=False)
        one.add_argument("--quick", action="store_true", help="corners and middles of the grids")
        one.add_argument("--only", default="", help="the start of an operation's name")
        one.add_argument("--dtype", default="", help="one dtype alone")
        one.add_argument("--seconds", type=float, default=math.inf, help="stop in time")
        _takes_results(one)
    one = commands.add_parser("tables", help="write the dispatcher's tables from the records")
    one.set_defaults(run=_tables)
    one.add_argument("--folder", type=Path, help="another folder than the package's own")
    _takes_results(one)
    one = commands.add_parser("report", help="the records against floor, rivals and targets")
    one.set_defaults(run=_report)
    _takes_results(one)
    one = commands.add_parser("small", help="tiny shapes of every kernel, twice, on the device")
    one.set_defaults(run=_small)
    one.add_argument("--only", default="", help="the start of an operation's name")
    one.add_argument("--dtype", default="", help="one dtype alone")
    one.add_argument("--quick", action="store_true", help="one setting, no variants")
    one = commands.add_parser("gpu", help="all stages that need a device: `make gpu`")
    one.set_defaults(run=_gpu)
    one.add_argument("--only", default="", choices=("", "test", "bench", "steps"))
    one.add_argument("--seconds", type=float, default=1140.0, help="of this call")
    one.add_argument("--total", type=float, default=1140.0, help="of all calls with this code")
    _takes_results(one)
    return parser


def _takes_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the records")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    parsed = _parser().parse_args(arguments)
    status: int = parsed.run(parsed)
    return status
