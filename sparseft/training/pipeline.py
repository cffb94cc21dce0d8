"""The way of one run: data, model, head warm-up, method, training, test, files on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseft import files, methods, models, sparse
from sparseft.config import RunConfig
from sparseft.data import OUT_OF_SCOPE, BatchLoader, TaskData, load_data
from sparseft.errors import ConfigError
from sparseft.methods import MethodContext, Prepared
from sparseft.methods.compact import refresh_options
from sparseft.models import LoadedModel
from sparseft.results import Result, config_hash, environment
from sparseft.selection import Selection
from sparseft.selection.layout import layout_of
from sparseft.tracking import Tracker
from sparseft.training.checkpoint import CheckpointStore
from sparseft.training.constructs import ConstructsOfRun, constructs_for_run
from sparseft.training.devices import device_name, resolve_device, seed_everything
from sparseft.training.evaluate import Evaluation, evaluate
from sparseft.training.folder import RunOutcome, finished_result, run_folder, tracker_of_run
from sparseft.training.head import HeadWarmup, warm_up_head
from sparseft.training.held_out import held_out_batches
from sparseft.training.loop import train
from sparseft.training.outputs import save_trained, write_predictions
from sparseft.training.prefix_cache import CacheOfRun, PrefixCache, build_for_run
from sparseft.training.progress import TrainOutcome
from sparseft.training.record import MetricsLog
from sparseft.training.refresh import Refresher

__all__ = ["RunOutcome", "TrainedRun", "execute", "run_folder"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedRun:
    """What a run holds when its model is trained and tested, for whoever wants to look at it."""

    config: RunConfig
    data: TaskData
    loaded: LoadedModel
    prepared: Prepared
    folder: Path


def execute(config: RunConfig, look: Callable[[TrainedRun], object] | None = None) -> RunOutcome:
    """Do one run, or find it done: same configuration and same commit.

    Written to the run's folder: config.json, metrics.jsonl, result.json, predictions.npz, and as
    `config.training.save` asks, `delta/` or `state.safetensors`; where constructs are mined, also
    constructs.json and card.md. A run that was killed goes on from its last checkpoint.

    Args:
        config: the run's settings.
        look: called once with the trained model, before result.json is written.

    Raises:
        SparseftError: any of its kinds; result.json exists only after a run that ended well.
    """
    device = resolve_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    mapping = config.to_mapping()
    digest = config_hash(mapping)
    folder = run_folder(config)
    where = environment(device_name(device), torch.get_num_threads())
    store = CheckpointStore(folder / "checkpoint", digest, where["commit"])
    done = finished_result(folder / "result.json", where, config.rerun)
    if done is not None:
        return RunOutcome(done, folder, skipped=True)
    if config.rerun:
        store.remove()
    # Unknown names end the run before anything is loaded or written.
    method = methods.get(str(config.method["name"]))
    data = load_data(config.data, config.seed)
    loaded = models.load(config.model, data.num_labels, data.multi_label, config.seed)
    loaded.model.to(device)
    saved = store.load()
    state = None if saved is None else saved[0].get("constructs")
    constructs = constructs_for_run(config, data, loaded, state)
    run = _Run(config, data, constructs, device)
    # A method may refuse its options (a density above 1, say): nothing is written before.
    prepared, head_seconds = run.prepare(method, saved)
    files.write_json(folder / "config.json", mapping)
    constructs.write(folder)
    tracker = tracker_of_run(config, folder, mapping)
    summary: dict[str, Any] = {}
    try:
        cache = run.prefix_cache(prepared, saved)
        outcome = run.train(prepared, head_seconds, folder, tracker, store, saved, cache)
        test = run.evaluate(run.test)
        delta_bytes = save_trained(
            config, data, prepared, outcome, test, folder, constructs.additions
        )
        write_predictions(folder / "predictions.npz", data, test)
        if look is not None:
            look(TrainedRun(config, data, run.loaded, prepared, folder))
        result = run.result(
            prepared, outcome, test, head_seconds, delta_bytes, where, mapping, digest, cache
        )
        result.save(folder / "result.json")
        store.remove()
        summary = {f"test/{name}": value for name, value in result.metrics.items()}
        summary.update({f"cost/{name}": value for name, value in result.cost.items()})
        summary["validation/best"] = result.validation
    finally:
        if tracker is not None:
            tracker.finish(summary)
    return RunOutcome(result, folder, resumed=saved is not None)


class _Run:
    """The loaded parts of one run."""

    def __init__(
        self, config: RunConfig, data: TaskData, constructs: ConstructsOfRun, device: torch.device
    ) -> None:
        self.config = config
        self.data = data
        self.constructs = constructs
        self.loaded = loaded = constructs.loaded
        self.device = device
        self.metric = _metric(config, data)
        # Before a method adds its own.
        self.total_parameters = sum(p.numel() for p in loaded.model.parameters())
        self.train_batches = self._loader("train", shuffle=True)
        self.validation = self._loader("validation")
        self.test = self._loader("test")
        self._analysis_loader: BatchLoader | None = None

    def _loader(self, split: str, shuffle: bool = False) -> BatchLoader:
        training = self.config.training
        return BatchLoader(
            getattr(self.data, split),
            self.loaded.tokenizer,
            training.batch_size if shuffle else training.eval_batch_size,
            self.config.model.max_length,
            seed=self.config.seed,
            shuffle=shuffle,
            device=self.device,
        )

    def prepare(
        self, method: methods.Method, saved: tuple[dict[str, Any], Selection | None] | None
    ) -> tuple[Prepared, float]:
        """The model made ready by head warm-up and method, and the warm-up's seconds.

        A resumed run takes its selection from the checkpoint; other methods are cheap to prepare
        again, from the same warmed-up head.
        """
        config = self.config
        state, selection = saved if saved is not None else ({}, None)
        if selection is not None:
            prepared = _from_selection(self.loaded.model, selection, state)
            options = refresh_options(config.method)
            return replace(prepared, refresh=options), state["head_seconds"]
        warmup = warm_up_head(
            self.loaded.model,
            self._loader("train"),
            steps=config.training.head_warmup_steps,
            l2=config.training.head_warmup_l2,
            precision=config.training.autocast,
        )
        context = MethodContext(
            batches=self._analysis_batches,
            seed=config.seed,
            num_layers=len(layout_of(self.loaded.model).layers),
            options={k: v for k, v in config.method.items() if k not in ("name", "lr")},
            held_out=self._held_out(warmup),
            constructs=self.constructs.token_weights(),
        )
        # PEFT draws its initial values from the global generator.
        seed_everything(config.seed)
        prepared = method(self.loaded.model, context)
        if saved is not None:
            prepared = replace(prepared, analysis_seconds=state["analysis_seconds"])
            return prepared, state["head_seconds"]
        return prepared, warmup.seconds

    def _held_out(
        self, warmup: HeadWarmup
    ) -> Callable[[int, int], Iterator[dict[str, Tensor]]] | None:
        if warmup.features is None or warmup.l2 is None:
            return None
        features, l2 = warmup.features, warmup.l2

        def batches(count: int, folds: int) -> Iterator[dict[str, Tensor]]:
            return held_out_batches(
                self.loaded.model,
                features,
                self.train_batches.collate,
                batch_size=self.config.training.batch_size,
                count=count,
                folds=folds,
                steps=self.config.training.head_warmup_steps,
                l2=l2,
                seed=self.config.seed,
            )

        return batches

    def _analysis_batches(self, count: int, draw: int = 0) -> list[dict[str, Tensor]]:
        # Of epochs that training never reaches, so their orders are more seeded draws.
        if self._analysis_loader is None:
            self._analysis_loader = self._loader("train", shuffle=True)
        loader = self._analysis_loader
        loader.set_epoch(self.config.training.epochs + draw)
        batches: list[dict[str, Tensor]] = []
        for batch in loader:
            batches.append({key: batch[key] for key in ("input_ids", "attention_mask", "labels")})
            if len(batches) == count:
                break
        return batches

    def prefix_cache(
        self, prepared: Prepared, saved: tuple[dict[str, Any], Selection | None] | None
    ) -> CacheOfRun:
        """The cache that the configuration asks for, of training and validation texts."""
        loaders = (self.train_batches, self.validation)
        cache = build_for_run(prepared.model, loaders, self.config.training)
        # What was paid before the run was stopped; building it again is not the run's own cost.
        return cache if saved is None else replace(cache, seconds=saved[0]["cache_seconds"])

    def train(
        self,
        prepared: Prepared,
        head_seconds: float,
        folder: Path,
        tracker: Tracker | None,
        store: CheckpointStore,
        saved: tuple[dict[str, Any], Selection | None] | None,
        cache: CacheOfRun,
    ) -> TrainOutcome:
        """Train on the training split, from the checkpoint where there is one."""
        config = self.config
        state = saved[0] if saved is not None else None
        kept = {
            "head_seconds": head_seconds,
            "analysis_seconds": prepared.analysis_seconds,
            "cache_seconds": cache.seconds,
            "constructs": dict(self.constructs.state),
            "lr_factor": prepared.lr_factor,
        }
        # A method without a body tunes its head: each method tries as many learning rates.
        head_scale = 1.0 if prepared.body else config.lr_scale

        def save(now: dict[str, Any]) -> None:
            store.save({**now, **kept, "notes": dict(prepared.notes)}, prepared.selection)

        step = 0 if state is None else int(state["progress"]["step"])
        with MetricsLog(folder / "metrics.jsonl", tracker, after_step=step) as log:
            return train(
                prepared,
                self.train_batches,
                lambda: self.evaluate(self.validation, cache.cache),
                config.training,
                lr=config.lr * prepared.lr_factor,
                head_lr=config.training.head_lr * head_scale,
                metric=self.metric,
                seed=config.seed,
                log=log,
                save=save,
                resume=state,
                cache=cache.cache,
                refresher=None
                if prepared.refresh is None
                else Refresher(
                    prepared.refresh,
                    self._analysis_batches,
                    config.seed,
                    self.constructs.token_weights(),
                ),
            )

    def evaluate(self, batches: BatchLoader, cache: PrefixCache | None = None) -> Evaluation:
        """Predict a split with the trained model; the cache, where given, holds all its texts."""
        names = self.data.label_names
        outside = names.index(OUT_OF_SCOPE) if OUT_OF_SCOPE in names else None
        if self.data.multi_label:
            outside = None
        return evaluate(self.loaded.model, batches, outside, self.config.training.autocast, cache)

    def result(
        self,
        prepared: Prepared,
        outcome: TrainOutcome,
        test: Evaluation,
        head_seconds: float,
        delta_bytes: int,
        where: dict[str, Any],
        mapping: dict[str, Any],
        digest: str,
        cache: CacheOfRun,
    ) -> Result:
        """The record of the run."""
        config, data, selection = self.config, self.data, prepared.selection
        constructs = self.constructs.notes
        trained = [*prepared.body, *prepared.head]
        return Result(
            experiment=config.experiment,
            task=config.task.name,
            method=str(config.method["name"]),
            model=config.model.name,
            seed=config.seed,
            metrics=test.metrics,
            validation=outcome.score,
            seconds_to_best=outcome.seconds_to_best
            + self.constructs.seconds
            + head_seconds
            + prepared.analysis_seconds
            + cache.seconds,
            cost={
                **outcome.cost,
                "analysis_seconds": prepared.analysis_seconds,
                "head_warmup_seconds": head_seconds,
                "cache_seconds": cache.seconds,
                "cache_bytes": cache.bytes,
                "constructs_seconds": self.constructs.seconds,
                "trainable_parameters": sum(p.numel() for p in trained),
                "total_parameters": self.total_parameters,
                "delta_bytes": delta_bytes,
            },
            selection=None
            if selection is None
            else {
                "density": selection.density,
                "lowest_layer": selection.lowest_layer,
                "units_by_kind": selection.units_by_kind(),
                "heat_map": selection.heat_map(),
            },
            data={
                "name": data.name,
                "sha256": data.sha256,
                **data.report,
                "label_names": list(data.label_names),
                "truncated_rows": self.train_batches.truncated,
            },
            tuning={"lr": config.lr * prepared.lr_factor, "lr_scale": config.lr_scale},
            environment=where,
            config=mapping,
            config_hash=digest,
            notes={
                **prepared.notes,
                **cache.notes,
                **outcome.notes,
                **({"constructs": dict(constructs)} if constructs else {}),
                "metric": self.metric,
                "best_epoch": outcome.best_epoch,
                "best_step": outcome.best_step,
            },
        )


def _metric(config: RunConfig, data: TaskData) -> str:
    if config.task.metric == "auto":
        return "micro_f1" if data.multi_label else "accuracy"
    if config.task.metric == "micro_f1" and not data.multi_label:
        raise ConfigError(
            "expected task.metric accuracy or macro_f1 where each text has one label, got micro_f1 "
            "(it equals accuracy there); change task.metric."
        )
    return config.task.metric


def _from_selection(
    model: models.TextClassifier, selection: Selection, state: Mapping[str, Any]
) -> Prepared:
    sparse.sparsify(model, selection)
    head = list(model.head.parameters())
    of_head = {id(parameter) for parameter in head}
    return Prepared(
        model=model,
        body=[p for p in sparse.trainable(model) if id(p) not in of_head],
        head=head,
        optimizer="sparse_adamw",
        selection=selection,
        analysis_seconds=state["analysis_seconds"],
        lr_factor=state["lr_factor"],
        notes=state["notes"],
    )
