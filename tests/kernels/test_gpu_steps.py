"""On a CUDA device: the same bits in two runs, and whole steps inside a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

import sparseft
from bench.adapters import adapters
from bench.cases import Case
from bench.forcing import forced
from bench.small import run_small, small_cases
from sparseft_kernels import operations
from tests.sparse.helpers import module_selection, selection_by_hand

pytestmark = pytest.mark.gpu

WARM_UP, STEPS = 3, 4
DTYPES = (torch.bfloat16, torch.float32)


def _capture(call: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """Warm up on a side stream, then capture."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph


# --- the operations -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(operations()))
def test_two_runs_of_every_kernel_give_the_same_bits(name: str, device: torch.device) -> None:
    assert run_small(device, only=name) == []


def _first_cases() -> list[Case]:
    """One small bfloat16 case of each operation that has a kernel."""
    return list({case.operation: case for case in reversed([*small_cases()])}.values())


@pytest.mark.parametrize("case", _first_cases(), ids=lambda case: case.operation)
def test_a_captured_call_computes_what_an_eager_one_does(case: Case, device: torch.device) -> None:
    operation, adapter = operations()[case.operation], adapters()[case.operation]

    def settings(dims: dict[str, int], dtype: torch.dtype) -> object:
        return operation.configs(dims, dtype)[0]

    eager, captured = (adapter.problem(case, device, 0) for _ in range(2))
    found: list[Sequence[Tensor]] = []
    with forced(case.operation, "triton", settings):  # type: ignore[arg-type]
        for _ in range(WARM_UP + 1):  # updates in place go on from step to step
            expected = eager.run()
        graph = _capture(lambda: found.append(captured.run()))
    graph.replay()
    torch.cuda.synchronize()
    for one, other in zip(expected, found[-1], strict=True):
        assert torch.equal(one, other)


# --- a whole step ---------------------------------------------------------------------------------


class _Model(nn.Module):
    """An embedding and one weight of each structure."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(97, 64)
        self.rows = nn.Linear(64, 96)
        self.columns = nn.Linear(96, 64)
        self.blocks = nn.Linear(64, 64)
        self.elements = nn.Linear(64, 8)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.rows(self.words(ids))
        x = self.columns(nn.functional.gelu(x))
        x = self.blocks(nn.functional.gelu(x))
        return self.elements(nn.functional.gelu(x)).mean(1)


class _Step:
    """Forward, backward, clipping and update of a sparsified model on one fixed batch."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        model = _Model().to(dtype)
        chosen = [
            module_selection(model, name, name, 0.3, edge=16)
            for name in ("rows", "columns", "blocks", "elements")
        ]
        chosen.append(module_selection(model, "words", "embedding", 0.5))
        sparseft.sparsify(model, selection_by_hand(model, chosen))
        self.model = model.to(device)
        generator = torch.Generator().manual_seed(1)
        self.ids = torch.randint(0, 97, (6, 21), generator=generator).to(device)
        self.labels = torch.randint(0, 8, (6,), generator=generator).to(device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = sparseft.optim.SparseAdamW(
            sparseft.trainable(model), lr=1e-2, capturable=device.type == "cuda"
        )

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(self.model(self.ids).float(), self.labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()

    def bits(self) -> list[Tensor]:
        """Every weight and every compact value."""
        return [p.detach().clone() for p in self.model.parameters()]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_two_trainings_give_the_same_bits(dtype: torch.dtype, device: torch.device) -> None:
    runs = []
    for _ in range(2):
        step = _Step(device, dtype)
        before = step.bits()
        for _ in range(STEPS):
            step()
        runs.append(step.bits())
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before, runs[0], strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_whole_step_is_captured_and_goes_on_as_eager_steps_do(
    dtype: torch.dtype, device: torch.device
) -> None:
    eager, captured, again = (_Step(device, dtype) for _ in range(3))
    for _ in range(WARM_UP + STEPS):
        eager()
    graphs = [_capture(step) for step in (captured, again)]
    for graph in graphs:
        for _ in range(STEPS):
            graph.replay()
    torch.cuda.synchronize()
    pairs = list(zip(captured.bits(), again.bits(), eager.bits(), strict=True))
    assert all(torch.equal(one, other) for one, other, _ in pairs)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for one, _, expected in pairs:
        torch.testing.assert_close(one, expected, rtol=tolerance, atol=tolerance)
    # What the optimizer trained is what the next forward multiplies with.
    for name in ("rows", "columns", "blocks", "elements"):
        module = captured.model.get_submodule(name)
        entries = module.sparse_plan.read(module.weight.detach())
        assert torch.equal(entries, module.sparse_values.detach().to(dtype))
