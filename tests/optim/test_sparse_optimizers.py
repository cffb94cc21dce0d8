"""SparseAdamW and SparseSGD: torch's numbers, on the selected entries alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sparseft
from sparseft.optim import SparseAdamW, SparseSGD
from tests.sparse.helpers import STRUCTURES, module_selection, selection_by_hand


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def _mask(selected: Any, weight: Tensor) -> Tensor:
    model = nn.Sequential(nn.Linear(selected.shape[1], selected.shape[0]))
    from sparseft.sparse.plan import Plan

    plan = Plan.of(selected, torch.device("cpu"))
    mask = torch.zeros(model[0].weight.shape, dtype=torch.float64)
    plan.write(mask, torch.ones_like(plan.read(mask)))
    return mask.to(weight.dtype)


Build = Callable[[list[Tensor]], torch.optim.Optimizer]
PAIRS: dict[str, tuple[Build, Build]] = {
    "adamw": (
        lambda p: SparseAdamW(p, lr=0.03, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.03, weight_decay=0.1),
    ),
    "adamw-fused": (
        lambda p: SparseAdamW(p, lr=0.03, weight_decay=0.1, fused=True),
        lambda p: torch.optim.AdamW(p, lr=0.03, weight_decay=0.1, fused=True),
    ),
    "sgd": (
        lambda p: SparseSGD(p, lr=0.03, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.9, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_steps_equal_a_dense_masked_optimizer(structure: str, pair: str) -> None:
    sparse_optimizer, dense_optimizer = PAIRS[pair]
    model, dense = _net(), _net()
    selected = module_selection(model, "0", structure, 0.5, edge=2)
    mask = _mask(selected, dense[0].weight)
    start, start_bias = dense[0].weight.detach().clone(), dense[0].bias.detach().clone()
    sparseft.sparsify(model, selection_by_hand(model, [selected]))
    ours = sparse_optimizer(sparseft.trainable(model))
    trained = [dense[0].weight] + ([dense[0].bias] if selected.bias else [])
    theirs = dense_optimizer(trained)
    bias_mask = mask[:, 0]
    generator = torch.Generator().manual_seed(1)
    for _ in range(6):
        x = torch.randn(5, 6, dtype=torch.float64, generator=generator)
        for net, optimizer in ((model, ours), (dense, theirs)):
            optimizer.zero_grad()
            net(x).square().sum().backward()
        dense[0].weight.grad *= mask
        if selected.bias:
            dense[0].bias.grad *= bias_mask
        ours.step()
        theirs.step()
        with torch.no_grad():
            # The dense optimizer also decays what it should not train: put that back.
            dense[0].weight.copy_(torch.where(mask.bool(), dense[0].weight, start))
            dense[0].bias.copy_(torch.where(bias_mask.bool(), dense[0].bias, start_bias))
    torch.testing.assert_close(model[0].weight, dense[0].weight, rtol=1e-12, atol=1e-12)


def test_numbers_are_torchs_own_bit_for_bit() -> None:
    values = [torch.randn(7, 3), torch.randn(5)]
    for build in (
        lambda p, cls: cls(p, lr=0.01, weight_decay=0.1, betas=(0.8, 0.9), eps=1e-6),
        lambda p, cls: cls(p, lr=0.01, amsgrad=True),
    ):
        ours = [nn.Parameter(v.clone()) for v in values]
        theirs = [nn.Parameter(v.clone()) for v in values]
        a, b = build(ours, SparseAdamW), build(theirs, torch.optim.AdamW)
        for step in range(4):
            for p, q in zip(ours, theirs, strict=True):
                p.grad = torch.full_like(p, 0.1 * step - 0.2)
                q.grad = p.grad.clone()
            a.step()
            b.step()
        assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


def test_weights_hold_the_new_values_right_after_the_step() -> None:
    model = _net()
    selected = module_selection(model, "0", "rows", 0.5)
    sparseft.sparsify(model, selection_by_hand(model, [selected]))
    optimizer = SparseAdamW(sparseft.trainable(model), lr=0.1)
    before = model[0].weight.detach().clone()
    model(torch.randn(5, 6, dtype=torch.float64)).sum().backward()
    optimizer.step()
    held = model[0].weight.detach()
    assert torch.equal(held[selected.index], model[0].sparse_values.detach())
    assert not torch.equal(held, before)


def test_state_is_as_small_as_the_selection() -> None:
    model = _net()
    selected = module_selection(model, "0", "columns", 0.5)
    sparseft.sparsify(model, selection_by_hand(model, [selected]))
    optimizer = SparseAdamW(sparseft.trainable(model), lr=0.1)
    model(torch.randn(5, 6, dtype=torch.float64)).sum().backward()
    optimizer.step()
    numbers = sum(t.numel() for s in optimizer.state.values() for n, t in s.items() if n != "step")
    assert numbers == 2 * selected.trained


def test_closures_and_schedulers_work() -> None:
    model = _net()
    sparseft.sparsify(model, selection_by_hand(model, [module_selection(model, "0", "rows", 0.5)]))
    optimizer = SparseSGD(sparseft.trainable(model), lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=4)
    x = torch.randn(5, 6, dtype=torch.float64)

    def closure() -> float:
        optimizer.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        return float(loss.detach())

    losses = []
    for _ in range(4):
        losses.append(optimizer.step(closure))
        schedule.step()
    assert losses[-1] < losses[0]  # type: ignore[operator]


def test_state_dict_round_trip_continues_exactly() -> None:
    def run(interrupt: bool) -> Tensor:
        model = _net()
        selected = module_selection(model, "0", "rows", 0.5)
        sparseft.sparsify(model, selection_by_hand(model, [selected]))
        optimizer = SparseAdamW(sparseft.trainable(model), lr=0.1)
        generator = torch.Generator().manual_seed(1)
        for step in range(6):
            if interrupt and step == 3:
                state, weights = optimizer.state_dict(), model.state_dict()
                model = _net()
                sparseft.sparsify(model, selection_by_hand(model, [selected]))
                model.load_state_dict(weights)
                optimizer = SparseAdamW(sparseft.trainable(model), lr=0.1)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            x = torch.randn(5, 6, dtype=torch.float64, generator=generator)
            model(x).square().sum().backward()
            optimizer.step()
        return model[0].weight.detach()

    assert torch.equal(run(False), run(True))
