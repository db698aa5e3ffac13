"""Transposition with a bias: any shape, on both devices."""

from __future__ import annotations

import pytest
import torch

from csbviz.ops.transposed import transposed

SHAPES = [
    (1, 1),
    (1, 40),
    (40, 1),
    (4, 8),
    (32, 32),
    (33, 31),
    (64, 100),
    (130, 67),
    (256, 512),
    (0, 5),
    (5, 0),
]


def check(X: torch.Tensor) -> None:
    bias = torch.randn(X.shape[0], dtype=X.dtype, device=X.device)
    before = X.clone()
    for found, expected in ((transposed(X), X.t()), (transposed(X, bias), (X + bias[:, None]).t())):
        assert found.is_contiguous()
        assert torch.equal(found, expected)
    assert torch.equal(X, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape(shape, dtype):
    check(torch.randn(shape).to(dtype))


def test_any_strides_and_nothing_to_do():
    X = torch.randn(6, 10)
    check(X[:, ::2])
    check(X.t())
    check(X[:1].expand(3, 10))
    assert transposed(X.t()).data_ptr() == X.data_ptr()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_on_a_gpu(dtype):
    if not torch.cuda.is_available():
        pytest.skip("PyTorch was installed without CUDA")
    for shape in SHAPES:
        X = torch.randn(shape, device="cuda").to(dtype)
        check(X)
        check(X[:, ::2])
        check(torch.randn(X.numel() + 1, device="cuda").to(dtype)[1:].reshape(shape))  # not aligned
        check(torch.full_like(X, torch.inf))
