"""`A @ B` and `spmm`: the same kind comes back, every layout is accepted, bad operands get one sentence."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import csbviz
from csbviz.errors import MatrixError, OptionError, UnavailableError
from csbviz.formats import CSBMatrix
from csbviz.ops.dispatch import prepare_kernel
from csbviz.ops.operands import as_operand, give_back
from csbviz.ops.registry import SPMV_OPS, get_kernel

ROWS, COLS, N = 70, 50, 9


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def csr(dtype):
    return sp.random(ROWS, COLS, density=0.2, format="csr", dtype=dtype, random_state=2)


@pytest.fixture
def A(csr):
    return CSBMatrix.from_scipy(csr, block_shape=(16, 8))


def normals(*shape, dtype="float32"):
    return np.random.default_rng(3).standard_normal(shape).astype(dtype)


def tolerance(dtype):
    return {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-12}


def test_product_and_transposed_product(A, csr, dtype):
    B, G = normals(COLS, N, dtype=dtype), normals(ROWS, N, dtype=dtype)
    np.testing.assert_allclose(A @ B, csr @ B, **tolerance(dtype))
    np.testing.assert_allclose(A.T @ G, csr.T @ G, **tolerance(dtype))
    np.testing.assert_allclose(A.T.T @ B, csr @ B, **tolerance(dtype))
    np.testing.assert_array_equal(csbviz.spmm(A, G, transpose=True), A.T @ G)
    np.testing.assert_array_equal(csbviz.spmm(A.T, B, transpose=True), A @ B)


def test_vector_gives_a_vector(A, csr, dtype):
    x = normals(COLS, dtype=dtype)
    y = A @ x
    assert y.shape == (ROWS,)
    np.testing.assert_allclose(y, csr @ x, **tolerance(dtype))


def test_torch_in_torch_out(A, csr, dtype):
    B = torch.from_numpy(normals(COLS, N, dtype=dtype))
    C = A @ B
    assert isinstance(C, torch.Tensor)
    np.testing.assert_allclose(C.numpy(), csr @ B.numpy(), **tolerance(dtype))
    x = A @ B[:, 0]
    assert x.shape == (ROWS,)


def test_transposed_and_strided_views_are_accepted(A, csr, dtype):
    X = normals(N, COLS, dtype=dtype)
    np.testing.assert_allclose(A @ X.T, csr @ X.T, **tolerance(dtype))
    np.testing.assert_allclose((A @ torch.from_numpy(X).T).numpy(), csr @ X.T, **tolerance(dtype))
    wide = normals(COLS, 2 * N, dtype=dtype)
    np.testing.assert_allclose(A @ wide[:, ::2], csr @ wide[:, ::2], **tolerance(dtype))


def test_out_is_filled_and_returned(A, csr, dtype):
    B = normals(COLS, N, dtype=dtype)
    out = np.full((ROWS, N), np.nan, dtype)
    assert csbviz.spmm(A, B, out=out) is out
    np.testing.assert_allclose(out, csr @ B, **tolerance(dtype))
    tensor = torch.full((ROWS, N), float("nan"), dtype=getattr(torch, dtype))
    assert csbviz.spmm(A, torch.from_numpy(B), out=tensor) is tensor
    np.testing.assert_array_equal(tensor.numpy(), out)
    library = np.full((ROWS, N), np.nan, dtype)
    csbviz.spmm(A, B, kernel="csr_scipy", out=library)
    np.testing.assert_allclose(library, out, **tolerance(dtype))


@pytest.mark.parametrize("kernel", ["csb_cpu", "csr_mkl", "csr_scipy", "dense_torch"])
@pytest.mark.parametrize("transpose", [False, True])
def test_every_cpu_kernel_by_name(A, csr, dtype, kernel, transpose):
    B = normals(ROWS if transpose else COLS, N, dtype=dtype)
    expected = (csr.T if transpose else csr) @ B
    np.testing.assert_allclose(csbviz.spmm(A, B, transpose, kernel=kernel), expected, **tolerance(dtype))


@pytest.mark.parametrize("balance", ["auto", "in_order", "swizzle", "chunks", "equal_nnz"])
def test_every_strategy_gives_the_product(A, csr, dtype, balance):
    B = normals(COLS, N, dtype=dtype)
    np.testing.assert_allclose(csbviz.spmm(A, B, balance=balance), csr @ B, **tolerance(dtype))


def test_plans_are_kept_and_bounded(A):
    from csbviz.ops.dispatch import PLANS_KEPT

    dtype = A.dtype
    for n in range(1, PLANS_KEPT + 5):
        A @ np.ones((COLS, n), dtype)
    assert len(A.cache["plans"]) == PLANS_KEPT
    assert A.T.cache is A.cache


@pytest.mark.parametrize(("rows", "cols"), [(0, 5), (5, 0), (0, 0)])
def test_empty_matrices(rows, cols):
    A = CSBMatrix.from_scipy(sp.csr_matrix((rows, cols), dtype=np.float32), block_shape=(8, 8))
    C = A @ np.ones((cols, 3), np.float32)
    assert C.shape == (rows, 3)
    assert not C.any()


def test_no_columns(A):
    assert (A @ np.ones((COLS, 0), A.dtype)).shape == (ROWS, 0)


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_out_may_not_lie_in_b(A, convert):
    memory = np.ones(COLS * N + ROWS * N, A.dtype)
    B, beside = memory[: COLS * N].reshape(COLS, N), memory[COLS * N :].reshape(ROWS, N)
    inside = memory[: ROWS * N].reshape(ROWS, N)
    with pytest.raises(OptionError, match="out shares memory with B"):
        csbviz.spmm(A, convert(B), out=convert(inside))
    assert (memory == 1).all()
    csbviz.spmm(A, convert(B), out=convert(beside))
    np.testing.assert_allclose(beside, A @ B, **tolerance(A.dtype))


def test_columns_must_fit_the_operation(A):
    kernel = get_kernel("csb_cpu")
    with pytest.raises(OptionError, match="n is -1; B has 0 columns or more"):
        prepare_kernel(A, kernel, "A@B", -1, threads=1)
    for op in SPMV_OPS:
        with pytest.raises(OptionError, match=f"n is 2; {op} multiplies one vector"):
            prepare_kernel(A, get_kernel("csb_spmv"), op, 2, threads=1)


def test_bad_operands_get_one_sentence(A):
    dtype = A.dtype
    with pytest.raises(MatrixError, match="B has 49 rows; the product needs 50"):
        A @ np.ones((COLS - 1, N), dtype)
    with pytest.raises(MatrixError, match="B is int64 but the matrix holds"):
        A @ np.ones((COLS, N), np.int64)
    with pytest.raises(MatrixError, match="3 dimensions"):
        A @ np.ones((COLS, N, 1), dtype)
    with pytest.raises(MatrixError, match="not list"):
        A @ [1.0] * COLS
    with pytest.raises(MatrixError, match="B is a sparse tensor; a dense one is needed"):
        A @ torch.ones(COLS, N).to_sparse()
    with pytest.raises(OptionError, match=r"out has shape \(1, 1\)"):
        csbviz.spmm(A, np.ones((COLS, N), dtype), out=np.ones((1, 1), dtype))
    with pytest.raises(OptionError, match="same kind as B"):
        csbviz.spmm(A, np.ones((COLS, N), dtype), out=torch.ones(ROWS, N))
    with pytest.raises(OptionError, match="contiguous"):
        csbviz.spmm(A, np.ones((COLS, N), dtype), out=np.ones((N, ROWS), dtype).T)
    with pytest.raises(OptionError, match="no kernel named"):
        csbviz.spmm(A, np.ones((COLS, N), dtype), kernel="nope")
    with pytest.raises(OptionError, match="runs on cuda, but B lives on cpu"):
        csbviz.spmm(A, np.ones((COLS, N), dtype), kernel="csb_cuda")


def test_half_precision_says_what_to_do():
    A = CSBMatrix.from_scipy(sp.eye(8, format="csr", dtype=np.float32), block_shape=(8, 8)).astype("float16")
    with pytest.raises(UnavailableError, match=r"float16 values; A.astype\('float32'\)"):
        A @ np.ones((8, 2), np.float16)


def test_bfloat16_is_refused_in_one_sentence():
    A = CSBMatrix.from_torch(torch.eye(16, dtype=torch.bfloat16))
    with pytest.raises(UnavailableError, match=r"No CSB kernel on cpu .* none for bfloat16 values"):
        A @ torch.ones(16, 2, dtype=torch.bfloat16)


@pytest.mark.parametrize("op", ["A@x", "A.T@x"])
@pytest.mark.parametrize("name", ["csb_cpu", "csr_scipy", "csr_mkl", "dense_torch"])
def test_a_vector_product_is_an_operation_of_its_own(A, csr, dtype, name, op):
    matrix = csr.T if op == "A.T@x" else csr
    x = normals(matrix.shape[1], 1, dtype=dtype)
    prepared = prepare_kernel(A, get_kernel(name), op, 1, threads=2)
    result = prepared.run(x, np.full((matrix.shape[0], 1), np.nan, dtype))
    np.testing.assert_allclose(result, matrix @ x, **tolerance(dtype))


@pytest.mark.parametrize("shape", [(4, 3), (4,)])
def test_bfloat16_travels_as_its_bits(shape):
    B = torch.randn(shape).bfloat16()
    operand = as_operand(B, 4, "bfloat16")
    assert operand.array.dtype == np.uint16
    assert operand.array.ndim == 2
    back = give_back(operand.array, operand)
    assert back.dtype == torch.bfloat16
    assert torch.equal(back, B)


def test_a_kernel_that_does_not_take_a_matrix_says_why(A):
    kernel = dataclasses.replace(get_kernel("csb_cpu"), accepts=lambda A, op, n: "its blocks are square.")
    with pytest.raises(UnavailableError, match=r"csb_cpu does not take .*: its blocks are square\."):
        prepare_kernel(A, kernel, "A@B", 3, threads=1)
