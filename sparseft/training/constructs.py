"""The constructs of a run: mined from its training rows, shown, and made tokens where asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from sparseft import files
from sparseft.config import ConstructsConfig, RunConfig
from sparseft.constructs import (
    Additions,
    Constructs,
    MiningSettings,
    adapt,
    construct_saliency,
    length_saving,
    markdown_card,
    mine,
)
from sparseft.data import TaskData
from sparseft.errors import ConfigError
from sparseft.models import LoadedModel
from sparseft.saliency.tokens import ConstructWeights
from sparseft.sparse.added import add_rows, added_rows, from_tensors, to_tensors
from sparseft.training.devices import synchronize

__all__ = ["ConstructsOfRun", "constructs_for_run", "mining_settings"]


@dataclass(frozen=True)
class ConstructsOfRun:
    """What constructs changed before the run's method is called.

    Attributes:
        loaded: the model with the new tokens' rows, and the tokenizer with the tokens.
        found: the constructs; None without mining, and in a run that was resumed.
        additions: the new tokens; None where there are none.
        seconds: of mining, of the tokenizer and of the rows.
        state: for the checkpoint, from which a resumed run takes all of it; empty without mining.
        notes: for the record; empty without mining.
    """

    loaded: LoadedModel
    found: Constructs | None = None
    additions: Additions | None = None
    seconds: float = 0.0
    state: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def token_weights(self) -> ConstructWeights | None:
        """Raw token weights for the saliency "constructs"; None without mining.

        A token outside every construct of its label counts a tenth of a construct's best, so that
        a text without any still has a say.
        """
        found, additions = self.found, self.additions
        if found is None:
            return None

        def weights(input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
            if additions is not None:
                raise ConfigError(
                    "expected constructs.tokens=0 with the saliency constructs, got new tokens, "
                    "which hide the pieces that constructs are matched by; set constructs=mine."
                )
            return construct_saliency(
                input_ids, attention_mask, found, labels, weight="membership", background=0.1
            )

        return weights

    def write(self, folder: Path) -> None:
        """Write constructs.json and card.md; a resumed run leaves what it finds."""
        if self.found is not None:
            self.found.save(folder / "constructs.json")
            files.write_text(folder / "card.md", markdown_card(self.found))


def mining_settings(config: ConstructsConfig, max_length: int, seed: int) -> MiningSettings:
    """How a run mines.

    Args:
        config: of the run.
        max_length: tokens that the model reads of a text.
        seed: of the run.
    """
    return MiningSettings(
        longest=config.longest,
        gap=config.gap,
        min_support=config.min_support,
        q=config.q,
        score=config.score,
        resamples=config.resamples,
        min_stability=config.min_stability,
        limit=config.limit,
        max_length=max_length,
        seed=seed,
    )


def constructs_for_run(
    config: RunConfig, data: TaskData, loaded: LoadedModel, state: Mapping[str, Any] | None
) -> ConstructsOfRun:
    """Mine the training rows alone; make the first `constructs.tokens` of them tokens.

    Args:
        config: of the run.
        data: validation and test texts are looked at only to count tokens.
        loaded: its model gets rows in place, on the device where it lies.
        state: of the checkpoint, where the run goes on from one: nothing is mined again.

    Raises:
        ModelError: the tokenizer is of a kind that takes no new tokens.
    """
    settings = config.constructs
    if not settings.mine:
        return ConstructsOfRun(loaded)
    if state is not None:
        return _again(loaded, state)
    texts, length = data.train.texts, config.model.max_length
    started = time.perf_counter()
    found = mine(
        texts,
        data.train.labels,
        data.label_names,
        loaded.tokenizer,
        mining_settings(settings, length, config.seed),
        data_name=data.name,
    )
    notes: dict[str, Any] = {"mined": len(found), "tokens": 0}
    additions, rows, changed = None, {}, loaded
    if settings.tokens:
        kind: Literal["mean", "least_squares"] = "mean"
        if settings.init == "fitted":
            kind = "least_squares"
        adapted = adapt(
            loaded.model,
            loaded.tokenizer,
            found,
            texts,
            count=settings.tokens,
            rank=settings.rank,
            rows=kind,
            contexts=settings.contexts,
            max_length=length,
        )
        synchronize(next(loaded.model.parameters()).device)
        notes.update(tokens=len(adapted.new_ids), init=settings.init, **_errors(adapted.report))
        if adapted.new_ids:
            additions = Additions.of(loaded.tokenizer, adapted.extended)
            rows = to_tensors(added_rows(loaded.model))
            changed = replace(loaded, tokenizer=adapted.tokenizer)
    notes["seconds"] = seconds = time.perf_counter() - started
    if additions is not None:
        # Apart from everything else, and no part of the seconds.
        notes["length_saving"] = {
            split: _saving(loaded.tokenizer, changed.tokenizer, rows_of.texts, length)
            for split, rows_of in (("train", data.train), ("test", data.test))
        }
    kept = {
        "tokens": None if additions is None else additions.to_json(),
        "rows": rows,
        "notes": notes,
    }
    return ConstructsOfRun(changed, found, additions, seconds, kept, notes)


def _again(loaded: LoadedModel, state: Mapping[str, Any]) -> ConstructsOfRun:
    """As the run had them before it was stopped, to the bit."""
    notes = state["notes"]
    additions = None
    if state["tokens"] is not None:
        additions = Additions.parse(state["tokens"])
        rows = from_tensors(state["rows"])
        assert rows is not None
        add_rows(loaded.model, rows, of_delta=False)
        loaded = replace(loaded, tokenizer=additions.extend(loaded.tokenizer))
    return ConstructsOfRun(loaded, None, additions, float(notes["seconds"]), state, notes)


def _errors(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the fit says of itself: text vectors' error with means and with fitted rows."""
    return {key: report[key] for key in ("error_before", "error_after") if key in report}


def _saving(original: Any, extended: Any, texts: tuple[str, ...], length: int) -> dict[str, Any]:
    saving = length_saving(original, extended, texts, length)
    return {**asdict(saving), "share": saving.share}
