"""The whole case study of one run: constructs, words, texts, units, ablations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from sparseft.case_study.effects import ClassEffect, class_effect
from sparseft.case_study.examples import CaseText, three_texts
from sparseft.case_study.placement import Placement, placement_of
from sparseft.case_study.scoring import Scored, Scorer, class_membership, drawn
from sparseft.case_study.settings import CaseSettings
from sparseft.case_study.source import SparseRun
from sparseft.case_study.units import SelectedUnits, class_sensitivity, selected_units
from sparseft.case_study.words import SalientWord, salient_words, weighted_texts
from sparseft.constructs import Constructs, MiningSettings, mine
from sparseft.data import BatchLoader
from sparseft.errors import DataError
from sparseft.results import environment
from sparseft.selection import layout_of
from sparseft.training.devices import device_name

__all__ = ["CaseStudy", "study_of"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CaseStudy:
    """What a page shows of one run.

    Attributes:
        name: of the data set.
        run: name of the run's folder, the start of its settings' hash.
        model, method: by name.
        seed: of the run.
        label_names: all classes.
        shown: numbers of the classes that are shown, in their order.
        train_rows: of the run.
        scored: the test rows as the trained model predicts them.
        test_rows: of the data set, scored or not.
        constructs: of the training rows.
        words: the shown classes' most salient words.
        texts: highlighted test texts.
        selection: facts of the selection: density, units by kind, lowest layer.
        placement: where the units lie.
        effects: of ablating each shown class's units that has training and scored test rows.
        where: code, versions and machine that the study was made with.
    """

    name: str
    run: str
    model: str
    method: str
    seed: int
    label_names: tuple[str, ...]
    shown: tuple[int, ...]
    train_rows: int
    scored: Scored
    test_rows: int
    constructs: Constructs
    words: tuple[tuple[SalientWord, ...], ...]
    texts: tuple[CaseText, ...]
    selection: Mapping[str, Any]
    placement: Placement
    effects: tuple[ClassEffect, ...]
    where: Mapping[str, Any]


def study_of(run: SparseRun, settings: CaseSettings | None = None) -> CaseStudy:
    """Make the case study of a run; the model is left as it was.

    Args:
        run: of `open_run`.
        settings: sizes.

    Raises:
        SelectionError: the selection holds no unit that is known here.
        DataError: the run's own constructs file is damaged or of other classes.
    """
    settings = settings or CaseSettings()
    data, predictor = run.data, run.predictor
    classes = len(data.label_names)
    layout = layout_of(run.model)
    units = selected_units(run.model, run.selection)
    placement = placement_of(layout, run.selection, settings.seed)
    test = drawn(data.test, settings.test_rows, _random(settings, 0))
    _log.info("%s: scoring %d test rows", data.name, len(test))
    scorer = Scorer(predictor, test, settings.batch_size)
    base = scorer.score()
    by_rows = np.argsort(-base.rows, kind="stable")[: settings.classes]
    shown = tuple(sorted(int(c) for c in by_rows))
    train = drawn(data.train, settings.saliency_rows, _random(settings, 1))
    _log.info("%s: salient words of %d training rows", data.name, len(train))
    words = salient_words(
        weighted_texts(predictor, train, settings.batch_size),
        train.labels,
        classes,
        count=settings.words,
        least_texts=settings.least_texts,
    )
    texts = three_texts(predictor, test, base)
    _log.info("%s: constructs", data.name)
    constructs = _constructs(run, settings)
    effects = _effects(run, settings, scorer, base, units, shown)
    device = device_name(next(run.model.parameters()).device)
    return CaseStudy(
        name=data.name,
        run=run.folder.resolve().name,
        model=run.config.model.name,
        method=str(run.config.method["name"]),
        seed=run.config.seed,
        label_names=data.label_names,
        shown=shown,
        train_rows=len(data.train),
        scored=base,
        test_rows=len(data.test),
        constructs=constructs,
        words=tuple(words[c] for c in shown),
        texts=texts,
        selection={
            "density": run.selection.density,
            "trained": run.selection.trained,
            "units_by_kind": run.selection.units_by_kind(),
            "num_layers": run.selection.num_layers,
            "lowest_layer": run.selection.lowest_layer,
        },
        placement=placement,
        effects=effects,
        where=environment(device, torch.get_num_threads()),
    )


def _random(settings: CaseSettings, stream: int) -> np.random.Generator:
    # A stream for each use, so that one draw never changes another.
    return np.random.default_rng([settings.seed, stream])


def _constructs(run: SparseRun, settings: CaseSettings) -> Constructs:
    """The run's own constructs where it mined some, else those of its training rows."""
    kept = run.folder / "constructs.json"
    if kept.is_file():
        # Where they became tokens, mining with the run's tokenizer would not find them again.
        found = Constructs.load(kept)
        if found.labels != run.data.label_names:
            raise DataError(
                f"expected constructs of the classes {', '.join(run.data.label_names[:5])}, …, got "
                f"{', '.join(found.labels[:5])}, … in {kept}; remove the file to mine them again."
            )
        return found
    train = drawn(run.data.train, settings.mined_rows, _random(settings, 2))
    return mine(
        train.texts,
        train.labels,
        run.data.label_names,
        run.predictor.tokenizer,
        MiningSettings(max_length=run.predictor.max_length, seed=settings.seed),
        data_name=run.data.name,
    )


def _effects(
    run: SparseRun,
    settings: CaseSettings,
    scorer: Scorer,
    base: Scored,
    units: SelectedUnits,
    shown: Sequence[int],
) -> tuple[ClassEffect, ...]:
    """The effects of the classes that have rows to measure sensitivity and recall on."""
    member = class_membership(run.data.train.labels, len(run.data.label_names))
    measured = [c for c in shown if member[:, c].any() and base.rows[c]]
    _log.info("%s: ablations for %d classes", run.data.name, len(measured))
    found = []
    total = len(measured) * (settings.draws + 1)
    with tqdm(total=total, desc="ablations", disable=None, leave=False) as bar:
        for label in measured:
            random = np.random.default_rng([settings.seed, 3, label])
            batches = _class_batches(run, settings, member[:, label], random)
            found.append(
                class_effect(
                    scorer,
                    base,
                    units,
                    class_sensitivity(run.model, units, batches),
                    label,
                    share=settings.share,
                    draws=settings.draws,
                    random=random,
                    tick=_ticker(bar),
                )
            )
    return tuple(found)


def _ticker(bar: Any) -> Callable[[], object]:
    return lambda: bar.update()


def _class_batches(
    run: SparseRun,
    settings: CaseSettings,
    of_class: NDArray[np.bool_],
    random: np.random.Generator,
) -> BatchLoader:
    rows = random.permutation(np.flatnonzero(of_class))[: settings.class_rows]
    return BatchLoader(
        run.data.train.take(np.sort(rows)),
        run.predictor.tokenizer,
        settings.batch_size,
        run.predictor.max_length,
        shuffle=False,
        device=next(run.model.parameters()).device,
    )
