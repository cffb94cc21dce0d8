"""Dialogues with gold states: the built-in simulation, public data sets, and a user's own."""

from sparseft.routing.dialogues.builtin import SLOTS, simulate_dialogues
from sparseft.routing.dialogues.described import named_slots
from sparseft.routing.dialogues.jsonl import read_jsonl, write_jsonl
from sparseft.routing.dialogues.multiwoz import read_multiwoz, recorded_turns
from sparseft.routing.dialogues.schemas import Service, ServiceSlot, read_schemas
from sparseft.routing.dialogues.sgd import read_sgd
from sparseft.routing.dialogues.tables import read_turns

__all__ = [
    "SLOTS",
    "Service",
    "ServiceSlot",
    "named_slots",
    "read_jsonl",
    "read_multiwoz",
    "read_schemas",
    "read_sgd",
    "read_turns",
    "recorded_turns",
    "simulate_dialogues",
    "write_jsonl",
]
