"""AdamW and SGD over compact values: torch.optim's numbers, and the reference's bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparseft_kernels import KernelInputError, explain, sparse_adamw
from sparseft_kernels.entries import STRUCTURES, Entries, read
from sparseft_kernels.sparse_adamw import AdamWOptions, SGDOptions, reference
from sparseft_kernels.sparse_adamw.ops import _packed
from tests.kernels.common import relative_rms
from tests.kernels.entry_cases import model_entries

IMPLEMENTATIONS = ("triton", "reference")
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
# Relative RMS against torch's own steps in float64, of values after five steps.
TOLERANCE = 2e-6
STEPS = 5
within_fixture = settings(
    max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@dataclass
class Model:
    """Compact values of every structure, and two parameters with no weight behind them."""

    entries: list[Entries | None]
    values: list[Tensor]
    first: list[Tensor] = field(default_factory=list)
    second: list[Tensor] = field(default_factory=list)
    steps: list[Tensor] = field(default_factory=list)

    @classmethod
    def build(
        cls, dtype: torch.dtype, device: torch.device, share: float, misaligned: bool = False
    ) -> Model:
        """The same numbers at every call."""
        entries: list[Entries | None] = [*model_entries(dtype, device, share, 0, misaligned)]
        values = [read(*one).float() for one in entries if one is not None]
        generator = torch.Generator().manual_seed(9)
        for size in (1, 1029):
            head = torch.randn(size + 1, generator=generator).to(device)
            values.append(head[1:] if misaligned else head[1:].clone())
            entries.append(None)
        zeros = [torch.zeros_like(value) for value in values]
        counters = [torch.zeros((), device=device) for _ in values]
        return cls(entries, values, zeros, [z.clone() for z in zeros], counters)

    @property
    def weights(self) -> list[Tensor]:
        """Those that values stand in."""
        return [one.weight for one in self.entries if one is not None]

    @property
    def everything(self) -> list[Tensor]:
        """All that a step changes."""
        return [*self.values, *self.first, *self.second, *self.steps, *self.weights]

    def gradients(self, step: int) -> list[Tensor]:
        """Of one step; the same for models of equal sizes."""
        generator = torch.Generator().manual_seed(1000 + step)
        return [
            torch.randn(value.shape, generator=generator).to(value.device) for value in self.values
        ]


ADAMW = (AdamWOptions(1e-2, 0.9, 0.99, 1e-8, 0.1), AdamWOptions(3e-3, 0.5, 0.999, 1e-6, 0.0))
SGD = (SGDOptions(1e-2, 0.9, 0.1, 0.05, False), SGDOptions(3e-2, 0.8, 0.0, 0.0, True))
PLAIN_SGD = (SGDOptions(1e-2), SGDOptions(2e-2, weight_decay=0.3))


def _groups(model: Model) -> list[int]:
    return [number % 2 for number in range(len(model.values))]


def _step(model: Model, kind: str, options: Sequence[Any], step: int, **keywords: Any) -> None:
    with torch.no_grad():
        if kind == "adamw":
            sparse_adamw.adamw_(
                model.values, model.gradients(step), model.first, model.second, model.steps,
                model.entries, options, groups=_groups(model), **keywords,
            )  # fmt: skip
            return
        used = [options[group].momentum != 0 for group in _groups(model)]
        momenta = [m if use else None for m, use in zip(model.first, used, strict=True)]
        if step == 0:  # a new buffer holds anything
            for buffer in model.first:
                buffer.fill_(float("nan"))
        counters = {"steps": model.steps} if "seed" in keywords else {}
        sparse_adamw.sgd_(
            model.values, model.gradients(step), momenta, [step == 0] * len(momenta),
            model.entries, options, groups=_groups(model), **counters, **keywords,
        )  # fmt: skip


def _torch_values(model: Model, kind: str, options: Sequence[Any], clip: float) -> list[Tensor]:
    """Values after all steps of torch's optimizer, in float64."""
    values = [torch.nn.Parameter(value.double()) for value in model.values]
    groups = []
    for number, row in enumerate(options):
        own = [v for v, group in zip(values, _groups(model), strict=True) if group == number]
        if kind == "adamw":
            lr, beta1, beta2, eps, decay = row
            more = {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": decay}
        else:
            more = row._asdict()
        groups.append({"params": own, **more})
    torch_kind = torch.optim.AdamW if kind == "adamw" else torch.optim.SGD
    optimizer = torch_kind(groups, foreach=False)
    for step in range(STEPS):
        for value, gradient in zip(values, model.gradients(step), strict=True):
            value.grad = gradient.double() * clip
        optimizer.step()
    return [value.detach() for value in values]


KINDS = {"adamw": ("adamw", ADAMW), "sgd": ("sgd", SGD), "plain-sgd": ("sgd", PLAIN_SGD)}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_five_steps_are_torchs_and_stand_in_the_weights(
    implementation: str,
    kind: str,
    dtype: torch.dtype,
    device: torch.device,
    force: Callable[[str], None],
) -> None:
    force(implementation)
    name, options = KINDS[kind]
    misaligned = dtype == torch.float16
    model = Model.build(dtype, device, 0.5, misaligned)
    before = [weight.clone() for weight in model.weights]
    expected = _torch_values(model, name, options, clip=0.5)
    for step in range(STEPS):
        _step(model, name, options, step, clip=torch.tensor(0.5, device=device))
    for value, right in zip(model.values, expected, strict=True):
        assert relative_rms(value, right) < TOLERANCE
    if name == "adamw":
        assert [float(step) for step in model.steps] == [STEPS] * len(model.steps)
    entries = [one for one in model.entries if one is not None]
    for one, value, old in zip(entries, model.values, before, strict=False):
        assert torch.equal(read(*one), value.to(dtype)), "to nearest, as torch rounds"
        # Every other entry of the weight is as it was.
        write_back = one._replace(weight=one.weight.clone())
        _write(write_back, read(*one._replace(weight=old)))
        assert torch.equal(write_back.weight, old)


def _write(entries: Entries, values: Tensor) -> None:
    from sparseft_kernels.entries import write

    write(*entries, values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@within_fixture
@given(
    share=st.sampled_from([0.0, 0.3, 1.0]),
    misaligned=st.booleans(),
    seed=st.sampled_from([None, 0, 7, 2**63 - 1]),
)
def test_the_kernel_gives_the_references_bits(
    kind: str,
    dtype: torch.dtype,
    device: torch.device,
    force: Callable[[str], None],
    share: float,
    misaligned: bool,
    seed: int | None,
) -> None:
    name, options = KINDS[kind]
    keywords = {} if seed is None else {"seed": seed}
    results = []
    for implementation in IMPLEMENTATIONS:
        force(implementation)
        model = Model.build(dtype, device, share, misaligned)
        for step in range(2):
            _step(model, name, options, step, **keywords)
        results.append(model.everything)
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_learning_rate_on_the_device_is_the_same_as_a_number(
    implementation: str, device: torch.device, force: Callable[[str], None]
) -> None:
    force(implementation)
    for name, options in (("adamw", ADAMW), ("sgd", SGD)):
        results = []
        for on_device in (False, True):
            model = Model.build(torch.bfloat16, device, 0.5)
            # 2^-6 and 2^-8 are the same in float32 and float64.
            rows = [row._replace(lr=2.0**-6 / 4**n) for n, row in enumerate(options)]
            if on_device:
                rows[1] = rows[1]._replace(lr=torch.tensor(rows[1].lr, device=device))
            for step in range(2):
                _step(model, name, rows, step)
            results.append(model.everything)
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_bias_corrections_keep_their_digits_at_large_and_small_steps(
    device: torch.device, force: Callable[[str], None]
) -> None:
    """1 - beta2^step loses half of its digits in float32 when beta2 is near 1."""
    for implementation in IMPLEMENTATIONS:
        force(implementation)
        for taken in (0, 1, 9_999, 2**24 - 2):
            values, first, second = (torch.tensor([x], device=device) for x in (1.0, 0.1, 0.01))
            counter = torch.tensor(float(taken), device=device)
            with torch.no_grad():
                sparse_adamw.adamw_(
                    [values], [torch.zeros(1, device=device)], [first], [second], [counter],
                    [None], [AdamWOptions(0.1, 0.9, 0.99999, 0.0, 0.0)],
                )  # fmt: skip
            assert float(counter) == taken + 1
            root = (0.01 * 0.99999 / (1 - 0.99999 ** (taken + 1))) ** 0.5
            expected = 1.0 - 0.1 * (0.1 * 0.9 / (1 - 0.9 ** (taken + 1))) / root
            assert float(values) == pytest.approx(expected, rel=1e-6, abs=1e-7)


# --- rounding ------------------------------------------------------------------------------------


def test_philox_gives_the_published_numbers() -> None:
    # Known answers of Random123 1.14 (philox4x32, 10 rounds).
    known = (
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    )
    for counter, key, words in known:
        found = reference.philox(*(torch.tensor([word]) for word in counter), *key)
        assert tuple(int(word) for word in found) == words


@triton.jit
def _philox(seed, counters, out, BLOCK: tl.constexpr):
    n = tl.arange(0, BLOCK)
    c0 = tl.load(counters + n).to(tl.uint32)
    c1 = tl.load(counters + BLOCK + n).to(tl.uint32)
    c2 = tl.load(counters + 2 * BLOCK + n).to(tl.uint32)
    c3 = tl.load(counters + 3 * BLOCK + n).to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(seed, c0, c1, c2, c3)
    tl.store(out + n, w0.to(tl.int64))
    tl.store(out + BLOCK + n, w1.to(tl.int64))
    tl.store(out + 2 * BLOCK + n, w2.to(tl.int64))
    tl.store(out + 3 * BLOCK + n, w3.to(tl.int64))


@pytest.mark.parametrize("seed", [0, 5, 2**31, 2**63 - 1])
def test_philox_is_tritons(seed: int, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(seed % 1000)
    counters = torch.randint(0, 2**32, (4, 64), generator=generator).to(device)
    found = torch.empty_like(counters)
    _philox[(1,)](seed, counters, found, BLOCK=64)
    expected = reference.philox(*counters, seed & 0xFFFFFFFF, seed >> 32)
    assert torch.equal(found, torch.stack(expected))


def test_stochastic_rounding_is_right_in_the_mean_and_exact_where_it_can_be() -> None:
    step = torch.tensor(3.0)
    share = 0.3
    values = torch.full((40_000,), 1.0 + share * 2**-7)
    noise = reference.rounding_noise(11, values.numel(), 4, step)
    assert int(noise.min()) >= 0 and int(noise.max()) < 2**16
    up = (reference.stochastic_bfloat16(values, noise) > 1.0).double().mean()
    assert abs(float(up) - share) < 0.01  # four standard deviations
    exact = torch.tensor([0.0, -0.0, 1.5, -2.0, float("inf"), -float("inf")])
    for fill in (0, 0xFFFF):
        rounded = reference.stochastic_bfloat16(exact, torch.full((6,), fill))
        assert torch.equal(rounded.view(torch.int16), exact.bfloat16().view(torch.int16))
        lost = reference.stochastic_bfloat16(torch.tensor([float("nan")]), torch.tensor([fill]))
        assert lost.isnan().all()


def test_noise_differs_by_seed_tensor_and_step() -> None:
    first = reference.rounding_noise(1, 100, 2, torch.tensor(3.0))
    assert torch.equal(first, reference.rounding_noise(1, 100, 2, torch.tensor(3.0)))
    assert torch.equal(first[:37], reference.rounding_noise(1, 37, 2, torch.tensor(3.0)))
    for other in (
        reference.rounding_noise(2, 100, 2, torch.tensor(3.0)),
        reference.rounding_noise(1 + 2**32, 100, 2, torch.tensor(3.0)),
        reference.rounding_noise(1, 100, 3, torch.tensor(3.0)),
        reference.rounding_noise(1, 100, 2, torch.tensor(4.0)),
    ):
        assert (first == other).double().mean() < 0.1


# --- as torch and users see it -------------------------------------------------------------------


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_torch_accepts_the_operations(
    implementation: str, kind: str, device: torch.device, force: Callable[[str], None]
) -> None:
    force(implementation)
    built = Model.build(torch.bfloat16, device, 0.5)
    keep = slice(0, None, 8)  # rows, and a parameter of its own
    model = Model(*(getattr(built, name)[keep] for name in vars(built)))
    options = [ADAMW[0]._replace(lr=torch.tensor(0.01, device=device))]
    rows = [(0.0, *map(float, options[0][1:]))]
    common = sparse_adamw.common.Common(
        model.entries, rows, [options[0].lr], [0, 0], [0, 1],
        torch.tensor(0.5, device=device), 3 if kind == "adamw" else None,
    )  # fmt: skip
    if kind == "adamw":
        operation = torch.ops.sparseft.sparse_adamw_.default
        state: list[Any] = [model.first, model.second, model.steps]
    else:
        operation = torch.ops.sparseft.sparse_sgd_.default
        state = [model.first, [0, 1], [0, 0], []]
    torch.library.opcheck(operation, (model.values, model.gradients(0), *state, *_packed(common)))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_dispatchers_way_and_the_direct_one_are_the_same(
    implementation: str, device: torch.device, force: Callable[[str], None]
) -> None:
    force(implementation)
    for name, options in (("adamw", ADAMW), ("sgd", SGD), ("sgd", PLAIN_SGD)):
        results, versions = [], []
        for grad_enabled in (False, True):
            model = Model.build(torch.bfloat16, device, 0.5)
            old = [tensor._version for tensor in (model.values[0], model.weights[0])]
            gradients = model.gradients(0)
            with torch.set_grad_enabled(grad_enabled):
                if name == "adamw":
                    sparse_adamw.adamw_(
                        model.values, gradients, model.first, model.second, model.steps,
                        model.entries, options, groups=_groups(model), seed=5,
                    )  # fmt: skip
                else:
                    used = [options[group].momentum != 0 for group in _groups(model)]
                    momenta = [m if use else None for m, use in zip(model.first, used, strict=True)]
                    sparse_adamw.sgd_(
                        model.values, gradients, momenta, [False] * len(used), model.entries,
                        options, groups=_groups(model), seed=5, steps=model.steps,
                    )  # fmt: skip
            new = [tensor._version for tensor in (model.values[0], model.weights[0])]
            versions += [n > o for n, o in zip(new, old, strict=True)]
            results.append(model.everything)
        assert all(versions)
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_nothing_to_step_is_no_error() -> None:
    with torch.no_grad():
        sparse_adamw.adamw_([], [], [], [], [], [], [AdamWOptions()])
        sparse_adamw.sgd_([], [], [], [], [], [SGDOptions()])


def test_the_choice_is_explained() -> None:
    sizes = {"tensors": 24, "values": 10**6, "weight_bytes": 2 * 10**6}
    for name in ("sparse_adamw.adamw", "sparse_adamw.sgd"):
        chosen = explain(name, device="cuda", dtype=torch.float32, **sizes)
        assert chosen.implementation == "triton" and "one launch" in chosen.reason
        assert explain(name, device="cpu", **sizes).implementation == "reference"


class TestRefusals:
    """Nothing is changed before everything is checked."""

    def _call(self, **changes: Any) -> None:
        weight = torch.zeros(4, 6, dtype=torch.bfloat16)
        arguments: dict[str, Any] = {
            "values": [torch.ones(2, 6)],
            "gradients": [torch.ones(2, 6)],
            "exp_avgs": [torch.zeros(2, 6)],
            "exp_avg_sqs": [torch.zeros(2, 6)],
            "steps": [torch.zeros(())],
            "entries": [Entries(weight, "rows", torch.tensor([1, 2]))],
            "options": [AdamWOptions()],
        }
        with torch.no_grad():
            sparse_adamw.adamw_(**(arguments | changes))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"values": [torch.ones(3, 6)]}, r"expected values of shape \(2, 6\)"),
            ({"values": [torch.ones(2, 6).double()]}, "expected values of shape"),
            ({"gradients": [torch.ones(3, 6)]}, "expected gradients as contiguous float32"),
            ({"gradients": [torch.ones(6, 2).t()]}, "expected gradients as contiguous float32"),
            ({"gradients": []}, "expected 1 gradients, got 0"),
            ({"exp_avgs": [torch.zeros(2, 6).bfloat16()]}, "expected exp_avgs as contiguous"),
            ({"steps": [torch.zeros((), dtype=torch.int64)]}, "as float32 scalars"),
            ({"steps": []}, "expected 1 steps, got 0"),
            ({"entries": []}, "expected one of entries, groups and numbers"),
            ({"clip": torch.ones(2)}, "as float32 scalars"),
            ({"options": [AdamWOptions(lr=torch.tensor(1.0).double())]}, "as float32 scalars"),
            ({"seed": -1}, r"expected a seed in \[0, 2\^63\)"),
        ],
    )
    def test_arguments(self, changes: dict[str, Any], message: str) -> None:
        self._call()
        with pytest.raises(KernelInputError, match=message):
            self._call(**changes)

    def test_stochastic_rounding_into_float16(self) -> None:
        entries = [Entries(torch.zeros(4, 6).half(), "rows", torch.tensor([1, 2]))]
        self._call(entries=entries)
        with pytest.raises(KernelInputError, match="got float16"):
            self._call(entries=entries, seed=1)

    def test_weights_of_another_kind(self) -> None:
        entries = [Entries(torch.zeros(4, 6).double(), "rows", torch.tensor([1, 2]))]
        with pytest.raises(KernelInputError, match="use torch's own optimizer"):
            self._call(entries=entries)

    def test_momentum_without_buffers_and_seeds_without_steps(self) -> None:
        values, gradients = [torch.ones(3)], [torch.ones(3)]
        with pytest.raises(KernelInputError, match="a buffer for every tensor with momentum"):
            sparse_adamw.sgd_(values, gradients, [None], [True], [None], [SGDOptions(0.1, 0.9)])
        with pytest.raises(KernelInputError, match="expected steps with a seed"):
            sparse_adamw.sgd_(values, gradients, [None], [True], [None], [SGDOptions(0.1)], seed=1)


def test_every_structure_is_among_the_cases(device: torch.device) -> None:
    found = {one.structure for one in model_entries(torch.float32, device, 0.5, 0)}
    assert found == set(STRUCTURES)
