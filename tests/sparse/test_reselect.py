"""Other entries in the same compact parameters: bits of what leaves, comes and stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sparseft
from sparseft.errors import SelectionError
from sparseft.selection import ModuleSelection, Selection
from sparseft.sparse.apply import selection_of, sparse_modules
from sparseft.sparse.reselect import reselect
from tests.sparse.helpers import STRUCTURES, bits, module_selection, same_bits, selection_by_hand
from tests.tiny import tiny, tiny_batch

LINEAR = "backbone.encoder.layer.1.intermediate.dense"
TABLE = "backbone.embeddings.word_embeddings"
KINDS = [(structure, LINEAR) for structure in STRUCTURES] + [("embedding", TABLE)]


def _moved(selected: ModuleSelection, limit: int) -> ModuleSelection:
    """As many entries, half of them others."""
    rest = np.setdiff1d(np.arange(limit), selected.index)
    count = min(selected.index.size // 2, rest.size)
    return replace(selected, index=np.sort(np.concatenate([selected.index[count:], rest[:count]])))


def _limit(selected: ModuleSelection) -> int:
    n, k = selected.shape
    sizes = {"rows": n, "embedding": n, "columns": k, "elements": n * k}
    return sizes.get(
        selected.structure, (n // max(selected.edge, 1)) * (k // max(selected.edge, 1))
    )


def _two(model: nn.Module, structure: str, name: str) -> tuple[Selection, Selection]:
    first = module_selection(model, name, structure, 0.4, edge=8)
    selection = selection_by_hand(model, [first], head=("head",))
    return selection, replace(selection, modules=(_moved(first, _limit(first)),))


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int = 0) -> None:
    model.train()
    model(**tiny_batch(model, 6, 7, seed=seed)).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def _dense(model: nn.Module, name: str, compact: Tensor) -> Tensor:
    """Compact numbers at their places in a matrix of zeros."""
    module = sparse_modules(model)[name]
    full = torch.zeros(module.weight.shape, dtype=compact.dtype)
    module.sparse_plan.write(full, compact)
    return full


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("structure", "name"), KINDS)
def test_what_leaves_is_the_base_and_what_stays_keeps_value_and_moments(
    structure: str, name: str, dtype: torch.dtype
) -> None:
    model = tiny("bert")
    model.backbone.to(dtype)
    base = bits(model)
    first, second = _two(model, structure, name)
    sparseft.sparsify(model, first)
    optimizer = sparseft.optim.SparseAdamW(sparseft.trainable(model), lr=1e-2, weight_decay=0.0)
    for seed in range(3):
        _step(model, optimizer, seed)
    module = sparse_modules(model)[name]
    values = module.sparse_values
    before = {
        key: _dense(model, name, tensor.detach().clone())
        for key, tensor in {"values": values, **optimizer.state[values]}.items()
        if tensor.shape == values.shape
    }
    trained = {key: value for key, value in bits(model).items() if key.startswith(name)}
    old = _dense(model, name, torch.ones_like(values)).bool()

    moves = reselect(model, second, optimizer)

    assert module.sparse_values is values and moves[0].parameter is values
    new = _dense(model, name, torch.ones_like(values)).bool()
    assert int(new.sum()) == int(old.sum()) and bool((old & ~new).any()) and bool((old & new).any())
    weight, was = module.weight.detach(), base[f"{name}.weight"]
    assert torch.equal(weight[~new], was[~new])
    assert torch.equal(weight[new & ~old], was[new & ~old])
    assert torch.equal(weight[new & old], trained[f"{name}.weight"][new & old])
    assert not torch.equal(weight[new & old], was[new & old])
    after = _dense(model, name, values.detach())
    assert torch.equal(after[new & old], before["values"][new & old])
    assert torch.equal(after[new & ~old], was[new & ~old].float())
    for key in ("exp_avg", "exp_avg_sq"):
        state = _dense(model, name, optimizer.state[values][key])
        assert torch.equal(state[new & old], before[key][new & old])
        assert bool((state[new & ~old] == 0).all())
    assert float(optimizer.state[values]["step"]) == 3
    # All of it stays exact from here on.
    assert selection_of(model) is second
    with sparseft.disabled(model):
        assert same_bits(
            bits(model, ("head.",)), {k: v for k, v in base.items() if "head" not in k}
        )
    for seed in range(3, 5):
        _step(model, optimizer, seed)
    assert not torch.equal(module.weight[new & ~old], was[new & ~old])
    assert torch.equal(module.weight[~new], was[~new])
    sparseft.unload(model)
    assert same_bits(bits(model, ("head.",)), {k: v for k, v in base.items() if "head" not in k})


def test_bias_entries_move_with_their_rows() -> None:
    model = tiny("bert")
    with torch.no_grad():  # random biases, so that a mistake shows
        model.get_submodule(LINEAR).bias.normal_(generator=torch.Generator().manual_seed(1))
    base = bits(model)
    first, second = _two(model, "rows", LINEAR)
    sparseft.sparsify(model, first)
    optimizer = sparseft.optim.SparseAdamW(sparseft.trainable(model), lr=1e-2)
    _step(model, optimizer)
    module = sparse_modules(model)[LINEAR]
    trained = module.bias.detach().clone()
    old, new = (set(s.modules[0].index.tolist()) for s in (first, second))
    reselect(model, second, optimizer)
    for row in range(module.bias.numel()):
        kept = row in old and row in new
        wanted = trained[row] if kept else base[f"{LINEAR}.bias"][row]
        assert torch.equal(module.bias[row], wanted), row
    moment = optimizer.state[module.sparse_bias]["exp_avg"]
    fresh = [place for place, row in enumerate(sorted(new)) if row not in old]
    assert bool((moment[fresh] == 0).all()) and bool((moment != 0).any())


def test_tied_weights_move_together() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            self.table = nn.Embedding(12, 4)
            self.out = nn.Linear(4, 12, bias=False)
            self.table.weight = self.out.weight
            with torch.no_grad():
                self.out.weight.normal_(generator=generator)

        def forward(self, ids: Tensor) -> Tensor:
            return self.out(self.table(ids))

    model = Tied()
    base = model.out.weight.detach().clone()
    first = module_selection(model, "table", "embedding", 0.5)
    selection = selection_by_hand(model, [first])
    other = replace(selection, modules=(_moved(first, 12),))
    sparseft.sparsify(model, selection)
    optimizer = sparseft.optim.SparseAdamW(sparseft.trainable(model), lr=1e-2)
    ids = torch.arange(12)
    for _ in range(2):
        model(ids).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        reselect(model, other, optimizer)
    index = torch.from_numpy(other.modules[0].index)
    for module in sparse_modules(model).values():
        assert module.sparse_plan.index.tolist() == index.tolist()
        assert torch.equal(module.weight[index], module.sparse_values)
    outside = [row for row in range(12) if row not in index.tolist()]
    assert torch.equal(model.out.weight[outside], base[outside])
    assert torch.equal(sparseft.unload(model).out.weight, base)


def test_the_second_moment_of_new_entries_may_start_at_the_mean() -> None:
    largest = {}
    for start in ("zero", "mean"):
        model = tiny("bert")
        first, second = _two(model, "rows", LINEAR)
        sparseft.sparsify(model, first)
        optimizer = sparseft.optim.SparseAdamW(sparseft.trainable(model), lr=1e-3)
        for seed in range(30):
            _step(model, optimizer, seed)
        reselect(model, second, optimizer, second_moment=start)  # type: ignore[arg-type]
        module = sparse_modules(model)[LINEAR]
        before = module.sparse_values.detach().clone()
        _step(model, optimizer, 31)
        old = set(first.modules[0].index.tolist())
        fresh = [p for p, row in enumerate(second.modules[0].index.tolist()) if row not in old]
        largest[start] = float((module.sparse_values.detach() - before)[fresh].abs().max())
    # (1 - b1) / sqrt(1 - b2) = 3.2 learning rates over the bias correction of step 31.
    assert largest["zero"] == pytest.approx(
        1e-3 * 0.1 / 0.001**0.5 * (1 - 0.999**31) ** 0.5, rel=0.1
    )
    assert largest["mean"] < largest["zero"]


class TestRefusals:
    """One clear error, and nothing has changed."""

    def test_another_structure(self) -> None:
        model = tiny("bert")
        first, second = _two(model, "rows", LINEAR)
        sparseft.sparsify(model, first)
        before = bits(model)
        fewer = replace(second.modules[0], index=second.modules[0].index[:-1])
        for wrong in (
            replace(second, modules=(fewer,)),
            replace(second, modules=()),
            replace(second, base_hash="0" * 64),
        ):
            with pytest.raises(SelectionError, match="another structure"):
                reselect(model, wrong)
        assert same_bits(bits(model), before)

    def test_while_disabled(self) -> None:
        model = tiny("bert")
        first, second = _two(model, "rows", LINEAR)
        sparseft.sparsify(model, first)
        with sparseft.disabled(model), pytest.raises(SelectionError, match="leave the block"):
            reselect(model, second)
