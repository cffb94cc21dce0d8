"""The way of one run: dialogues, tracker, method, training, test with the predicted states."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from sparseft import files, methods, models
from sparseft.config import DstConfig, RunConfig
from sparseft.errors import ConfigError
from sparseft.results import environment
from sparseft.routing.metrics import slot_scores, state_exact, turn_exact
from sparseft.routing.rollout import Step, roll_out
from sparseft.routing.routers import AlwaysSmall
from sparseft.routing.states import difference
from sparseft.routing.tracker import (
    DialogueCorpus,
    TrackerExpert,
    learn_vocabulary,
    load_dialogues,
    with_gold,
)
from sparseft.routing.tracker.loading import SETTINGS_FILE, tracker_settings
from sparseft.routing.tracker.rows import TurnBatches, TurnEncoder
from sparseft.routing.turns import Turn, dialogues_of
from sparseft.training.devices import device_name, resolve_device
from sparseft.training.dst.head import WarmHead, warm_up_tracker
from sparseft.training.dst.validation import Turns, validate_turns
from sparseft.training.folder import RunOutcome, finished_result, run_folder, tracker_of_run
from sparseft.training.loop import train
from sparseft.training.prefix_cache import PrefixCache, build_for_run
from sparseft.training.preparing import prepare_task
from sparseft.training.record import MetricsLog
from sparseft.training.recording import result_of_task, save_task_delta

__all__ = ["execute_dst"]

_METRIC = "turn_accuracy"


def execute_dst(config: RunConfig) -> RunOutcome:
    """Do one run, or find it done: same configuration and same commit.

    Written to the run's folder: config.json, metrics.jsonl, result.json, predictions.jsonl (of the
    test turns, as a recorded expert is read), and for the sparse method `delta/`, which
    `load_tracker_expert` reads.

    Args:
        config: the run's settings; `config.task.dst` is set.

    Raises:
        SparseftError: any of its kinds; result.json exists only after a run that ended well.
    """
    settings = config.task.dst
    assert settings is not None
    device = resolve_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    mapping = config.to_mapping()
    folder = run_folder(config)
    where = environment(device_name(device), torch.get_num_threads())
    done = finished_result(folder / "result.json", where, config.rerun)
    if done is not None:
        return RunOutcome(done, folder, skipped=True)
    method = methods.get(str(config.method["name"]))
    if config.constructs.mine:
        raise ConfigError(
            "expected constructs=none with task=dst, got mined ones: they are of labelled texts; "
            "leave constructs out."
        )
    corpus = load_dialogues(config.data, config.seed, settings.validation_dialogues)
    run = _Run(config, settings, corpus, device)
    total = sum(p.numel() for p in run.model.parameters())
    warm = run.warm_up()
    prepared = prepare_task(
        config, method, run.model, run.rows, None if warm is None else warm.held_out
    )
    files.write_json(folder / "config.json", mapping)
    tracker = tracker_of_run(config, folder, mapping)
    summary: dict[str, float] = {}
    try:
        with MetricsLog(folder / "metrics.jsonl", tracker, after_step=0) as log:
            cache = build_for_run(prepared.model, (run.rows, run.validation), config.training)
            outcome = train(
                prepared,
                run.rows,
                lambda: run.validate(cache.cache),
                config.training,
                lr=config.lr * prepared.lr_factor,
                metric=_METRIC,
                seed=config.seed,
                log=log,
                cache=cache.cache,
            )
        steps = run.steps()
        metrics = _metrics(corpus.test, steps, settings.separator)
        delta_bytes = save_task_delta(
            config,
            prepared,
            folder,
            data={"name": corpus.name, "sha256": corpus.sha256},
            metrics=metrics,
            beside={SETTINGS_FILE: json.dumps(run.settings_of_delta(), ensure_ascii=False)},
        )
        _write_predictions(folder / "predictions.jsonl", steps)
        result = result_of_task(
            config,
            prepared,
            outcome,
            cache,
            metric=_METRIC,
            metrics=metrics,
            data={"name": corpus.name, "sha256": corpus.sha256, **corpus.report},
            head_seconds=0.0 if warm is None else warm.seconds,
            total_parameters=total,
            delta_bytes=delta_bytes,
            environment=where,
            notes={"turns_cut": run.cut},
        )
        result.save(folder / "result.json")
        summary = {f"test/{name}": value for name, value in metrics.items()}
    finally:
        if tracker is not None:
            tracker.finish(summary)
    return RunOutcome(result, folder)


class _Run:
    """The loaded parts of one run."""

    def __init__(
        self, config: RunConfig, settings: DstConfig, corpus: DialogueCorpus, device: torch.device
    ) -> None:
        self.config, self.settings, self.corpus = config, settings, corpus
        self.vocabulary = learn_vocabulary(corpus.train, settings.separator)
        loaded = models.load_tracker(config.model, self.vocabulary.layout, config.seed)
        self.model = loaded.model.to(device)
        self.encoder = TurnEncoder(
            loaded.tokenizer, self.vocabulary, config.model.max_length, settings.separator
        )
        training = config.training
        contexts, deltas = with_gold(corpus.train)
        self.rows = TurnBatches(
            contexts, deltas, self.encoder, training.batch_size, config.seed, device=device
        )
        self.cut = sum(row.cut > 0 for row in self.rows.encoded)
        self.contexts, deltas = with_gold(corpus.validation)
        self.validation = TurnBatches(
            self.contexts, deltas, self.encoder, training.eval_batch_size, device=device
        )
        by_id = {turn.id: turn for turn in corpus.validation}
        self.gold = [by_id[context.id] for context in self.contexts]

    def warm_up(self) -> WarmHead | None:
        """Fit the head to the frozen features; none where no steps are asked for."""
        training = self.config.training
        if training.head_warmup_steps == 0:
            return None
        return warm_up_tracker(
            self.model,
            self.rows,
            steps=training.head_warmup_steps,
            l2=1e-4 if training.head_warmup_l2 == "auto" else float(training.head_warmup_l2),
            most=self.settings.warmup_rows,
            precision=training.autocast,
            seed=self.config.seed,
        )

    def validate(self, cache: PrefixCache | None) -> Turns:
        """Which validation turns are right after their gold state."""
        return validate_turns(
            self.model,
            self.validation,
            self.contexts,
            self.gold,
            self.settings.separator,
            self.config.training.autocast,
            cache,
        )

    def steps(self) -> list[Step]:
        """The test dialogues, each turn after the states that were predicted before."""
        names = frozenset(turn.dialogue for turn in self.corpus.train)
        expert = TrackerExpert(self.model.eval(), self.encoder, trained_on=names)
        return roll_out(dialogues_of(self.corpus.test), AlwaysSmall(), 0.5, expert, expert)

    def settings_of_delta(self) -> dict[str, object]:
        """What stands beside the delta."""
        names = frozenset(turn.dialogue for turn in self.corpus.train)
        length = self.config.model.max_length
        return tracker_settings(self.vocabulary, length, self.settings.separator, names)


def _metrics(
    turns: Sequence[Turn], steps: Sequence[Step], separator: str | None
) -> dict[str, float]:
    by_id = {turn.id: turn for turn in turns}
    gold = [by_id[step.context.id] for step in steps]
    states = {step.context.id: step.state for step in steps}
    deltas = {step.context.id: difference(step.context.previous, step.state) for step in steps}
    found: dict[str, float] = {}
    for normalise, named in ((False, "strict"), (True, "normalised")):
        options = {"normalise": normalise, "separator": separator}
        found[f"jga_{named}"] = state_exact(gold, states, **options).rate  # type: ignore[arg-type]
        found[f"turn_accuracy_{named}"] = turn_exact(gold, deltas, **options).rate  # type: ignore[arg-type]
    slots = slot_scores(gold, states, of="state", normalise=True, separator=separator)
    found["slot_f1_normalised"] = slots.f1
    seconds = [step.prediction.seconds for step in steps]
    found["seconds_per_turn"] = sum(seconds) / len(seconds)
    return found


def _write_predictions(path: Path, steps: Sequence[Step]) -> None:
    """In the form that `RecordedExpert.from_jsonl` reads."""
    lines = []
    for step in steps:
        said = step.prediction
        content = {
            "dialogue_id": step.context.dialogue,
            "turn_id": step.context.number,
            "delta": dict(said.delta),
            "score": None if said.score is None else round(said.score, 4),
            "prompt_tokens": said.prompt_tokens,
        }
        lines.append(json.dumps(content, ensure_ascii=False))
    files.write_text(path, "\n".join(lines) + "\n")
