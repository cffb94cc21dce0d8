"""Our own expert: an encoder with pointers and choices, finetuned by `task=dst`."""

from sparseft.routing.tracker.corpus import (
    DialogueCorpus,
    draw_dialogues,
    load_dialogues,
    with_gold,
)
from sparseft.routing.tracker.expert import TrackerExpert
from sparseft.routing.tracker.loading import load_tracker_expert
from sparseft.routing.tracker.vocabulary import Vocabulary, learn_vocabulary

__all__ = [
    "DialogueCorpus",
    "TrackerExpert",
    "Vocabulary",
    "draw_dialogues",
    "learn_vocabulary",
    "load_dialogues",
    "load_tracker_expert",
    "with_gold",
]
