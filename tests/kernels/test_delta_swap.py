"""Exchanging entries with the base's moves every bit, both ways."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import sparseft
from sparseft.sparse.apply import sparse_modules
from sparseft_kernels import KernelInputError, delta_swap
from sparseft_kernels.delta_swap.reference import INTEGERS
from sparseft_kernels.entries import STRUCTURES, Entries, read, write
from tests.kernels.entry_cases import model_entries
from tests.sparse.helpers import analysed, bits, same_bits, train

IMPLEMENTATIONS = ("triton", "reference")
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
within_fixture = settings(
    max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().view(INTEGERS[tensor.element_size()]).clone()


def _scramble(tensor: Tensor, seed: int) -> None:
    """Fill with random bits: every kind of NaN, infinities, subnormals and both zeros."""
    integers = tensor.view(INTEGERS[tensor.element_size()])
    limits = torch.iinfo(integers.dtype)
    generator = torch.Generator().manual_seed(seed)
    high = limits.max  # randint excludes it
    drawn = torch.randint(limits.min, high, tensor.shape, generator=generator, dtype=torch.int64)
    integers.copy_(drawn.to(integers.dtype).to(tensor.device))
    flat = tensor.view(-1)
    if flat.numel() > 2:
        flat[0], flat[1] = -0.0, float("nan")


def _problem(
    dtype: torch.dtype, device: torch.device, share: float, seed: int, misaligned: bool
) -> tuple[list[Entries], list[Tensor]]:
    entries = model_entries(dtype, device, share, seed, misaligned)
    buffers = []
    for number, one in enumerate(entries):
        _scramble(one.weight, seed + number)
        memory = torch.empty(torch.Size(one.shape).numel() + 1, dtype=dtype, device=device)
        buffer = memory[1:] if misaligned and number % 2 else memory[1:].clone()
        buffers.append(buffer.view(one.shape))
        _scramble(buffers[-1], seed + 100 + number)
    return entries, buffers


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@within_fixture
@given(share=st.sampled_from([0.0, 0.4, 1.0]), misaligned=st.booleans(), seed=st.integers(0, 2**16))
def test_swapping_exchanges_the_entries_and_no_other_bit(
    implementation: str,
    dtype: torch.dtype,
    device: torch.device,
    force: Callable[[str], None],
    share: float,
    misaligned: bool,
    seed: int,
) -> None:
    force(implementation)
    with torch.no_grad():
        entries, buffers = _problem(dtype, device, share, seed, misaligned)
        weights = [_bits(one.weight) for one in entries]
        given_bits = [_bits(buffer) for buffer in buffers]
        delta_swap.swap_(entries, buffers)
        for one, buffer, weight, mine in zip(entries, buffers, weights, given_bits, strict=True):
            whole = one._replace(weight=weight)
            assert torch.equal(_bits(buffer), read(*whole)), "the buffer holds the old entries"
            inside = one._replace(weight=_bits(one.weight))
            assert torch.equal(read(*inside), mine), "the weight holds the buffer's"
            # And outside of the entries nothing moved: put the old ones back.
            write(*inside, read(*whole))
            assert torch.equal(inside.weight, weight)
        delta_swap.swap_(entries, buffers)
        assert all(torch.equal(_bits(e.weight), w) for e, w in zip(entries, weights, strict=True))
        assert all(torch.equal(_bits(b), g) for b, g in zip(buffers, given_bits, strict=True))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_one_way_forms_leave_the_other_side(
    implementation: str, device: torch.device, force: Callable[[str], None]
) -> None:
    force(implementation)
    with torch.no_grad():
        entries, buffers = _problem(torch.bfloat16, device, 0.5, 0, False)
        weights = [_bits(one.weight) for one in entries]
        before = [_bits(buffer) for buffer in buffers]
        delta_swap.write_(entries, buffers)
        assert all(torch.equal(_bits(b), old) for b, old in zip(buffers, before, strict=True))
        empty = [torch.zeros_like(buffer) for buffer in buffers]
        delta_swap.read_(entries, empty)
        assert all(torch.equal(_bits(b), old) for b, old in zip(empty, before, strict=True))
        after = [_bits(one.weight) for one in entries]
        assert not any(torch.equal(a, b) for a, b in zip(weights, after, strict=True))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_float64_moves_too(
    implementation: str, device: torch.device, force: Callable[[str], None]
) -> None:
    force(implementation)
    with torch.no_grad():
        entries, buffers = _problem(torch.float64, device, 0.5, 1, False)
        weights = [_bits(one.weight) for one in entries]
        delta_swap.swap_(entries, buffers)
        assert not any(
            torch.equal(_bits(e.weight), w) for e, w in zip(entries, weights, strict=True)
        )
        delta_swap.swap_(entries, buffers)
        assert all(torch.equal(_bits(e.weight), w) for e, w in zip(entries, weights, strict=True))


def test_nothing_to_swap_is_no_error() -> None:
    delta_swap.swap_([], [])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_torch_accepts_the_operations(
    implementation: str, device: torch.device, force: Callable[[str], None]
) -> None:
    force(implementation)
    entries, buffers = _problem(torch.float32, device, 0.5, 2, False)
    for one, buffer in zip(entries, buffers, strict=True):
        one.weight.normal_()
        buffer.normal_()
    # One of rows and one of blocks: the checks run every call many times.
    entries, buffers = entries[0:5:4], buffers[0:5:4]
    layout = [n for e in entries for n in (STRUCTURES.index(e.structure), e.edge)]
    arguments = ([e.weight for e in entries], buffers, [e.index for e in entries], layout)
    for name in ("delta_swap_", "delta_write_", "delta_read_"):
        torch.library.opcheck(getattr(torch.ops.sparseft, name).default, arguments)


def test_versions_rise_without_the_dispatcher_too(device: torch.device) -> None:
    entries, buffers = _problem(torch.float32, device, 0.5, 2, False)
    versions = [t._version for t in (entries[0].weight, buffers[0])]
    with torch.no_grad():
        delta_swap.swap_(entries, buffers)
    assert [t._version for t in (entries[0].weight, buffers[0])] > versions
    written = buffers[0]._version
    with torch.no_grad():
        delta_swap.write_(entries, buffers)
    assert buffers[0]._version == written


class TestRefusals:
    """Nothing is moved before everything is checked."""

    def test_buffers(self) -> None:
        weight = torch.zeros(4, 6)
        entries = [Entries(weight, "rows", torch.tensor([1, 2]))]
        for buffer in (
            torch.zeros(3, 6),
            torch.zeros(2, 6, dtype=torch.bfloat16),
            torch.zeros(6, 2).t(),
        ):
            with pytest.raises(KernelInputError, match="expected"):
                delta_swap.swap_(entries, [buffer])
        with pytest.raises(KernelInputError, match="a buffer for each of 1 entries, got 0"):
            delta_swap.swap_(entries, [])
        integers = Entries(torch.zeros(4, 6, dtype=torch.int8), "rows", torch.tensor([1]))
        with pytest.raises(KernelInputError, match="expected weights of bfloat16"):
            delta_swap.swap_([integers], [torch.zeros(1, 6, dtype=torch.int8)])


# --- a model's delta -----------------------------------------------------------------------------


@pytest.fixture(params=IMPLEMENTATIONS)
def model(request: pytest.FixtureRequest, force: Callable[[str], None]) -> nn.Module:
    """A trained sparse model; what follows runs through one implementation."""
    found, selection = analysed("bert", units=("neuron", "head", "embedding"))
    sparseft.sparsify(found, selection)
    train(found)
    force(f"delta_swap={request.param}")
    return found


def test_disabling_moves_the_trained_bits_out_and_back(model: nn.Module) -> None:
    # Bits that no write of the values would give, as after stochastic rounding.
    module = next(iter(sparse_modules(model).values()))
    with torch.no_grad():
        entries = module.sparse_plan.entries(module.weight)
        delta_swap.write_([entries], [read(*entries) * 1.5])
    trained = bits(model)
    with sparseft.disabled(model):
        assert not same_bits(bits(model), trained)
        with sparseft.disabled(model):
            inner = bits(model)
        assert same_bits(bits(model), inner), "the inner block ends without the outer one's delta"
    assert same_bits(bits(model), trained)


def test_values_that_change_while_disabled_are_written_when_it_ends(model: nn.Module) -> None:
    module = next(iter(sparse_modules(model).values()))
    with sparseft.disabled(model), torch.no_grad():
        base = bits(model)
        module.sparse_values.fill_(0.25)
        assert same_bits(bits(model), base)
    assert torch.all(module.sparse_plan.read(module.weight) == 0.25)


def test_unloading_inside_of_the_block_leaves_the_base(model: nn.Module) -> None:
    with sparseft.disabled(model):
        base = bits(model)
        sparseft.unload(model)
    assert same_bits(bits(model), base)
    assert not sparse_modules(model)


def test_merging_inside_of_the_block_is_refused(model: nn.Module) -> None:
    trained = bits(model)
    with pytest.raises(sparseft.errors.SelectionError, match="leave the block first"):  # noqa: SIM117
        with sparseft.disabled(model):
            sparseft.merge(model)
    assert same_bits(bits(model), trained)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_tied_weights_are_moved_once(implementation: str, force: Callable[[str], None]) -> None:
    from tests.sparse.helpers import module_selection, selection_by_hand

    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(10, 6), nn.Linear(6, 10, bias=False))
    net[1].weight = net[0].weight  # type: ignore[assignment]
    base = net[0].weight.detach().clone()
    chosen = module_selection(net, "0", "embedding", 0.5)
    sparseft.sparsify(net, selection_by_hand(net, [chosen]))
    with torch.no_grad():
        net[0].sparse_values.add_(1)
    sparseft.sync(net)
    trained = net[0].weight.detach().clone()
    force(f"delta_swap={implementation}")
    with sparseft.disabled(net):
        assert torch.equal(net[0].weight, base)
    assert torch.equal(net[0].weight, trained)
    sparseft.unload(net)
    assert torch.equal(net[1].weight, base)
