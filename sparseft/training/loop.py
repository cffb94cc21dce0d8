"""The one training loop, of every method."""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sparseft.config import TrainingConfig
from sparseft.errors import ConfigError
from sparseft.methods import Prepared
from sparseft.models import TaskModel
from sparseft.training.averaging import Average, make_average
from sparseft.training.devices import (
    autocast,
    random_state,
    restore_random_state,
    seed_everything,
    synchronize,
)
from sparseft.training.meters import PeakMemory, StepMeter, count_flops, optimizer_state_bytes
from sparseft.training.prefix_cache import PrefixCache, replay
from sparseft.training.progress import Progress, TrainOutcome
from sparseft.training.record import MetricsLog
from sparseft.training.refresh import Refresher
from sparseft.training.schedule import make_optimizer, schedule_factor
from sparseft.training.values import Snapshot, TrainedValues

__all__ = ["Batches", "Progress", "TrainOutcome", "accumulate", "train"]

Batch = Mapping[str, Tensor]

_STEPS_TO_CHOOSE_FROM = 65  # for the count of FLOPs


class Batches(Protocol):
    """What the loop needs of a loader: an order that is a function of (seed, epoch)."""

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None: ...

    def batches(self, start: int = 0) -> Iterator[dict[str, Tensor]]: ...


class Validation(Protocol):
    """What the loop needs of a validation: the metrics, among them the loss."""

    @property
    def metrics(self) -> Mapping[str, float]: ...


def accumulate(
    model: TaskModel,
    window: Sequence[Batch],
    precision: str = "off",
    cache: PrefixCache | None = None,
) -> float:
    """Add the gradient of the mean loss over all rows of the window; returns that loss.

    Args:
        window: batches of any sizes.
        precision: the `training.autocast` setting.
        cache: stored outputs of the model's frozen layers.
    """
    rows = sum(len(batch["labels"]) for batch in window)
    total: Tensor | float = 0.0
    for batch in window:
        with autocast(precision, batch["input_ids"].device), replay(cache, batch):
            output = model(batch["input_ids"], batch["attention_mask"], batch["labels"])
        # A short last batch must not weigh more than its rows.
        share = output.loss * (len(batch["labels"]) / rows)
        share.backward()
        total = total + share.detach()
    return float(total)


def train(
    prepared: Prepared,
    batches: Batches,
    validate: Callable[[], Validation],
    config: TrainingConfig,
    *,
    lr: float,
    metric: str,
    seed: int,
    log: MetricsLog,
    head_lr: float | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
    resume: Mapping[str, Any] | None = None,
    cache: PrefixCache | None = None,
    refresher: Refresher | None = None,
) -> TrainOutcome:
    """Train the prepared model and leave it with the values that were best on validation data.

    After every `config.validate_every` epochs and after the last step `validate` is called, on the
    averaged values where there is an average; the best score wins, of equal scores the lower loss.

    Args:
        prepared: the model and its trained parameters.
        batches: the shuffled training batches.
        validate: evaluates the validation split.
        config: the loop's settings.
        lr: the body's peak learning rate.
        metric: the key of the validation metrics that is maximised.
        seed: of dropout.
        log: where each step is written.
        head_lr: the head's peak learning rate; default `config.head_lr`.
        save: called with the state every `config.checkpoint_every` steps.
        resume: such a state, to go on from.
        cache: stored outputs of the frozen layers for all training texts; those layers, and their
            dropout, do not run then.
        refresher: exchanges the sparse method's units while it trains.

    Raises:
        ConfigError: the loss became infinite or NaN.
        CheckpointError: `resume` does not fit the prepared model.
    """
    head_lr = config.head_lr if head_lr is None else head_lr
    run = _Run(prepared, batches, config, lr, head_lr, cache, refresher)
    seed_everything(seed)
    flops = run.count_flops() if config.measure_flops else None
    if resume is not None:
        run.load_state(resume)
    run.go(validate, metric, log, save)
    return run.outcome(flops)


class _Run:
    """The state of one training."""

    def __init__(
        self,
        prepared: Prepared,
        batches: Batches,
        config: TrainingConfig,
        lr: float,
        head_lr: float,
        cache: PrefixCache | None,
        refresher: Refresher | None,
    ) -> None:
        self.prepared = prepared
        self.cache = cache
        self.refresher = refresher
        self.model: TaskModel = prepared.model
        self.batches = batches
        self.config = config
        self.trained = TrainedValues(prepared)
        self.optimizer = make_optimizer(prepared, lr, head_lr, config.weight_decay)
        self.steps_per_epoch = -(-len(batches) // config.accumulation)
        self.steps = self.steps_per_epoch * config.epochs
        if config.max_steps is not None:
            self.steps = min(self.steps, config.max_steps)
        self.device = self.trained.device
        self.progress = Progress()
        self.average: Average | None = make_average(config, self.trained.parameters, self.steps)
        self.best: Snapshot | None = None
        self.memory_source = ""
        if config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable()

    def windows(self) -> Iterator[list[dict[str, Tensor]]]:
        """The rest of the epoch's batches, those of one optimizer step at a time."""
        self.batches.set_epoch(self.progress.epoch)
        window: list[dict[str, Tensor]] = []
        for batch in self.batches.batches(self.progress.step_of_epoch * self.config.accumulation):
            window.append(batch)
            if len(window) == self.config.accumulation:
                yield window
                window = []
        if window:
            yield window

    def count_flops(self) -> int | None:
        """FLOPs of one step, without taking it.

        Batches are of unequal lengths: it is the step of median size among the first ones.
        """
        self.model.train()
        windows = list(itertools.islice(self.windows(), _STEPS_TO_CHOOSE_FROM))
        windows.sort(key=lambda window: sum(batch["input_ids"].numel() for batch in window))
        window = windows[len(windows) // 2]
        return count_flops(self.model, lambda: self.accumulate(window))

    def accumulate(self, window: list[dict[str, Tensor]]) -> float:
        """Add the window's gradient; returns its loss."""
        return accumulate(self.model, window, self.config.autocast, self.cache)

    def step(self, window: list[dict[str, Tensor]]) -> dict[str, float]:
        """One optimizer step; returns what is logged of it."""
        config, progress = self.config, self.progress
        factor = schedule_factor(progress.step, self.steps, config.warmup_share, config.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        synchronize(self.device)
        start = time.perf_counter()
        loss = self.accumulate(window)
        norm = None
        if config.clip_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.trained.parameters, config.clip_norm)
        if not math.isfinite(loss) or (norm is not None and not bool(torch.isfinite(norm))):
            raise ConfigError(
                f"expected a finite loss and gradient, got a loss of {loss} at step "
                f"{progress.step + 1}; lower method.lr or lr_scale."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(progress.step + 1)
        synchronize(self.device)
        progress.milliseconds.append(1000.0 * (time.perf_counter() - start))
        progress.step += 1
        progress.step_of_epoch += 1
        values = {"epoch": progress.epoch + 1, "loss": loss}
        values["lr"] = self.optimizer.param_groups[0]["lr"]
        if norm is not None:
            values["gradient_norm"] = float(norm)
        return values

    def go(
        self,
        validate: Callable[[], Validation],
        metric: str,
        log: MetricsLog,
        save: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        """Train until the last step or the early stop."""
        progress, every = self.progress, self.config.checkpoint_every
        hidden = {"auto": None, "on": False, "off": True}[self.config.progress]  # None: on a TTY
        # What an earlier run of this process left must not count as this one's memory.
        gc.collect()
        with tqdm(
            total=self.steps, initial=progress.step, unit="step", disable=hidden, leave=False
        ) as bar:
            while progress.step < self.steps and not progress.stopped:
                self.model.train()
                memory = PeakMemory(self.device)
                self.memory_source = memory.source
                mark = time.perf_counter()
                for window in self.windows():
                    values = self.step(window)
                    log.write("train", progress.step, values)
                    bar.update()
                    bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
                    last = progress.step == self.steps
                    ended = last or progress.step_of_epoch == self.steps_per_epoch
                    due = save is not None and every is not None and progress.step % every == 0
                    if not ended:
                        self.refresh_if_due(ended=False)
                    if ended or due:
                        progress.train_seconds += time.perf_counter() - mark
                        self.note_peak(memory)
                    if ended:
                        self.end_epoch(validate, metric, log)
                        # After the validation, which then sees what was trained.
                        memory = PeakMemory(self.device)
                        progress.train_seconds += self.refresh_if_due(ended=True)
                        self.note_peak(memory)
                    if due and save is not None:
                        save(self.state())
                    if ended:
                        break
                    if due:
                        mark = time.perf_counter()
        assert self.best is not None
        self.trained.put(self.best)

    def note_peak(self, memory: PeakMemory) -> None:
        """Count what was in use since `memory` was made."""
        peak = memory.bytes() or 0
        self.progress.peak_memory_bytes = max(self.progress.peak_memory_bytes, peak)

    def refresh_if_due(self, ended: bool) -> float:
        """Exchange units where the refresher says so; the seconds that took."""
        refresher, progress = self.refresher, self.progress
        if refresher is None or not refresher.options.due(
            progress.step, self.steps, progress.epoch, ended
        ):
            return 0.0
        return refresher.run(self.prepared, self.optimizer, self.average, progress)

    def end_epoch(self, validate: Callable[[], Validation], metric: str, log: MetricsLog) -> None:
        """Validate where it is time to, and keep the values if they are the best so far."""
        progress = self.progress
        progress.epoch += 1
        progress.step_of_epoch = 0
        if progress.epoch % self.config.validate_every and progress.step < self.steps:
            return
        start = time.perf_counter()
        metrics, values = self.validate(validate)
        progress.evaluation_seconds += time.perf_counter() - start
        score, loss = metrics[metric], metrics["loss"]
        if not math.isfinite(loss):
            raise ConfigError(
                f"expected a finite validation loss, got {loss} after epoch {progress.epoch}; "
                "lower method.lr or lr_scale."
            )
        log.write("validation", progress.step, {"epoch": progress.epoch, **metrics})
        if progress.best_score is None or (score, -loss) > (
            progress.best_score,
            -progress.best_loss,
        ):
            progress.best_score, progress.best_loss = score, loss
            progress.best_step, progress.best_epoch = progress.step, progress.epoch
            progress.seconds_to_best = progress.train_seconds + progress.evaluation_seconds
            self.best = values if values is not None else self.trained.take()
        else:
            patience = self.config.early_stop_patience
            since_best = progress.epoch - progress.best_epoch
            progress.stopped = patience is not None and since_best >= patience

    def validate(
        self, validate: Callable[[], Validation]
    ) -> tuple[Mapping[str, float], Snapshot | None]:
        """The metrics, and the averaged values that they are of; None: those that are trained."""
        if self.average is None or not self.average.ready:
            return validate().metrics, None
        trained, averaged = self.trained.take(), self.trained.with_values(self.average.values())
        self.trained.put(averaged)
        metrics = validate().metrics
        self.trained.put(trained)
        return metrics, averaged

    def state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on with the same bits."""
        changing = self.refresher is not None
        return {
            "progress": asdict(self.progress),
            "trained": self.trained.take().state(changing),
            "best": None if self.best is None else self.best.state(changing),
            "average": None if self.average is None else self.average.state(),
            "optimizer": self.optimizer.state_dict(),
            "random": random_state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            CheckpointError: it holds other parameters.
        """
        self.trained.put(Snapshot.of_state(state["trained"], self.device))
        if state["best"] is not None:
            self.best = Snapshot.of_state(state["best"], self.device)
        if self.average is not None:
            self.average.load_state(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        restore_random_state(state["random"])

    def outcome(self, flops: int | None) -> TrainOutcome:
        """The figures of the finished training."""
        progress, meter = self.progress, StepMeter()
        meter.milliseconds = progress.milliseconds
        assert progress.best_score is not None
        return TrainOutcome(
            score=progress.best_score,
            best_epoch=progress.best_epoch,
            best_step=progress.best_step,
            seconds_to_best=progress.seconds_to_best,
            cost={
                "steps": progress.step,
                "train_seconds": progress.train_seconds,
                "evaluation_seconds": progress.evaluation_seconds,
                "refresh_seconds": progress.refresh_seconds,
                **meter.summary(),
                "flops_per_step": flops,
                "peak_memory_bytes": progress.peak_memory_bytes or None,
                "peak_memory_source": self.memory_source,
                "optimizer_state_bytes": optimizer_state_bytes(self.optimizer),
                "averaging_bytes": 0 if self.average is None else self.average.bytes,
            },
            notes=self.notes(),
        )

    def notes(self) -> dict[str, Any]:
        """What happened, as plain data for the record."""
        if self.refresher is None:
            return {}
        progress = self.progress
        done = {"times": progress.refreshes, "exchanged_units": progress.exchanged_units}
        return {"refresh": done}
