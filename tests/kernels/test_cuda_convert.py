"""The conversion on a GPU: the same bits as the conversion on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.formats import CSBMatrix
from csbviz.formats.checks import grid_of
from tests.kernels.cuda_cases import CASES, NAMES

ARRAYS = ("values", "row_ind", "col_ind", "blk_ptr")


def assert_same_bits(A: CSBMatrix, B: CSBMatrix) -> None:
    assert (A.shape, A.block_shape, A.order, A.dtype) == (B.shape, B.block_shape, B.order, B.dtype)
    for name in ARRAYS:
        ours, theirs = getattr(A, name), getattr(B, name)
        assert ours.dtype == theirs.dtype, name
        if name == "values" and A.dtype == "bfloat16":
            import torch

            ours, theirs = ours.view(torch.int16).numpy(), theirs.view(torch.int16).numpy()
        assert ours.tobytes() == theirs.tobytes(), name


def play(S, block_shape, warps: int):
    """What csb_from_csr does, warp by warp and 32 entries at a time; values, rows, columns, pointers."""
    rows = S.shape[0]
    units, across = grid_of(S.shape, block_shape)
    out = np.full((3, S.nnz), np.nan)
    pointer = np.full(units * across + 1, S.nnz)
    for unit in range(units):
        first = unit * block_shape[0]
        height = min(block_shape[0], rows - first)
        bounds = [height * w // warps for w in range(warps + 1)]
        place = np.zeros((warps, across), int)

        def runs(w, first=first, bounds=bounds):
            for r in range(bounds[w], bounds[w + 1]):
                begin, end = S.indptr[first + r : first + r + 2]
                for e0 in range(begin, end, 32):
                    block = S.indices[e0 : min(e0 + 32, end)] // block_shape[1]
                    heads = np.append(True, block[1:] != block[:-1])
                    rank = np.arange(block.size) - np.flatnonzero(heads)[np.cumsum(heads) - 1]
                    yield r, e0, block, rank, np.append(heads[1:], True)

        for w in range(warps):
            for _, _, block, rank, last in runs(w):
                place[w, block[last]] += rank[last] + 1
        counts = place.sum(axis=0)
        begin = np.cumsum(counts) - counts
        pointer[unit * across : (unit + 1) * across] = S.indptr[first] + begin
        place = begin + np.cumsum(place, axis=0) - place
        for w in range(warps):
            for r, e0, block, rank, last in runs(w):
                to = S.indptr[first] + place[w, block] + rank
                at = slice(e0, e0 + block.size)
                out[:, to] = S.data[at], np.full(block.size, r), S.indices[at] % block_shape[1]
                place[w, block[last]] += rank[last] + 1
    return *out, pointer


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_plan_of_the_kernel_gives_the_arrays(case):
    A = case.matrix("float64")
    A = CSBMatrix.from_scipy(A.to_scipy(), block_shape=A.block_shape)
    if A.nnz > 20_000:
        pytest.skip("too many entries to play in Python")
    for warps in (1, 8, 32):
        found = play(A.to_scipy(), A.block_shape, warps)
        for array, name in zip(found, ARRAYS, strict=True):
            assert np.array_equal(array, getattr(A, name)), name


@pytest.mark.gpu
class TestOnTheGpu:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("case", CASES, ids=NAMES)
    def test_csr(self, case, dtype):
        import cupy
        import cupyx.scipy.sparse

        from csbviz.ops.cuda.convert import csr_to_csb

        S = case.matrix("float32").to_scipy()
        data = S.data.astype(dtype)
        for index in (np.int32, np.int64):
            arrays = [cupy.asarray(a) for a in (S.indptr.astype(index), S.indices.astype(index), data)]
            found, _ = csr_to_csb(*arrays, S.shape, case.block_shape, dtype)
            reference = CSBMatrix.from_scipy(
                sp.csr_array((data, S.indices, S.indptr), shape=S.shape), block_shape=case.block_shape
            )
            for name in ARRAYS:
                assert found.fetch(name).tobytes() == getattr(reference, name).tobytes(), name
        if dtype != "float16":
            A = CSBMatrix.from_scipy(
                cupyx.scipy.sparse.csr_matrix(sp.csr_matrix(S.astype(dtype))), block_shape=case.block_shape
            )
            assert A.__dict__.get("_remote") is not None
            assert_same_bits(A, CSBMatrix.from_scipy(S.astype(dtype), block_shape=case.block_shape))

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("case", CASES, ids=NAMES)
    def test_dense(self, case, dtype):
        import cupy

        D = case.matrix("float32").to_dense().astype(dtype)
        D[::7, ::3] = -0.0
        D[1::7, ::3] = np.nan
        D[::5, 1::7] = np.finfo(dtype).smallest_subnormal
        A = CSBMatrix.from_dense(cupy.asarray(D), block_shape=case.block_shape)
        assert A.__dict__.get("_remote") is not None
        assert_same_bits(A, CSBMatrix.from_dense(D, block_shape=case.block_shape))
        A.check_format()

    @pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
    def test_torch(self, dtype):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("PyTorch was installed without CUDA")
        S = CASES[4].matrix().to_scipy()
        dense = torch.from_numpy(S.toarray()).to(getattr(torch, dtype))
        reference = CSBMatrix.from_torch(dense, block_shape=(32, 16))
        for tensor in (dense.cuda(), dense.cuda().to_sparse_csr(), dense.T.contiguous().cuda().T):
            A = CSBMatrix.from_torch(tensor, block_shape=(32, 16))
            assert A.__dict__.get("_remote") is not None
            assert_same_bits(A, reference)

    def test_unsorted_rows_and_duplicates_are_left_to_the_host(self):
        import cupy
        import cupyx.scipy.sparse

        arrays = cupy.asarray([1.0, 2.0, 4.0], cupy.float32), cupy.asarray([3, 1, 1]), cupy.asarray([0, 3, 3])
        S = cupyx.scipy.sparse.csr_matrix(arrays, shape=(2, 5))
        A = CSBMatrix.from_scipy(S, block_shape=(2, 2))
        assert "_remote" not in A.__dict__
        assert np.array_equal(A.to_dense(), [[0, 6, 0, 1, 0], [0, 0, 0, 0, 0]])

    @pytest.mark.parametrize("fault", ["column", "negative column", "falling pointer", "pointer too large"])
    def test_inconsistent_arrays_are_noticed(self, fault):
        import cupy

        from csbviz.ops.cuda.convert import csr_to_csb

        S = CASES[0].matrix().to_scipy()
        indptr, indices = S.indptr.copy(), S.indices.copy()
        if fault == "column":
            indices[100] = S.shape[1]
        elif fault == "negative column":
            indices[0] = -1
        elif fault == "falling pointer":
            indptr[7] = 0
        else:
            indptr[-1] = 10 * S.nnz
        arrays = [cupy.asarray(a) for a in (indptr, indices, S.data)]
        assert csr_to_csb(*arrays, S.shape, (64, 64), "float32") is None

    def test_products_need_no_values_from_the_host(self):
        """With kernels that do not look at the range of the values, as those of tensor cores do."""
        import cupy
        import cupyx.scipy.sparse

        import csbviz

        S = CASES[0].matrix().to_scipy()
        A = CSBMatrix.from_scipy(cupyx.scipy.sparse.csr_matrix(S), block_shape=(64, 64))
        B = np.random.default_rng(0).standard_normal((S.shape[1], 40)).astype(np.float32)
        C = csbviz.spmm(A, cupy.asarray(B), kernel="csb_gather").get()
        assert np.allclose(C, S @ B, rtol=1e-4, atol=1e-4)
        y = (A @ cupy.asarray(B[:, 0])).get()
        assert np.allclose(y, S @ B[:, 0], rtol=1e-4, atol=1e-4)
        z = (A.T @ cupy.asarray(C[:, 0])).get()
        assert np.allclose(z, S.T @ C[:, 0], rtol=1e-4, atol=1e-4)
        assert "values" not in A.__dict__

    def test_two_conversions_give_the_same_bits(self):
        import cupyx.scipy.sparse

        S = cupyx.scipy.sparse.csr_matrix(CASES[NAMES.index("heavy row and column")].matrix().to_scipy())
        first, second = (CSBMatrix.from_scipy(S, block_shape=(64, 64)) for _ in range(2))
        assert_same_bits(first, second)
