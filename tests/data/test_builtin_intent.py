"""The built-in set keeps what its data card promises."""

from __future__ import annotations

import re
from collections import Counter
from importlib import resources
from itertools import pairwise

import numpy as np
import pytest

from sparseft.config import DataConfig
from sparseft.data import TaskData, load_data, normalised

SIZES = {"train": 34, "validation": 10, "test": 16}


@pytest.fixture(scope="module")
def intent() -> TaskData:
    return load_data(DataConfig(name="intent"), seed=0)


@pytest.fixture(scope="module")
def texts(intent: TaskData) -> list[str]:
    return [text for split in SIZES for text in getattr(intent, split).texts]


def test_thirty_intents_in_balanced_splits(intent: TaskData) -> None:
    assert len(intent.label_names) == 30
    for split, size in SIZES.items():
        assert np.bincount(getattr(intent, split).labels).tolist() == [size] * 30
    assert intent.report["test_texts_removed"] == 0
    assert intent.report["validation_texts_removed"] == 0
    assert not intent.report["validation_drawn_from_train"]


def test_no_text_occurs_twice(texts: list[str]) -> None:
    copies = [text for text, n in Counter(map(normalised, texts)).items() if n > 1]
    assert copies == []


def test_no_near_copies(texts: list[str]) -> None:
    """No two texts share most of their runs of three words, as filled templates would."""
    runs = []
    for text in texts:
        words = re.findall(r"\w+", text.casefold())
        runs.append({tuple(words[i : i + 3]) for i in range(len(words) - 2)})
    alike = [
        (texts[i], texts[j])
        for i, a in enumerate(runs)
        for j, b in enumerate(runs[:i])
        if len(a & b) > 2 and len(a & b) > 0.4 * min(len(a), len(b))
    ]
    assert alike == []


def test_the_messages_vary_in_length_and_style(intent: TaskData, texts: list[str]) -> None:
    for label in range(30):
        of_label = [
            text
            for split in SIZES
            for text, own in zip(
                getattr(intent, split).texts, getattr(intent, split).labels, strict=True
            )
            if own == label
        ]
        lengths = sorted(len(text.split()) for text in of_label)
        assert lengths[0] <= 5 and lengths[-1] >= 40, intent.label_names[label]
        openings = Counter(" ".join(text.casefold().split()[:2]) for text in of_label)
        assert max(openings.values()) <= 4, intent.label_names[label]
        # Typed without a capital, as people do.
        assert sum(text == text.lower() for text in of_label) >= 5, intent.label_names[label]
    assert all(text == text.strip() and "\n" not in text for text in texts)


def test_the_card_lists_every_intent_in_order_with_known_neighbours(intent: TaskData) -> None:
    card = resources.files("sparseft.data").joinpath("builtin", "DATA_CARD.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", card, flags=re.MULTILINE)
    assert [label for label, _ in rows] == list(intent.label_names)
    assert all(a < b for a, b in pairwise(label for label, _ in rows))
    for label, neighbours in rows:
        named = set(re.findall(r"`(\w+)`", neighbours))
        assert named and named <= set(intent.label_names) - {label}


def test_few_shot_subsets(intent: TaskData) -> None:
    few = load_data(DataConfig(name="intent", shots=5), seed=1)
    assert len(few.train) == 150
    assert few.test.texts == intent.test.texts
