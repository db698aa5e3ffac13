"""The sampled product at the stored positions, on both devices: any shape, the same bits in every run."""

from __future__ import annotations

import numpy as np
import pytest

from csbviz.bench.verify import ERROR_BOUNDS, relative_error
from csbviz.errors import MatrixError, OptionError
from csbviz.ops.cuda.module import DeviceLimits
from csbviz.ops.cuda.sddmm import best_version, column_parts, column_shares, first_blocks
from csbviz.ops.cuda.sddmm_tiles import MMA, WGMMA, TileShape, best_splits, fits, tiles_of
from csbviz.ops.sampled import sddmm
from tests.kernels.cuda_cases import CASES, NAMES

COLUMNS = (1, 5, 16, 33, 64, 132, 700)
DTYPES = ("float32", "float64")


def operands(A, n: int):
    """U and V, and the float64 products at the stored positions."""
    rng = np.random.default_rng(n)
    U, V = (rng.standard_normal((size, n)).astype(A.dtype) for size in A.shape)
    rows, columns = A.coordinates()
    return U, V, (U.astype(np.float64) @ V.astype(np.float64).T)[rows, columns]


def bound(dtype: str) -> float:
    return ERROR_BOUNDS["fp32" if dtype == "float32" else "fp64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_any_shape(case, dtype):
    A = case.matrix(dtype)
    for n in COLUMNS:
        U, V, expected = operands(A, n)
        for threads in (1, None):
            out = np.full(A.nnz, np.nan, dtype)
            assert sddmm(A, U, V, out, threads) is out
            assert relative_error(out, expected) <= bound(dtype)
        assert relative_error(sddmm(A.T, V, U), expected) <= bound(dtype)


def test_only_the_structure_of_the_matrix_counts():
    A = CASES[0].matrix()
    U, V, expected = operands(A, 8)
    half = sddmm(A.astype("float16"), U, V)
    assert half.dtype == np.float32
    assert relative_error(half, expected) <= ERROR_BOUNDS["fp32"]


def test_no_columns_give_zeros():
    A = CASES[0].matrix()
    assert not sddmm(A, np.ones((A.shape[0], 0), np.float32), np.ones((A.shape[1], 0), np.float32)).any()


def test_infinity_stays_where_it_belongs():
    A = CASES[NAMES.index("gaps: empty rows, columns and blocks")].matrix()
    U, V, expected = operands(A, 40)
    V[1::3] = np.inf  # these columns of A are empty
    assert relative_error(sddmm(A, U, V), expected) <= ERROR_BOUNDS["fp32"]
    used = A.coordinates()[1][0]
    V[used, 7] = np.nan
    assert np.array_equal(np.isnan(sddmm(A, U, V)), A.coordinates()[1] == used)


def test_tensors_come_back_as_tensors():
    import torch

    A = CASES[0].matrix()
    U, V, expected = operands(A, 8)
    found = sddmm(A, torch.from_numpy(U), torch.from_numpy(V))
    assert isinstance(found, torch.Tensor)
    assert relative_error(found.numpy(), expected) <= ERROR_BOUNDS["fp32"]


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_first_blocks_enclose_every_entry(case):
    """What the CUDA kernels search between: the block of an entry lies there."""
    A = case.matrix()
    first = first_blocks(A)
    block = np.repeat(np.arange(len(A.blk_ptr) - 1), np.diff(A.blk_ptr))
    assert first.dtype == np.int32
    assert len(first) == -(-A.nnz // 32) + 1
    chunk = np.arange(A.nnz) // 32
    assert (first[chunk] <= block).all()
    assert (block <= first[chunk + 1]).all()


def test_columns_are_dealt_out_where_ctas_are_few():
    assert column_parts(ctas=6000, n=2048, multiprocessors=132) == 1
    assert column_parts(ctas=1, n=2048, multiprocessors=132) == 8
    assert column_parts(ctas=1, n=100, multiprocessors=132) == 1


H100 = DeviceLimits(0, 132, 232448, (9, 0), 50 << 20)
A100 = DeviceLimits(0, 108, 166912, (8, 0), 40 << 20)
TURING = DeviceLimits(0, 40, 65536, (7, 5), 4 << 20)


def weights(rows: int, columns: int, density: float, block: int = 64):
    import scipy.sparse as sp

    from csbviz.formats import CSBMatrix

    S = sp.random_array((rows, columns), density=density, rng=np.random.default_rng(3), dtype=np.float32)
    return CSBMatrix.from_scipy(S.tocsr(), block_shape=block)


def test_columns_are_shared_where_warps_are_few():
    assert column_shares(nnz=1000, n=2048, multiprocessors=132) == 8
    assert column_shares(nnz=1000, n=256, multiprocessors=132) == 2
    assert column_shares(nnz=100_000, n=2048, multiprocessors=132) == 1


def test_the_version_follows_from_shape_density_and_device():
    dense, sparse = weights(2048, 512, 0.3), weights(2048, 512, 0.02)
    assert best_version(dense, 8, "float32", H100) == 1
    assert isinstance(best_version(dense, 512, "float32", H100), TileShape)
    assert best_version(sparse, 512, "float32", H100) == 3
    for device, dtype in ((A100, "float32"), (TURING, "float32"), (H100, "float64")):
        assert best_version(dense, 512, dtype, device) == 2
        assert best_version(sparse, 512, dtype, device) == 3


@pytest.mark.parametrize("shape", [*MMA, *WGMMA])
def test_tiles_consist_of_whole_blocks_and_cover_the_matrix(shape):
    for block in (16, 64):
        A = weights(500, 333, 0.1, block)
        assert fits(A, shape, "float32", H100)
        assert not fits(A, shape, "float64", H100)
        assert not fits(A, shape, "float32", TURING)
        down, across = tiles_of(A, shape)
        assert down * shape.rows >= 500 > (down - 1) * shape.rows
        assert across * shape.columns >= 333 > (across - 1) * shape.columns
        for n in (20, 33, 512, 4096):
            splits = best_splits(A, shape, n, H100)
            assert splits in (1, 2, 4, 8)
            assert splits * shape.groups * 32 < n + 32 * shape.groups
    assert not fits(weights(500, 333, 0.1, 256), shape, "float32", H100)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda A, U, V: (A, U[1:], V), MatrixError, "U has 255 rows; the product needs 256"),
        (lambda A, U, V: (A, U, V[1:]), MatrixError, "V has 191 rows; the product needs 192"),
        (lambda A, U, V: (A, U[:, 1:], V), MatrixError, "U has 7 columns and V 8"),
        (lambda A, U, V: (A, U.astype(np.float64), V), MatrixError, "U is float64 but V is float32"),
        (
            lambda A, U, V: (A, U.astype(np.float16), V.astype(np.float16)),
            MatrixError,
            "U is float16; needed is float32 or",
        ),
        (lambda A, U, V: (A, [[1.0]], [[1.0]]), MatrixError, "U is list; needed is"),
        (lambda A, U, V: (A, U, V, np.empty(3, np.float32)), OptionError, r"out is float32 of shape \(3,\)"),
        (lambda A, U, V: (A, U, V, np.empty(A.nnz)), OptionError, "out is float64"),
        (lambda A, U, V: (A, U, V, [0.0] * A.nnz), OptionError, "out is a list"),
        (lambda A, U, V: (A, U, V, np.empty(2 * A.nnz, np.float32)[::2]), OptionError, "must be contiguous"),
        (lambda A, U, V: (A, U, V, None, 10_000), OptionError, "Threads must be between"),
    ],
)
def test_bad_input_is_one_sentence(change, error, message):
    A = CASES[0].matrix()
    U, V, _ = operands(A, 8)
    with pytest.raises(error, match=message):
        sddmm(*change(A, U, V))


# ---- on a GPU ----------------------------------------------------------------------------------------------


def run_on_gpu(A, U, V, version=None, parts=None):
    """The result of a launch into an array full of NaN."""
    import cupy

    from csbviz.ops.cuda.sddmm import SampledProduct

    u, v, out = cupy.asarray(U), cupy.asarray(V), cupy.full(A.nnz, cupy.nan, A.dtype)
    SampledProduct(A, U.shape[1], A.dtype, version, parts)(u.data.ptr, v.data.ptr, out.data.ptr)
    return out.get()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_any_shape_on_a_gpu(case, dtype):
    A = case.matrix(dtype)
    for n in COLUMNS:
        U, V, expected = operands(A, n)
        for version, parts in ((1, None), (2, 1), (2, 3), (3, 1), (3, 2), (3, 8), (None, None)):
            found = run_on_gpu(A, U, V, version, parts)
            assert relative_error(found, expected) <= bound(dtype), (n, version, parts)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [*MMA, *WGMMA])
def test_tiles_on_a_gpu(shape):
    from csbviz.ops.cuda.module import current_device

    tested = 0
    for case in CASES:
        A = case.matrix()
        if not fits(A, shape, "float32", current_device()):
            continue
        tested += 1
        for n in COLUMNS:
            U, V, expected = operands(A, n)
            for splits in (1, None) if current_device().capability < (9, 0) else (1, 2, 8, None):
                found = run_on_gpu(A, U, V, shape, splits)
                assert relative_error(found, expected) <= bound("float32"), (case.name, n, splits)
                assert np.array_equal(found.view(np.int32), run_on_gpu(A, U, V, shape, splits).view(np.int32))
    if not tested:
        pytest.skip(f"{shape.name} does not run on this GPU")


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [*MMA, *WGMMA])
def test_tiles_keep_the_range_of_float32(shape):
    from csbviz.ops.cuda.module import current_device

    A = weights(256, 192, 0.2)
    if not fits(A, shape, "float32", current_device()):
        pytest.skip(f"{shape.name} does not run on this GPU")
    U, V, _ = operands(A, 132)
    U[5] *= np.float32(1e-38)
    U[6] *= np.float32(1e-40)
    V[7] *= np.float32(1e30)
    V[9] *= np.float32(1e-42)
    U[10, 3], U[12, 4], V[11, 5] = np.inf, -np.inf, np.nan
    rows, columns = A.coordinates()
    with np.errstate(invalid="ignore"):
        expected = (U.astype(np.float64)[rows] * V.astype(np.float64)[columns]).sum(axis=1)
    finite = np.isfinite(expected)
    for splits in (1, 4) if current_device().capability >= (9, 0) else (1,):
        found = run_on_gpu(A, U, V, shape, splits)
        assert np.array_equal(np.isfinite(found), finite)
        assert np.array_equal(found == np.inf, expected == np.inf)
        assert np.array_equal(np.isnan(found), np.isnan(expected))
        usual = finite & (columns != 9)
        rest = usual & (columns > 11) & (rows > 12)
        # Numbers as small as those of row 6 have few digits themselves.
        for chosen, most in ((rows == 5, 2e-6), (rows == 6, 2e-5), (columns == 7, 2e-6), (rest, 2e-6)):
            part = usual & chosen
            assert relative_error(found[part], expected[part]) <= most


@pytest.mark.gpu
def test_two_runs_on_a_gpu_give_the_same_bits():
    A = CASES[NAMES.index("dense: several batches a window")].matrix()
    U, V, _ = operands(A, 260)
    first = run_on_gpu(A, U, V, parts=2)
    for _ in range(3):
        assert np.array_equal(run_on_gpu(A, U, V, parts=2).view(np.int32), first.view(np.int32))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["cupy", "torch"])
def test_arrays_on_a_gpu_go_through_the_front_door(kind):
    import cupy

    A = CASES[1].matrix()
    U, V, expected = operands(A, 20)
    if kind == "torch":
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("PyTorch was installed without CUDA")
        place, back = (lambda array: torch.from_numpy(array).cuda()), lambda tensor: tensor.cpu().numpy()
    else:
        place, back = cupy.asarray, cupy.asnumpy
    for _ in range(2):
        found = sddmm(A, place(U), place(V))
        assert type(found) is type(place(U))
        assert relative_error(back(found), expected) <= ERROR_BOUNDS["fp32"]
    with pytest.raises(MatrixError, match="both must match"):
        sddmm(A, place(U), V)
