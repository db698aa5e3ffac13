"""The choice and the tuning on a GPU: every chosen variant computes right, and what was tuned is taken."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import csbviz
from csbviz.bench.autotune import autotune
from csbviz.bench.verify import ERROR_BOUNDS, make_reference, relative_error
from csbviz.formats import CSBMatrix
from csbviz.ops.choice import choose
from csbviz.ops.registry import get_kernel
from csbviz.ops.tuned import recall

pytestmark = pytest.mark.gpu


def matrix(rows, columns, density, dtype=np.float32, block=64):
    csr = sp.random(rows, columns, density, "csr", dtype=dtype, random_state=3)
    return CSBMatrix.from_scipy(csr, block_shape=block)


def error_of(prepared, A, op, n):
    import cupy

    reference = make_reference(A.to_scipy(), op, n, A.dtype)
    out = cupy.full(reference.C.shape, cupy.nan, A.dtype)
    prepared.run(cupy.asarray(reference.B), out)
    return relative_error(out.get(), reference.C)


@pytest.mark.parametrize("op", ["A@B", "A.T@B"])
@pytest.mark.parametrize("n", [1, 3, 64, 100, 520])
@pytest.mark.parametrize("density", [0.0, 0.01, 0.1, 0.4])
@pytest.mark.parametrize(("rows", "columns"), [(50, 70), (500, 300), (256, 1030)])
def test_what_is_chosen_computes_right(rows, columns, density, n, op):
    A = matrix(rows, columns, density)
    for name, precision in (("csb_cuda", "fp32"), ("csb_cuda_tf32", "tf32")):
        prepared = get_kernel(name).prepare(A, op, n)
        assert error_of(prepared, A, op, n) <= ERROR_BOUNDS[precision], (name, prepared.params)


def test_the_model_is_what_chooses_here():
    assert choose(matrix(512, 512, 0.1), "A@B", 128).source == "model"


@pytest.mark.parametrize("block", [16, 32, 128, 256])
def test_other_blocks_find_a_kernel_too(block):
    A = matrix(300, 500, 0.1, block=block)
    prepared = get_kernel("csb_cuda").prepare(A, "A@B", 130)
    assert error_of(prepared, A, "A@B", 130) <= ERROR_BOUNDS["fp32"], prepared.params


def test_double_precision_takes_a_kernel_of_its_class():
    A = matrix(300, 500, 0.1, np.float64)
    prepared = get_kernel("csb_cuda").prepare(A, "A@B", 96)
    assert error_of(prepared, A, "A@B", 96) <= ERROR_BOUNDS["fp64"], prepared.params


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e30, 1e-42])
def test_values_that_tensor_cores_cannot_hold_go_to_a_kernel_that_can(value):
    import cupy

    A = matrix(256, 256, 0.3)
    A.values[7] = value
    B = np.ones((256, 64), np.float32)
    with np.errstate(all="ignore"):
        expected = A.to_scipy() @ B
    found = csbviz.spmm(A, cupy.asarray(B)).get()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    fine = np.isfinite(expected)
    np.testing.assert_allclose(found[fine], expected[fine], rtol=1e-4, atol=1e-5)


def test_tuning_measures_all_families_and_products_take_the_result():
    import cupy

    A = matrix(256, 320, 0.1)
    found = autotune(A, "A@B", 64, "cuda", budget_s=20, kernels=["csb_rows", "csb_mma"])
    good = [variant for variant in found if variant.status == "ok"]
    assert not [variant for variant in found if variant.status == "wrong"]
    assert {variant.kernel for variant in good} == {"csb_rows", "csb_mma"}
    assert good[0].median_us == min(variant.median_us for variant in good)
    assert recall(A, "A@B", 64, "cuda") == (good[0].kernel, good[0].params)
    assert choose(A, "A@B", 64).source == "measured"
    B = cupy.random.standard_normal((320, 64), dtype=cupy.float32)
    np.testing.assert_allclose((A @ B).get(), A.to_scipy() @ B.get(), rtol=1e-3, atol=1e-4)
