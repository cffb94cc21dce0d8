"""`python -m sparseft.run`: compose a configuration, do one run or a sweep, say how it went.

    python -m sparseft.run +experiment=intent             one run
    python -m sparseft.run +experiment=intent data=trec   on other data
    python -m sparseft.run -m +experiment=intent          the experiment's sweep

A run whose configuration and commit already have a result is skipped, so a sweep that was stopped
goes on where it was. The exit status is 2 where a run failed on a user error, 1 on any other.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sparseft.config import RunConfig
from sparseft.errors import ConfigError, SparseftError
from sparseft.paths import conf_dir
from sparseft.reporting.examples import write_examples
from sparseft.reporting.routing.terminal import routed_lines, routed_rows
from sparseft.results import Result
from sparseft.training import RunOutcome, TrainedRun, execute

__all__ = ["main"]

_log = logging.getLogger("sparseft.run")

# By task: the metrics that lead, as they are called.
_LEADING = {
    "classification": {"accuracy": "accuracy", "macro_f1": "macro-F1"},
    "compliance": {"field_accuracy": "field accuracy", "macro_f1": "macro-F1"},
    "routing": {"jga": "joint goal accuracy", "aiq": "AIQ"},
    "dst": {"jga_strict": "joint goal accuracy", "turn_accuracy_strict": "turn accuracy"},
}

# Tells a worker of a parallel launcher that nobody reads its `_Sweep`.
_MAIN_PROCESS = "SPARSEFT_MAIN_PROCESS"


class _Sweep:
    """What happened in this process."""

    def __init__(self) -> None:
        self.outcomes: list[RunOutcome] = []
        self.failures: list[tuple[str, BaseException]] = []


def main() -> None:
    """The command line."""
    sweep = _Sweep()
    os.environ[_MAIN_PROCESS] = str(os.getpid())
    # Hydra then hands exceptions on instead of printing them and leaving with status 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    _set_up_logging()

    def task(composed: DictConfig) -> None:
        _one(composed, sweep)

    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(task)()
    except (SparseftError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {_of_one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        # Hydra makes the folder of a sweep.
        print(
            f"error: expected to write {error.filename}, got: {error.strerror}; "
            "choose a writable folder with output=FOLDER.",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    if len(sweep.outcomes) + len(sweep.failures) > 1:
        print(_table([outcome.result for outcome in sweep.outcomes]))
    if sweep.failures:
        if len(sweep.outcomes) + len(sweep.failures) > 1:
            print(f"{len(sweep.failures)} runs failed:", file=sys.stderr)
        for name, failure in sweep.failures:
            print(f"error: {name}{failure}", file=sys.stderr)
        users = all(isinstance(failure, SparseftError) for _, failure in sweep.failures)
        sys.exit(2 if users else 1)


def _of_one_line(error: Exception) -> str:
    """The error's message without Hydra's line breaks and its list of folders."""
    text = str(error).split("Config search path")[0]
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):  # says which key, for example
        text = f"{text} {cause}"
    return " ".join(text.split())


def _set_up_logging() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("sparseft")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # Its report of each data set is in the summary and in result.json.
    logging.getLogger("sparseft.data").setLevel(logging.WARNING)


def _one(composed: DictConfig, sweep: _Sweep) -> None:
    """One run; in a sweep a failure is kept for the end, so that it does not lose the others."""
    job = HydraConfig.get()
    multiple = job.mode == RunMode.MULTIRUN
    name = ""
    if multiple:
        # What the command line says of every run does not tell this one apart.
        name = " ".join(entry for entry in job.overrides.task if entry not in sys.argv)
        _log.info("run %d: %s", int(job.job.num) + 1, name)
        name += ": "
    try:
        outcome = _execute(_config(composed))
    except Exception as error:
        if os.environ.get(_MAIN_PROCESS) != str(os.getpid()):
            raise
        if not isinstance(error, SparseftError):
            if not multiple:
                raise
            _log.exception("run %sfailed", name)
        elif multiple:
            _log.error("error: %s", error)
        sweep.failures.append((name, error))
        return
    sweep.outcomes.append(outcome)
    print(_line(outcome) if multiple else _summary(outcome), flush=True)


def _execute(config: RunConfig) -> RunOutcome:
    if config.task.name == "compliance":
        # Only here: a classification needs neither grammars nor schemas.
        from sparseft.reporting.compliance.run_page import write_page
        from sparseft.training.compliance import execute_compliance

        return execute_compliance(config, look=write_page)
    if config.task.name == "routing":
        from sparseft.reporting.routing import write_routing_page
        from sparseft.training.routing import execute_routing

        return execute_routing(config, look=write_routing_page)
    if config.task.name == "dst":
        from sparseft.training.dst import execute_dst

        return execute_dst(config)
    return execute(config, look=_write_examples)


def _write_examples(run: TrainedRun) -> None:
    """Some test texts with their salient tokens, for the report's page of a sparse run."""
    if run.prepared.selection is not None:
        write_examples(
            run.loaded.model,
            run.loaded.tokenizer,
            run.data.test,
            run.data.label_names,
            run.folder / "examples.json",
            max_length=run.config.model.max_length,
        )


def _config(composed: DictConfig) -> RunConfig:
    try:
        mapping = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        key = getattr(error, "full_key", None)
        raise ConfigError(f"expected a complete configuration, got: {reason} ({key}).") from error
    assert isinstance(mapping, dict)
    return RunConfig.from_mapping({str(key): value for key, value in mapping.items()})


def _line(outcome: RunOutcome) -> str:
    result = outcome.result
    # Routing trains nothing.
    spent = "evaluation_seconds" if result.task == "routing" else "train_seconds"
    done = "was done before" if outcome.skipped else f"{result.cost[spent]:.0f} s"
    metric, called = next(iter(_LEADING[result.task].items()))
    return (
        f"  {called} {result.metrics[metric]:.4f}, validation {result.validation:.4f}, "
        f"{done}: {outcome.folder}"
    )


def _summary(outcome: RunOutcome) -> str:
    result, folder = outcome.result, outcome.folder
    cost, notes = result.cost, result.notes
    lines = []
    if outcome.skipped:
        lines.append("this configuration and commit have a result already; rerun=true runs again")
    elif outcome.resumed:
        lines.append("went on from the checkpoint of a run that was stopped")
    if result.task == "routing":
        return "\n".join([*lines, *routed_lines(result, folder)])
    metrics = dict(result.metrics)
    shown = [(called, metrics.pop(name)) for name, called in _LEADING[result.task].items()]
    shown += [(name.replace("_", " "), value) for name, value in metrics.items()]
    share = cost["trainable_parameters"] / cost["total_parameters"]
    flops, memory = cost["flops_per_step"], cost["peak_memory_bytes"]
    rows = ", ".join(f"{split} {count:,}" for split, count in result.data["rows"].items())
    lines += [
        f"{result.method} on {result.data['name']}, {result.model}, seed {result.seed}",
        f"  rows      {rows}; {result.data['test_texts_removed']} more test texts occur in train",
        "  test      " + ", ".join(f"{name} {value:.4f}" for name, value in shown),
        f"  selected  validation {notes.get('metric')} {result.validation:.4f} after epoch "
        f"{notes.get('best_epoch')}, {result.seconds_to_best:.1f} s after the start",
        f"  seconds   head warm-up {cost['head_warmup_seconds']:.1f}, analysis "
        f"{cost['analysis_seconds']:.1f}, training {cost['train_seconds']:.1f}, validation "
        f"{cost['evaluation_seconds']:.1f}",
        *_constructs(notes.get("constructs")),
        f"  step      median {cost['step_ms_median']:.1f} ms (p20 {cost['step_ms_p20']:.1f}, p80 "
        f"{cost['step_ms_p80']:.1f}), {cost['steps']} steps"
        + ("" if flops is None else f", {flops / 1e9:.1f} GFLOP each"),
        f"  trained   {cost['trainable_parameters']:,} of {cost['total_parameters']:,} parameters "
        f"({share:.2%}), optimizer state {cost['optimizer_state_bytes'] / 1e6:.1f} MB"
        + ("" if memory is None else f", peak memory {memory / 1e6:.0f} MB"),
        f"  result    {folder / 'result.json'}",
    ]
    for name in ("delta", "state.safetensors"):
        if (folder / name).exists():
            lines.append(f"  {'delta' if name == 'delta' else 'state'}     {folder / name}")
    return "\n".join(lines)


def _constructs(notes: Mapping[str, Any] | None) -> list[str]:
    if not notes:
        return []
    return [
        f"  construct {notes['mined']} mined, {notes['tokens']} of them tokens, "
        f"{notes['seconds']:.1f} s"
    ]


def _table(results: Sequence[Result]) -> str:
    """Test figures: of routing by pair of models, else by data and method."""
    if results and results[0].task == "routing":
        return _aligned(routed_rows(results, _spread))
    return _aligned(_trained_rows(results))


def _trained_rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """By data and method, each at the learning rate that validates best."""
    groups: dict[tuple[str, str], dict[float, list[Result]]] = {}
    for result in results:
        by_lr = groups.setdefault((result.data["name"], result.method), {})
        by_lr.setdefault(result.tuning["lr"], []).append(result)
    leading = _LEADING[results[0].task] if results else {}
    rows = [("data", "method", "lr", "seeds", "validation", *leading.values(), "ms/step")]
    for (data, method), by_lr in groups.items():
        lr, best = max(by_lr.items(), key=lambda item: _mean([r.validation for r in item[1]]))
        rows.append(
            (
                data,
                method,
                f"{lr:.2g} of {len(by_lr)}",
                str(len(best)),
                _spread([r.validation for r in best]),
                *(_spread([r.metrics[name] for r in best]) for name in leading),
                f"{statistics.median(r.cost['step_ms_median'] for r in best):.1f}",
            )
        )
    return rows


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{_mean(values):.4f}{deviation}"


if __name__ == "__main__":
    main()
