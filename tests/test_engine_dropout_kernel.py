"""The dropout kernel against the tensor operations that define a keyed mask: equal bit for bit."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from xfw.engine.rng import Rng, key_words, purpose_keys

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton"),
]

RATES = (0.0, 0.5, 0.1)
SHAPES = ((37, 18), (256, 1), (1, 5), (4, 3, 7))


def laid_out(shape: tuple[int, ...], order: str, dtype: torch.dtype) -> torch.Tensor:
    x = torch.randn(len(RATES), *shape, device="cuda", dtype=dtype, generator=torch.Generator("cuda").manual_seed(5))
    return x.transpose(1, 2).contiguous().transpose(1, 2) if order == "features first" else x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", ["rows first", "features first"])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_gradients_and_layout_are_those_of_tensor_operations(
    shape: tuple[int, ...], order: str, dtype: torch.dtype
) -> None:
    from xfw.engine.dropout_kernel import drop

    words = key_words([123456789012345, 2**63 + 5, 77], "cuda")
    rng = Rng(words, torch.tensor(3, device="cuda"), torch.tensor(11, device="cuda"))
    threshold = torch.tensor([round(rate * 2**24) for rate in RATES], dtype=torch.int32, device="cuda")
    scale = torch.tensor([1 / (1 - rate) for rate in RATES], dtype=torch.float32, device="cuda")
    ones = (1,) * len(shape)
    kept = rng.words24("site", shape) >= threshold.view(-1, *ones)
    mask = kept.to(dtype) * scale.to(dtype).view(-1, *ones)
    x = laid_out(shape, order, dtype).requires_grad_()
    gradient = laid_out(shape, "rows first", dtype)
    found = drop(x, purpose_keys(rng, "site"), threshold, scale)
    assert torch.equal(found, x * mask)
    assert found.stride() == x.stride() or len(shape) > 2
    assert torch.equal(torch.autograd.grad(found, x, gradient)[0], gradient * mask)
