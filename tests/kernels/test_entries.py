"""Where entries stand: reading, writing, addresses in kernels, and tables on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparseft_kernels import KernelInputError
from sparseft_kernels.entries import STRUCTURES, Entries, check_entries, read, reference, write
from sparseft_kernels.entries.tables import FIELDS, chunk_table, number_table, tensor_table
from tests.kernels.entry_cases import CASES, model_entries, select


@pytest.mark.parametrize("index_dtype", [torch.int32, torch.int64])
@given(share=st.sampled_from([0.0, 0.3, 1.0]), seed=st.integers(0, 2**16))
def test_reading_and_writing_reach_the_same_places(
    index_dtype: torch.dtype, share: float, seed: int
) -> None:
    for structure, shape, edge in CASES:
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        entries = select(structure, weight, edge, share, seed)
        index = entries.index.to(index_dtype)
        places = reference.positions(shape, structure, index, edge)
        found = read(weight, structure, index, edge)
        assert tuple(found.shape) == tuple(places.shape) == entries.shape
        assert torch.equal(found, weight.reshape(-1)[places])
        before = weight.clone()
        write(weight, structure, index, edge, torch.full(entries.shape, 7.0, dtype=torch.float64))
        expected = before.reshape(-1).index_fill(0, places.reshape(-1), 7.0).view(shape)
        assert torch.equal(weight, expected)


def test_writing_rounds_to_the_weights_dtype() -> None:
    weight = torch.zeros(4, 3, dtype=torch.bfloat16)
    values = torch.full((1, 3), 1.0 + 2**-8 + 2**-12)  # just above the middle
    write(weight, "rows", torch.tensor([2], dtype=torch.int32), 0, values)
    assert torch.equal(weight[2], torch.full((3,), 1.0 + 2**-7, dtype=torch.bfloat16))


@pytest.mark.parametrize("misaligned", [False, True])
def test_kernels_compute_these_places(device: torch.device, misaligned: bool) -> None:
    """The address function alone, with a chunk that begins inside of the tensor."""
    from tests.kernels.offsets_kernel import offsets

    entries = model_entries(torch.float32, device, 0.6, 3, misaligned)
    for one in entries:
        expected = reference.positions(
            tuple(one.weight.shape), one.structure, one.index, one.edge
        ).reshape(-1)
        assert torch.equal(offsets(one, 32).cpu(), expected.cpu()), one.structure


def test_addresses_beyond_2_to_31_entries(device: torch.device) -> None:
    """Of a weight that is nowhere in memory: only the arithmetic runs."""
    from tests.kernels.offsets_kernel import offsets_of

    rows = torch.tensor([0, 70_000, 2**20 - 1], device=device)
    n, k = 2**20, 2**14
    found = offsets_of((1, k, k, 1, 1, 1), rows, 3 * k, first=2 * k, block=64).cpu()
    assert torch.equal(found, (2**20 - 1) * k + torch.arange(64))
    elements = torch.tensor([5, 2**33 + 1, n * k - 1], device=device)
    found = offsets_of((1, 1, 1, 1, 1, 1), elements, 3, first=0, block=4).cpu()
    assert torch.equal(found[:3], elements.cpu())
    # Compact values beyond 2^31: column 2 of a tall matrix.
    columns = torch.arange(2**12, device=device)
    found = offsets_of((2, 2**12, 2**13, 1, 1, 1), columns, 2**33, first=2**32, block=16).cpu()
    assert torch.equal(found, 2**20 * 2**13 + torch.arange(16))


class TestRefusals:
    """Each says what was expected."""

    def _entries(self, **changes: Any) -> Entries:
        index = torch.tensor([0, 2], dtype=torch.int32)
        return Entries(torch.zeros(4, 6), "rows", index)._replace(**changes)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"structure": "diagonal"}, "expected a structure of rows"),
            ({"weight": torch.zeros(6)}, r"expected a weight \[n, k\]"),
            ({"weight": torch.zeros(6, 4).t()}, "expected a contiguous weight"),
            ({"structure": "blocks", "edge": 3}, "expected a block edge that divides 4 and 6"),
            ({"structure": "blocks", "edge": 0}, "expected a block edge that divides 4 and 6"),
            ({"index": torch.tensor([2, 2])}, "sorted ascending without duplicates"),
            ({"index": torch.tensor([2, 1])}, "sorted ascending without duplicates"),
            ({"index": torch.tensor([0, 4])}, r"expected the selected rows in \[0, 4\)"),
            ({"index": torch.tensor([0.0])}, "vector of int32 or int64"),
        ],
    )
    def test_entries(self, changes: dict[str, Any], message: str) -> None:
        check_entries(self._entries())
        with pytest.raises(KernelInputError, match=message):
            check_entries(self._entries(**changes))

    def test_every_structure_has_its_own_limit(self) -> None:
        weight = torch.zeros(4, 6)
        limits = {"rows": 4, "embedding": 4, "columns": 6, "blocks": 6, "elements": 24}
        assert set(limits) == set(STRUCTURES)
        for structure, limit in limits.items():
            edge = 2 if structure == "blocks" else 0
            check_entries(Entries(weight, structure, torch.tensor([limit - 1]), edge))
            with pytest.raises(KernelInputError, match=rf"in \[0, {limit}\)"):
                check_entries(Entries(weight, structure, torch.tensor([limit]), edge))


class TestTables:
    """One upload for each content."""

    def test_equal_content_is_the_same_tensor(self, device: torch.device) -> None:
        first = number_table(device, [0.1, 0.2])
        assert first.dtype == torch.float64 and first.tolist() == [0.1, 0.2]
        assert number_table(device, [0.1, 0.2]) is first
        assert number_table(device, [0.1, 0.3]) is not first

    def test_chunks_cover_every_value_once(self, device: torch.device) -> None:
        chunks = chunk_table(device, [5, 0, 8, 1], 4)
        assert chunks.tolist() == [[0, 0], [0, 4], [2, 0], [2, 4], [3, 0]]
        assert chunk_table(device, [0, 0], 4).shape == (0, 2)

    def test_a_row_says_where_the_tensor_is(self, device: torch.device) -> None:
        weight = torch.zeros(4, 8, device=device)
        entries = Entries(weight, "rows", torch.tensor([1, 3], device=device))
        values = [torch.zeros(16, device=device), torch.zeros(3, device=device)]
        addresses = {"value": [value.data_ptr() for value in values]}
        table = tensor_table(device, [16, 3], addresses, [entries, None])
        first, second = (dict(zip(FIELDS, row, strict=True)) for row in table.tolist())
        assert first["value"] == values[0].data_ptr() and first["weight"] == weight.data_ptr()
        assert first["count"] == 16 and first["aligned"] == 1 and first["wide"] == 1
        assert (first["quads"], first["inner"], first["stride"]) == (1, 2, 2)
        assert second["count"] == 3 and second["kind"] == 0 and second["weight"] == 0
        # Four bytes on: neither the values nor the weight are aligned.
        addresses = {"value": [value[1:].data_ptr() for value in values]}
        part = torch.zeros(33, device=device)[1:].view(4, 8)
        table = tensor_table(device, [8, 2], addresses, [entries._replace(weight=part), None])
        row = dict(zip(FIELDS, table[0].tolist(), strict=True))
        assert (row["aligned"], row["quads"], row["inner"]) == (0, 0, 8)

    @pytest.mark.gpu
    def test_a_cuda_graph_keeps_the_tables_that_it_read(self) -> None:
        device = torch.device("cuda")
        number_table(device, [float(n) for n in range(16)])
        out = torch.zeros(16, dtype=torch.float64, device=device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out.copy_(number_table(device, [float(2 * n) for n in range(16)]))
        for n in range(300):  # more than are kept
            number_table(device, [float(n)] * 16)
        for _ in range(2):
            out.zero_()
            graph.replay()
            assert out.tolist() == [float(2 * n) for n in range(16)]


def test_plans_hold_narrow_indices_and_old_wide_ones_still_work() -> None:
    from sparseft.selection import ModuleSelection
    from sparseft.sparse.plan import Plan

    selected = ModuleSelection("0", "rows", np.array([1, 3], dtype=np.int64), (5, 4))
    plan = Plan.of(selected, torch.device("cpu"))
    assert plan.index.dtype == torch.int32
    weight: Tensor = torch.randn(5, 4)
    narrow = plan.read(weight)
    plan.index = plan.index.long()
    assert torch.equal(plan.read(weight), narrow)
    plan.write(weight, narrow + 1)
    assert torch.equal(plan.read(weight), narrow + 1)
    huge = ModuleSelection("0", "elements", np.array([2**33], dtype=np.int64), (2**20, 2**14))
    assert Plan.of(huge, torch.device("cpu")).index.dtype == torch.int64
