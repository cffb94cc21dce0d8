"""The head warm-up is logistic regression on frozen features, and touches nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from sparseft.training import warm_up_head
from sparseft.training.head import fit_head
from sparseft.training.held_out import folds_of, held_out_batches
from tests.tiny import tiny, tiny_batch

GRID = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)


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


def _share_right(l2: float, batches: list[dict[str, torch.Tensor]]) -> float:
    model = tiny("bert")
    warm_up_head(model, batches, steps=300, l2=l2)
    right = rows = 0
    with torch.no_grad():
        for batch in batches:
            logits = model(batch["input_ids"], batch["attention_mask"]).logits
            right += int((logits.argmax(1) == batch["labels"]).sum())
            rows += len(batch["labels"])
    return right / rows


def test_auto_takes_the_strongest_penalty_at_which_nine_of_ten_rows_are_right() -> None:
    model = tiny("bert")
    batches = [tiny_batch(model, rows=8, seed=seed) for seed in range(2)]
    shares = {l2: _share_right(l2, batches) for l2 in GRID}
    fitting = [l2 for l2 in GRID if shares[l2] >= 0.9]
    expected = fitting[0] if fitting else GRID[-1]
    assert warm_up_head(model, batches, steps=300, l2="auto").l2 == expected


def test_auto_takes_the_weakest_penalty_where_none_fits() -> None:
    model = tiny("bert")
    batch = tiny_batch(model, rows=12)
    batch["input_ids"][:] = batch["input_ids"][:1]  # equal texts with different labels
    batch["attention_mask"][:] = 1
    batch["labels"] = torch.arange(12) % 2
    assert warm_up_head(model, [batch], steps=50, l2="auto").l2 == GRID[-1]


def test_folds_are_even_within_classes_and_over_all() -> None:
    labels = np.array([0] * 7 + [1] * 4 + [2])
    folds = folds_of(labels, 3, seed=1)
    assert sorted(np.bincount(folds)) == [4, 4, 4]
    for label, rows in ((0, 7), (1, 4)):
        counts = np.bincount(folds[labels == label], minlength=3)
        assert counts.sum() == rows and counts.max() - counts.min() <= 1
    assert (folds != folds_of(labels, 3, seed=2)).any()
    assert (folds == folds_of(labels, 3, seed=1)).all()


def test_held_out_batches_never_show_a_row_to_a_head_that_was_fitted_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny("bert")
    whole = tiny_batch(model, rows=11)
    warmup = warm_up_head(model, [whole], steps=50, l2=0.1)
    assert warmup.features is not None
    kept = model.head.weight.detach().clone()
    fitted: list[set[int]] = []

    def spy(*arguments: object, **options: object) -> float:
        rows = arguments[2]
        assert isinstance(rows, torch.Tensor)
        fitted.append(set(warmup.features.indices[rows].tolist()))  # type: ignore[union-attr]
        return fit_head(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("sparseft.training.held_out.fit_head", spy)

    def collate(rows: np.ndarray) -> dict[str, torch.Tensor]:
        return {name: tensor[torch.from_numpy(rows)] for name, tensor in whole.items()} | {
            "rows": torch.from_numpy(rows)
        }

    shown: list[int] = []
    for batch in held_out_batches(
        model, warmup.features, collate, batch_size=2, count=9, folds=3, steps=50, l2=0.1, seed=0
    ):
        assert not fitted[-1] & set(batch["rows"].tolist())
        assert not torch.equal(model.head.weight, kept)
        shown += batch["rows"].tolist()
    assert sorted(shown) == list(range(11)) and len(fitted) == 3
    assert torch.equal(model.head.weight, kept)


def test_held_out_batches_put_the_head_back_when_they_are_left_early() -> None:
    model = tiny("bert")
    whole = tiny_batch(model, rows=9)
    warmup = warm_up_head(model, [whole], steps=50, l2=0.1)
    assert warmup.features is not None
    kept = model.head.weight.detach().clone()
    batches = held_out_batches(
        model,
        warmup.features,
        lambda rows: {name: tensor[torch.from_numpy(rows)] for name, tensor in whole.items()},
        batch_size=2,
        count=2,
        folds=3,
        steps=50,
        l2=0.1,
        seed=0,
    )
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert torch.equal(model.head.weight, kept)
