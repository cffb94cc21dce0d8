"""Classified texts and compliance records as queries, and what routing them is worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sparseft.compliance import load_schema
from sparseft.compliance.record import FieldValue, Record
from sparseft.compliance.rules import apply_rules
from sparseft.compliance.service import simulate
from sparseft.errors import DataError
from sparseft.routing.pools import build_pool
from sparseft.routing.queries import queries_of_records, queries_of_texts, right_records
from sparseft.routing.routers import Cascade, Chance, Verifier
from tests.routing.fakes import Bag


def _texts(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Texts whose last word decides where the first does not."""
    random = np.random.default_rng(seed)
    plain = random.random(count) < 0.6
    label = random.integers(0, 2, count)
    first = np.where(plain, np.where(label == 1, "yes", "no"), "well")
    last = np.where(label == 1, "gladly", "never")
    fill = random.choice(["so", "then", "now", "i", "think"], (count, 2))
    texts = [f"{a} {b} {c} {d}" for a, (b, c), d in zip(first, fill, last, strict=True)]
    return texts, label


def test_a_classifier_escalates_what_it_is_likely_to_get_wrong() -> None:
    train, labels = _texts(300, 0)
    embed = Bag(256).embed
    # The small model sees the first word alone.
    small = LogisticRegression().fit(embed([t.split()[0] for t in train]), labels)
    large = LogisticRegression(C=100).fit(embed(train), labels)

    def asked(seed: int) -> tuple[list, np.ndarray, np.ndarray]:
        texts, truth = _texts(400, seed)
        guesses = small.predict_proba(embed([t.split()[0] for t in texts]))
        queries = queries_of_texts(texts, guesses, ["no", "yes"])
        return queries, guesses.argmax(1) == truth, large.predict(embed(texts)) == truth

    held_out, small_right, large_right = asked(1)
    pool = build_pool(held_out, small_right.tolist(), large_right.tolist())
    queries, small_right, large_right = asked(2)
    alone = small_right.mean()
    for router in (Cascade(), Verifier(pool, Bag(256))):
        up = np.argsort(-router.scores(queries), kind="stable")[: len(queries) * 4 // 10]
        right = small_right.copy()
        right[up] = large_right[up]
        chance = np.argsort(-Chance(0).scores(queries))[: len(up)]
        drawn = small_right.copy()
        drawn[chance] = large_right[chance]
        assert right.mean() > drawn.mean() + 0.05 > alone
        assert right.mean() > large_right.mean() - 0.02


def test_a_record_is_as_sure_as_all_its_fields() -> None:
    schema = load_schema("service")
    examples = simulate(2, 0, "test")
    records = [
        apply_rules(schema, e.transcript, {f.name: e.gold[f.name] for f in schema.model_fields})
        for e in examples
    ]
    first = dict(records[0].fields)
    first["flow"] = FieldValue(first["flow"].value, "model", confidence=0.5)
    first["upset"] = FieldValue(first["upset"].value, "model", confidence=0.25)
    records[0] = Record(records[0].transcript_id, "service", first)
    records[1] = Record(records[1].transcript_id, "service", {}, error="could not be read")
    queries = queries_of_records(records, [e.transcript for e in examples])
    assert queries[0].confidence == pytest.approx(math.log(0.125))
    assert queries[1].confidence is None
    assert Cascade().scores(queries).argmax() == 1
    assert queries[0].text == examples[0].transcript.render()
    assert right_records(records, [e.gold for e in examples]) == [True, False]
    wrong = {**examples[0].gold, "flow": "another"}
    assert right_records(records[:1], [wrong]) == [False]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match=r"shape \(1, 2\)"):
        queries_of_texts(["a"], np.ones((2, 2)), ["x", "y"])
    examples = simulate(2, 0, "test")
    records = [Record(e.transcript.id, "service", {}) for e in examples]
    with pytest.raises(DataError, match="alike up to number 0"):
        queries_of_records(records[::-1], [e.transcript for e in examples])
    with pytest.raises(DataError, match="1 records of 2"):
        queries_of_records(records[:1], [e.transcript for e in examples])
