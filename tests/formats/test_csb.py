"""CSBMatrix: what it holds, its transposed view, its checks and messages."""

from __future__ import annotations

import copy
import doctest
import gc
import pickle
import weakref

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import csbviz.formats.csb
import csbviz.formats.example
from csbviz.errors import MatrixError, OptionError
from csbviz.formats import CSBMatrix, choose_block_shape
from csbviz.formats.checks import MAX_BLOCKS, blk_ptr_dtype
from csbviz.formats.dtypes import VALUE_BYTES
from tests.strategies import csb_matrices

DENSE = np.array([[1, 0, 0, 0, 5], [2, 0, 0, 3, 0], [0, 0, 4, 0, 6]], np.float32)


@pytest.fixture
def matrix():
    """3 x 5 in 2 x 4 blocks: both edges are ragged."""
    return CSBMatrix.from_dense(DENSE, block_shape=(2, 4))


def arrays_of(A):
    return {
        "values": A.values,
        "row_ind": A.row_ind,
        "col_ind": A.col_ind,
        "blk_ptr": A.blk_ptr,
        "shape": A.shape,
        "block_shape": A.block_shape,
        "order": A.order,
    }


@pytest.mark.parametrize("module", [csbviz.formats.csb, csbviz.formats.example])
def test_the_examples_in_docstrings_run(module):
    result = doctest.testmod(module)
    assert result.attempted > 3
    assert result.failed == 0


def test_arrays_of_a_small_matrix(matrix):
    assert matrix.values.tolist() == [1, 2, 3, 5, 4, 6]
    assert matrix.row_ind.tolist() == [0, 1, 1, 0, 0, 0]
    assert matrix.col_ind.tolist() == [0, 0, 3, 0, 2, 0]
    assert matrix.blk_ptr.tolist() == [0, 3, 4, 5, 6]
    assert (matrix.shape, matrix.grid, matrix.nnz, matrix.dtype) == ((3, 5), (2, 2), 6, "float32")
    assert matrix.sparsity == pytest.approx(9 / 15)


def test_column_and_morton_order():
    dense = np.arange(1, 17, dtype=np.float32).reshape(4, 4)
    by_column = CSBMatrix.from_dense(dense, 4, "col")
    assert by_column.values.tolist() == dense.T.ravel().tolist()
    curve = CSBMatrix.from_dense(dense, 4, "morton")
    assert curve.values.tolist() == [1, 2, 5, 6, 3, 4, 7, 8, 9, 10, 13, 14, 11, 12, 15, 16]


def test_morton_order_of_a_rectangle_is_a_line_of_squares():
    dense = np.arange(1, 9, dtype=np.float32).reshape(2, 4)
    assert CSBMatrix.from_dense(dense, (2, 4), "morton").values.tolist() == [1, 2, 5, 6, 3, 4, 7, 8]
    assert CSBMatrix.from_dense(dense.T, (4, 2), "morton").values.tolist() == [1, 5, 2, 6, 3, 7, 4, 8]


def test_the_transposed_view_shares_arrays_and_cache(matrix):
    view = matrix.T
    assert view.row_ind is matrix.col_ind
    assert view.col_ind is matrix.row_ind
    assert view.values is matrix.values
    assert view.blk_ptr is matrix.blk_ptr
    assert view.cache is matrix.cache
    assert (view.shape, view.block_shape, view.grid) == ((5, 3), (4, 2), (2, 2))
    assert (view.transposed, view.order, view.stored_order) == (True, "col", "row")
    assert (view.stored_shape, view.stored_block_shape) == ((3, 5), (2, 4))
    assert view.stored is matrix
    assert view.T is matrix
    assert "transposed view" in repr(view)


def test_dropping_the_matrix_and_its_view_frees_the_arrays_without_the_garbage_collector():
    gc.disable()
    try:
        A = CSBMatrix.from_dense(DENSE, 2)
        view = A.T
        gone = weakref.ref(A)
        del A, view
        assert gone() is None
    finally:
        gc.enable()


@given(csb_matrices())
def test_pickles_and_copies_hold_the_arrays_and_no_cache(A):
    A.cache["plan"] = lambda: None  # such as a handle of a device, which no pickle can hold
    for B in (pickle.loads(pickle.dumps(A)), copy.deepcopy(A)):
        assert (B.shape, B.order, B.transposed, B.dtype) == (A.shape, A.order, A.transposed, A.dtype)
        assert np.array_equal(B.to_dense(), A.to_dense())
        assert B.cache == {}
        assert B.T.cache is B.cache


@given(csb_matrices())
def test_blocks_of_any_view_tile_the_matrix(A):
    dense, counts = A.to_dense(), A.block_nnz()
    rows, cols = A.block_shape
    assert counts.shape == A.grid
    assert counts.sum() == A.nnz
    seen = np.zeros(A.nnz, int)
    for i, j in np.ndindex(*A.grid):
        part, tile = A.block_slice(i, j), np.zeros(A.block_shape)
        seen[part] += 1
        assert part.stop - part.start == counts[i, j]
        tile[A.row_ind[part], A.col_ind[part]] = csbviz.formats.dtypes.as_numpy(A.values[part])
        expected = dense[i * rows : (i + 1) * rows, j * cols : (j + 1) * cols]
        assert (tile[: expected.shape[0], : expected.shape[1]] == expected).all()
    assert (seen == 1).all()


@given(csb_matrices())
def test_bytes_are_those_of_the_arrays(A):
    packed = A.packed_ind is not None
    index = A.packed_ind.nbytes if packed else A.row_ind.nbytes + A.col_ind.nbytes
    assert A.index_bytes == index
    assert A.values.nbytes == A.nnz * VALUE_BYTES[A.dtype]
    assert A.nbytes == A.values.nbytes + index + A.blk_ptr.nbytes
    assert A.T.nbytes == A.nbytes


@pytest.mark.parametrize(("side", "dtype"), [(256, np.uint8), (512, np.uint16)])
def test_indices_are_as_narrow_as_the_block_allows(side, dtype):
    A = CSBMatrix.from_scipy(scipy.sparse.eye(600, format="csr", dtype=np.float32), (side, 2))
    assert (A.row_ind.dtype, A.col_ind.dtype) == (dtype, np.uint8)


def test_packed_indices_decode_to_the_split_ones():
    split = CSBMatrix.from_dense(DENSE, (2, 4), "morton")
    packed = CSBMatrix.from_dense(DENSE, (2, 4), "morton", index="packed")
    assert packed.packed_ind.tolist() == (split.row_ind * 4 + split.col_ind).tolist()
    assert packed.index_bytes * 2 == split.index_bytes
    for a, b in ((packed, split), (packed.T, split.T)):
        assert a.row_ind.tolist() == b.row_ind.tolist()
        assert a.col_ind.tolist() == b.col_ind.tolist()
        assert a.row_ind.dtype == a.col_ind.dtype == np.uint8


def test_pointers_become_64_bits_past_two_to_the_31_entries():
    assert blk_ptr_dtype(2**31 - 1) == np.int32
    assert blk_ptr_dtype(2**31) == np.int64


def test_the_default_block_shape_is_the_chosen_one():
    S = scipy.sparse.random(300, 200, 0.1, format="csr", dtype=np.float32, random_state=0)
    assert CSBMatrix.from_scipy(S).block_shape == choose_block_shape(S.shape, S.nnz)
    assert CSBMatrix.from_dense(S.toarray()).block_shape == choose_block_shape(S.shape, S.nnz)


@given(csb_matrices(), st.sampled_from(sorted(VALUE_BYTES)))
def test_astype_keeps_everything_but_the_dtype(A, dtype):
    B = A.astype(dtype)
    assert B.dtype == dtype
    assert B.transposed == A.transposed
    assert B.cache is not A.cache
    assert B.blk_ptr is A.blk_ptr
    B.check_format()
    assert (B.to_dense() == A.to_dense()).all()


def test_astype_refuses_a_value_that_does_not_fit():
    A = CSBMatrix.from_dense(np.array([[1e300, np.inf]]), 2)
    with pytest.raises(MatrixError, match=r"1e\+300 does not fit float32"):
        A.astype("float32")
    with pytest.raises(MatrixError, match=r"1e\+300 does not fit bfloat16"):
        A.astype("bfloat16")
    with pytest.raises(OptionError, match="int32; a CSB matrix holds one of"):
        A.astype("int32")
    assert CSBMatrix.from_dense(np.array([[np.inf, np.nan]]), 2).astype("float16").nnz == 2


def test_matmul_goes_through_the_hook(matrix, monkeypatch):
    calls = []
    monkeypatch.setattr(
        csbviz.formats.csb, "_matmul_hook", lambda A, B: calls.append((A, B)) or A.to_dense() @ B
    )
    B, X = np.ones((5, 2), np.float32), np.arange(6, dtype=np.float32).reshape(2, 3)
    assert (matrix @ B == DENSE @ B).all()
    assert calls[0] == (matrix, B)
    assert (X @ matrix == X @ DENSE).all()  # NumPy hands over to __rmatmul__


@pytest.mark.parametrize(
    "block_shape", [3, (2, 6), (0, 2), (-4, 4), (2**17, 2), (2.0, 2), (2, 2, 2), "64", None, (2,)]
)
def test_block_sides_that_are_no_powers_of_two_are_refused(block_shape):
    if block_shape is None:
        with pytest.raises(OptionError, match="powers of two"):
            CSBMatrix(**{**arrays_of(CSBMatrix.from_dense(DENSE, 2)), "block_shape": None})
        return
    with pytest.raises(OptionError, match="powers of two"):
        CSBMatrix.from_dense(DENSE, block_shape)


def test_options_are_named_when_they_are_wrong(matrix):
    with pytest.raises(OptionError, match="'diagonal'; needed is one of 'row', 'col', 'morton'"):
        CSBMatrix.from_dense(DENSE, 2, order="diagonal")
    with pytest.raises(OptionError, match="'short'; needed is 'auto', 'split' or 'packed'"):
        CSBMatrix.from_dense(DENSE, 2, index="short")
    with pytest.raises(OptionError, match="512 cells; packed indices need at most 256"):
        CSBMatrix.from_dense(DENSE, (16, 32), index="packed")
    for i, j in ((2, 0), (0, 2), (-1, 0)):
        with pytest.raises(OptionError, match="2 x 2 blocks"):
            matrix.block_slice(i, j)


def test_a_block_table_beyond_memory_is_refused_before_it_is_allocated():
    S = scipy.sparse.csr_matrix((2**15, 2**15), dtype=np.float32)
    with pytest.raises(OptionError, match=f"at most {MAX_BLOCKS:,} are possible"):
        CSBMatrix.from_scipy(S, 1)


BROKEN = {
    "values are int32; needed is one of": {"values": np.arange(6, dtype=np.int32)},
    "values have 2 dimensions": {"values": np.zeros((6, 1), np.float32)},
    "row_ind is 1-D int64; needed is a 1-D uint8": {"row_ind": np.zeros(6, np.int64)},
    "row_ind is list": {"row_ind": [0] * 6},
    "col_ind has 5 elements; needed are 6": {"col_ind": np.zeros(5, np.uint8)},
    "blk_ptr has 4 elements; needed are 5": {"blk_ptr": np.zeros(4, np.int32)},
    "blk_ptr is 1-D int64": {"blk_ptr": np.zeros(5, np.int64)},
    "not negative": {"shape": (-3, 5)},
    "two numbers": {"shape": (3, 5, 1)},
    "blk_ptr runs from 1 to 6; needed is 0 to 6": {"blk_ptr": np.array([1, 3, 4, 5, 6], np.int32)},
    "blk_ptr runs from 0 to 5": {"blk_ptr": np.array([0, 3, 4, 5, 5], np.int32)},
    "Block 2 begins at entry 5 and ends at 4": {"blk_ptr": np.array([0, 3, 5, 4, 6], np.int32)},
    "row_ind holds 2; the block has indices 0 to 1": {"row_ind": np.array([0, 1, 2, 0, 0, 0], np.uint8)},
    "col_ind holds 9; the block has indices 0 to 3": {"col_ind": np.array([0, 0, 3, 0, 9, 0], np.uint8)},
    "lies in row 3; the matrix has rows 0 to 2": {"row_ind": np.array([0, 1, 1, 0, 1, 0], np.uint8)},
    "lies in column 5; the matrix has columns 0 to 4": {"col_ind": np.array([0, 0, 3, 1, 2, 0], np.uint8)},
    "stands in the same cell": {"col_ind": np.array([0, 3, 3, 0, 2, 0], np.uint8)},
    "is out of row order": {"col_ind": np.array([0, 3, 0, 0, 2, 0], np.uint8)},
    "is out of col order": {"order": "col", "col_ind": np.array([3, 0, 3, 0, 2, 0], np.uint8)},
}


@pytest.mark.parametrize("message", BROKEN)
def test_check_format_says_what_is_wrong(matrix, message):
    with pytest.raises(MatrixError, match=message):
        CSBMatrix(**{**arrays_of(matrix), **BROKEN[message]}).check_format()


def test_the_quick_check_leaves_the_full_scan_out(matrix):
    A = CSBMatrix(**{**arrays_of(matrix), "col_ind": np.array([0, 3, 0, 0, 2, 0], np.uint8)})
    A.check_format(full_check=False)
    with pytest.raises(MatrixError):
        A.check_format()
    with pytest.raises(MatrixError):
        A.T.check_format()


def test_packed_indices_of_large_blocks_are_refused(matrix):
    kwargs = {**arrays_of(matrix), "row_ind": None, "col_ind": None, "block_shape": (32, 32)}
    kwargs["blk_ptr"] = np.array([0, 6], np.int32)
    with pytest.raises(MatrixError, match="at most 256 cells; found 32 x 32"):
        CSBMatrix(**kwargs, packed_ind=np.zeros(6, np.uint8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CSBMatrix.from_dense(np.zeros(3)), "1 dimensions; a matrix needs 2"),
        (lambda: CSBMatrix.from_dense(np.zeros((2, 2), complex)), "values are complex128"),
        (lambda: CSBMatrix.from_dense(np.array([["a"]])), "a CSB matrix holds"),
        (lambda: CSBMatrix.from_dense(np.array([[None]])), "values are object"),
        (lambda: CSBMatrix.from_scipy(DENSE), "Found a ndarray; needed is a SciPy sparse matrix"),
        (lambda: CSBMatrix.from_scipy(scipy.sparse.coo_array(np.ones(3))), "1 dimension; a matrix needs 2"),
        (lambda: CSBMatrix.from_scipy(scipy.sparse.eye(2, dtype=complex, format="csr")), "complex128"),
    ],
)
def test_what_is_no_real_matrix_is_refused(make, message):
    with pytest.raises(MatrixError, match=message):
        make()
