"""The prompt for one turn: which slots there are, the state so far, and what was said last.

The previous state stands for the earlier turns, as in IC-DST (Hu et al., Findings of EMNLP 2022)
and OrchestraLLM (Lee et al., NAACL 2024).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparseft.errors import ConfigError
from sparseft.routing.states import DELETE, State
from sparseft.routing.turns import Context

__all__ = ["Demonstration", "Message", "Prompt"]

Message = dict[str, str]  # "role": system, user or assistant; "content"
Demonstration = tuple[Context, State]  # a turn and its delta

_TASK = (
    "You track the state of a dialogue between a user and a system. You get the state so far, the "
    "system's last utterance and the user's answer to it. Reply with one JSON object and nothing "
    "else: the slots that this turn changes, each with its new value as a string; {{}} where it "
    'changes none. Write "dontcare" for a slot that the user has no preference about, and '
    '"{delete}" for one that is taken back. These are the slots:\n{slots}'
)


@dataclass(frozen=True)
class Prompt:
    """Messages for turns.

    Attributes:
        slots: their names with descriptions, in the order in which they are listed.
        demonstrations: turns with their deltas, shown before the turn that is asked about.

    Raises:
        ConfigError: there is no slot, or a demonstration has an unknown one.
    """

    slots: Mapping[str, str]
    demonstrations: Sequence[Demonstration] = ()

    def __post_init__(self) -> None:
        if not self.slots:
            raise ConfigError("expected slots with descriptions, got none; give those of the data.")
        used = {slot for _, delta in self.demonstrations for slot in delta}
        unknown = sorted(used - set(self.slots))
        if unknown:
            raise ConfigError(
                f"expected demonstrations with slots that are listed, got {unknown[0]!r}; list it "
                "with a description, or leave the demonstration out."
            )

    def messages(self, context: Context) -> list[Message]:
        """What a chat model is sent."""
        listed = "\n".join(f"- {name}: {_line(text)}" for name, text in self.slots.items())
        found = [_message("system", _TASK.format(delete=DELETE, slots=listed))]
        for shown, delta in self.demonstrations:
            found += [_message("user", _turn(shown)), _message("assistant", _json(delta))]
        return [*found, _message("user", _turn(context))]

    @staticmethod
    def again(messages: Sequence[Message], answer: str, problem: str) -> list[Message]:
        """The same, after an answer that could not be read: it is shown, and what is wrong."""
        complaint = f"That cannot be read: {problem} Reply with the JSON object alone."
        return [*messages, _message("assistant", answer), _message("user", complaint)]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _turn(context: Context) -> str:
    state = _json(context.previous)
    return f"State: {state}\nSystem: {_line(context.system)}\nUser: {_line(context.user)}"


def _line(text: str) -> str:
    # A line break inside an utterance must not start a line of the prompt's own.
    return " ".join(text.split())


def _json(state: State) -> str:
    return json.dumps(dict(sorted(state.items())), ensure_ascii=False)
