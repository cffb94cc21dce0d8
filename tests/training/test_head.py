"""The head warm-up is logistic regression on frozen features, and touches nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from sparseft.training import warm_up_head
from tests.tiny import tiny, tiny_batch


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_head_becomes_the_logistic_regression(family: str) -> None:
    model = tiny(family)
    batches = [tiny_batch(model, rows=10, seed=seed) for seed in range(3)]
    l2 = 0.05
    warmup = warm_up_head(model, batches, steps=300, l2=l2)
    with torch.no_grad():
        features = torch.cat([model.features(b["input_ids"], b["attention_mask"]) for b in batches])
    labels = torch.cat([batch["labels"] for batch in batches])
    truth = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-10, max_iter=2000)
    truth.fit(features.double().numpy(), labels.numpy())
    # A softmax's biases are determined up to a constant.
    bias = model.head.bias.detach().numpy()
    np.testing.assert_allclose(model.head.weight.detach().numpy(), truth.coef_, atol=1e-4)
    np.testing.assert_allclose(
        bias - bias.mean(), truth.intercept_ - truth.intercept_.mean(), atol=1e-4
    )
    assert warmup.seconds > 0
    loss = model.loss(model.classify(features), labels).detach()
    assert warmup.loss == pytest.approx(float(loss), rel=1e-5)


def test_only_the_head_changes_and_steps_of_zero_change_nothing() -> None:
    model = tiny("bert", multi_label=True).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batches = [tiny_batch(model, rows=6)]
    warm_up_head(model, batches, steps=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        first = float(model.eval()(**batches[0]).loss)
    warmup = warm_up_head(model.train(), batches, steps=20)
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {"head.weight", "head.bias"}
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    assert warmup.loss is not None and warmup.loss < first
