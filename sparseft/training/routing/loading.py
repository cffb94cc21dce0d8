"""The dialogues of a routing run, its two experts, and what these cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from sparseft.config import DataConfig, ExpertConfig, RoutingConfig
from sparseft.errors import ConfigError
from sparseft.routing.comparison import Answers, Metric
from sparseft.routing.costs import ModelCost
from sparseft.routing.dialogues import SLOTS, named_slots, read_jsonl, recorded_turns
from sparseft.routing.expert import Expert
from sparseft.routing.experts.building import cost_of_expert, default_experts, expert_of
from sparseft.routing.experts.recorded import RecordedExpert
from sparseft.routing.experts.remembered import Remembered
from sparseft.routing.tracker import draw_dialogues, load_dialogues
from sparseft.routing.turns import Turn

__all__ = ["Pair", "load_pair", "load_turns"]


@dataclass(frozen=True)
class Pair:
    """The small and the large expert of a run; closes what they hold open.

    Attributes:
        answers: of both, each turn asked once after each state.
        costs: of the small and the large one's calls.
        unit: flops where the parameters of both are known.
    """

    answers: Answers
    costs: tuple[ModelCost, ModelCost]
    unit: Literal["flops", "money"]
    experts: tuple[Expert, Expert]

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _close(self.experts)


def load_turns(data: DataConfig) -> list[Turn]:
    """The dialogues that are routed: those of the test split, or `data.test_rows` of them.

    Raises:
        ConfigError: the kind is of another task, or no file is named.
        DataError: a file is missing or cannot be read.
    """
    if data.kind == "multiwoz":
        turns = recorded_turns(data.root)
    elif data.kind == "turns":
        if data.test is None:
            raise ConfigError("expected a JSONL file in data.test, got none; set data.test.")
        turns = read_jsonl(Path(data.root or ".") / data.test)
    else:
        # Its other splits need no files.
        return list(load_dialogues(data, 0, 1).test)
    if data.test_rows is not None:
        turns = draw_dialogues(turns, data.test_rows, data.split_seed)
    return turns


def load_pair(
    settings: RoutingConfig, data: DataConfig, turns: list[Turn], device: str = "cpu"
) -> Pair:
    """The experts that the settings name, else those that come with the data.

    Raises:
        ConfigError: an expert is not named, or nothing says what the large one's calls cost.
        DataError: recorded answers are missing, damaged, or of other turns.
        DeltaError, ModelError: of a tracker or a local model.
    """
    own = default_experts(data)
    small, large = settings.small, settings.large
    if own is not None:
        small, large = small or own[0], large or own[1]
    if small is None or large is None:
        raise ConfigError(
            f"expected a small and a large expert for data={data.name}, got "
            f"{'no small' if small is None else 'no large'} one; set task.routing.small and "
            "task.routing.large, such as {file: answers.jsonl, parameters: 8e9}."
        )
    slots = SLOTS if data.kind == "dialogues" else named_slots(turns)
    first = _checked(small, data, device, slots, turns)
    try:
        second = _checked(large, data, device, slots, turns)
        costs = cost_of_expert(small, data), cost_of_expert(large, data)
        unit = _unit(*costs)
    except Exception:
        _close([first])
        raise
    metric = Metric(settings.normalise, settings.separator)
    answers = Answers(Remembered(first), Remembered(second), metric)
    return Pair(answers, costs, unit, (first, second))


def _checked(
    settings: ExpertConfig, data: DataConfig, device: str, slots: dict[str, str], turns: list[Turn]
) -> Expert:
    expert = expert_of(settings, data, device, slots)
    if isinstance(expert, RecordedExpert):
        expert.check(turn.id for turn in turns)
    return expert


def _unit(small: ModelCost, large: ModelCost) -> Literal["flops", "money"]:
    if small.parameters is not None and large.parameters is not None:
        return "flops"
    if not (large.prompt_price or large.answer_price):
        raise ConfigError(
            "expected the parameters of both experts, or prices, got neither for the large one; "
            "set task.routing.small.parameters and task.routing.large.parameters, or prompt_price "
            "and answer_price."
        )
    return "money"


def _close(experts: list[Expert] | tuple[Expert, ...]) -> None:
    for expert in experts:
        close = getattr(expert, "close", None)
        if close is not None:
            close()
