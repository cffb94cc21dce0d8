"""The same numbers on a CUDA device."""

import pytest
import torch

import sparseft
from tests.sparse.helpers import STRUCTURES, module_selection, selection_by_hand, train
from tests.tiny import FAMILIES, tiny, tiny_batch

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_compact_gradients_match_the_cpu(structure: str, dtype: torch.dtype) -> None:
    def gradient(device: str) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(24, 40), torch.nn.Linear(40, 8)).to(dtype)
        selected = module_selection(model, "0", structure, 0.4, edge=8)
        sparseft.sparsify(model, selection_by_hand(model, [selected]))
        x = torch.randn(33, 24, generator=torch.Generator().manual_seed(1)).to(dtype)
        model.to(device)(x.to(device)).square().sum().backward()
        grad = model[0].sparse_values.grad
        assert grad is not None
        return grad.cpu().double()

    expected, found = gradient("cpu"), gradient("cuda")
    tolerance = 1e-12 if dtype == torch.float64 else 2e-2
    assert (found - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_training_on_cuda_follows_the_cpu_and_merges(family: str) -> None:
    logits = []
    for device in ("cpu", "cuda"):
        model = tiny(family).to(device)
        batch = {k: v.to(device) for k, v in tiny_batch(model, 4, 7, seed=1).items()}
        budget = sparseft.Budget(density=0.1)
        selection = sparseft.analyze(model, [batch], budget=budget, depth=1.0)
        sparseft.sparsify(model, selection)
        if device == "cpu":
            train(model)
        else:
            optimizer = sparseft.optim.SparseAdamW(sparseft.trainable(model), lr=1e-2)
            fixed = {k: v.to(device) for k, v in tiny_batch(model, 4, 7, seed=5).items()}
            for _ in range(3):
                model(**fixed).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        sparseft.merge(model)
        logits.append(model.eval()(**batch).logits.detach().cpu())
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-2, atol=1e-3)
