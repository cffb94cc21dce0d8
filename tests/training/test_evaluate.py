"""The metrics are scikit-learn's, and predictions stand in the split's order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from sparseft.training import evaluate, metrics_of
from tests.tiny import tiny, tiny_batch


@given(st.integers(1, 40), st.integers(2, 7), st.integers(0, 1000))
def test_single_label_metrics_are_those_of_scikit_learn(rows: int, labels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, predicted = random.integers(0, labels, (2, rows))
    metrics = metrics_of(predicted, truth, labels)
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    expected = f1_score(truth, predicted, average="macro", zero_division=0)
    assert metrics["macro_f1"] == pytest.approx(expected)


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 1000))
def test_multi_label_metrics_are_those_of_scikit_learn(rows: int, labels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, predicted = (random.random((2, rows, labels)) < 0.4).astype(np.uint8)
    metrics = metrics_of(predicted, truth, labels)
    assert metrics["accuracy"] == pytest.approx((truth == predicted).all(axis=1).mean())
    for average in ("macro", "micro"):
        kind = "binary" if labels == 1 else average
        expected = f1_score(truth, predicted, average=kind, zero_division=0)
        assert metrics[f"{average}_f1"] == pytest.approx(expected)


def test_out_of_scope_rows_are_scored_apart() -> None:
    truth, predicted = np.array([0, 1, 2, 2]), np.array([0, 0, 2, 1])
    metrics = metrics_of(predicted, truth, 3, out_of_scope=2)
    assert metrics["accuracy"] == 0.5
    assert metrics["in_scope_accuracy"] == 0.5
    assert metrics["out_of_scope_recall"] == 0.5
    assert "out_of_scope_recall" not in metrics_of(predicted[:2], truth[:2], 3, out_of_scope=2)


@pytest.mark.parametrize("multi_label", [False, True])
def test_rows_come_back_in_the_splits_order(multi_label: bool) -> None:
    model = tiny("bert", multi_label=multi_label)
    whole = tiny_batch(model, rows=7)
    order = torch.tensor([4, 0, 6, 2, 1, 5, 3])
    batches = [
        {**{key: value[part] for key, value in whole.items()}, "indices": part}
        for part in order.split(3)
    ]
    model.train()
    found = evaluate(model, batches)
    assert model.training
    with torch.no_grad():
        output = model.eval()(whole["input_ids"], whole["attention_mask"], whole["labels"])
    assert found.metrics["loss"] == pytest.approx(float(output.loss), rel=1e-5)
    np.testing.assert_array_equal(found.labels, whole["labels"].numpy())
    if multi_label:
        assert found.predictions.dtype == np.uint8
        np.testing.assert_array_equal(found.predictions, (output.logits > 0).numpy())
        np.testing.assert_allclose(found.probability, output.logits.sigmoid().numpy(), rtol=1e-5)
    else:
        probability, chosen = output.logits.softmax(1).max(1)
        np.testing.assert_array_equal(found.predictions, chosen.numpy())
        np.testing.assert_allclose(found.probability, probability.numpy(), rtol=1e-5)
