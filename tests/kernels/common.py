"""What the kernels' tests share: tolerances, shapes, inputs."""

from __future__ import annotations

import torch
from torch import Tensor

# Relative RMS against float64 on the same (already rounded) inputs: sums are float32, so what is
# left is float32 rounding, whatever the inputs' dtype. Full-float32 products only.
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-6, torch.bfloat16: 2e-6}
DTYPES = tuple(TOLERANCE)


def relative_rms(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|; NaN and missing values never pass."""
    if expected.numel() == 0:
        return 0.0 if found.shape == expected.shape else float("inf")
    difference = (found.double().cpu() - expected.double().cpu()).norm()
    return float(difference / expected.double().norm().clamp_min(1e-30).cpu())


def matrices(
    tokens: int, n: int, k: int, dtype: torch.dtype, device: torch.device, layout: str, seed: int
) -> tuple[Tensor, Tensor]:
    """Fresh dY [tokens, n] and X [tokens, k]; layout "plain", "strided" or "transposed"."""
    generator = torch.Generator().manual_seed(seed)
    pair = []
    for width in (n, k):
        matrix = torch.randn(tokens, width, generator=generator).to(device=device, dtype=dtype)
        if layout == "strided":
            wide = torch.full((tokens, 2 * width + 1), float("nan"), dtype=dtype, device=device)
            wide[:, 1::2] = matrix
            matrix = wide[:, 1::2]
        elif layout == "transposed":
            matrix = matrix.t().contiguous().t()
        pair.append(matrix)
    return pair[0], pair[1]


def some(limit: int, share: float, seed: int, device: torch.device) -> Tensor:
    """A sorted random share of range(limit), as int32."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(limit, generator=generator)[: round(share * limit)]
    return chosen.sort().values.to(device=device, dtype=torch.int32)


def poison(device: torch.device) -> None:
    """Leave freed memory full of NaN, so that an entry a kernel never writes shows."""
    for size in (64, 1024, 16384, 262144):
        torch.full((size,), float("nan"), device=device)
