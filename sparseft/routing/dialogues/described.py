"""What the slots of dialogues mean, as a prompt lists them."""

from __future__ import annotations

from collections.abc import Iterable

from sparseft.routing.turns import Turn

__all__ = ["named_slots"]


def named_slots(turns: Iterable[Turn]) -> dict[str, str]:
    """Every slot's name with its own words as description, in order of the names.

    For dialogues without a schema. Which slots there are is read off the gold, no value is.
    """
    names = {slot for turn in turns for slot in (*turn.state, *turn.delta)}
    return {name: name.replace("-", " ").replace("_", " ") for name in sorted(names)}
