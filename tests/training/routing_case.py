"""Made-up dialogues with the answers of two models, and a run's settings over them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sparseft.config import RunConfig
from sparseft.routing.dialogues import simulate_dialogues, write_jsonl
from sparseft.routing.states import State
from sparseft.routing.turns import Turn
from tests.tiny import save_tiny_model

__all__ = ["config", "write_case"]

# The words that the small model does not understand.
_HARD = re.compile(r"\b(instead|same|actually|rather|change)\b")


def write_case(target: Path) -> Path:
    """Dialogues, a small model that fails on some words and on every seventh turn, a large one
    that fails on every ninth, and a retriever."""
    turns = simulate_dialogues(24, 5, "test")
    write_jsonl(target / "turns.jsonl", turns)
    for name, wrong in (
        ("small", lambda k, turn: k % 7 == 0 or _HARD.search(turn.user)),
        ("large", lambda k, turn: k % 9 == 0),
    ):
        lines = [_answer(turn, bool(wrong(k, turn))) for k, turn in enumerate(turns)]
        (target / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    save_tiny_model(target / "encoder")
    return target


def _answer(turn: Turn, wrong: bool) -> str:
    delta: State = {"bike-day": "never"} if wrong else turn.delta
    content = {
        "dialogue_id": turn.dialogue,
        "turn_id": turn.number,
        "delta": dict(delta),
        "score": -1.0 if wrong else -0.1,
        "prompt_tokens": 30,
        "answer_tokens": 5,
    }
    return json.dumps(content)


def config(folder: Path, output: Path, data: Any = None, **routing: Any) -> RunConfig:
    """Settings of a run over what `write_case` wrote; further ones of `task.routing`."""
    settings: dict[str, Any] = {
        "small": {"file": "small.jsonl", "parameters": 1e6},
        "large": {"file": "large.jsonl", "parameters": 1e8},
        "rates": [0.0, 0.5, 1.0],
        "neighbours": 3,
        "resamples": 50,
    }
    turns = {"name": "turns", "kind": "turns", "root": str(folder), "test": "turns.jsonl"}
    return RunConfig.from_mapping(
        {
            "experiment": "test",
            "output": str(output),
            "device": "cpu",
            "model": {
                "name": "tiny",
                "source": "path",
                "id": str(folder / "encoder"),
                "max_length": 32,
            },
            "data": {**turns, **(data or {})},
            "method": {"name": "none"},
            "task": {"name": "routing", "routing": {**settings, **routing}},
            "tracking": {"wandb": "off"},
        }
    )
