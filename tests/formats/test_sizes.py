"""Bytes per format: each count equals the bytes of arrays that are really built."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from csbviz.errors import OptionError
from csbviz.formats import CSBMatrix, format_bytes, index_bytes_per_nonzero
from csbviz.formats.sizes import FORMATS
from tests.strategies import block_shapes, packable_block_shapes, sparse_matrices

WIDTHS = st.sampled_from(("float32", "float64"))


def parts(size):
    return size.values, size.indices, size.pointers


def padded(dense, block_shape):
    rows, cols = (-(-n // side) * side for n, side in zip(dense.shape, block_shape, strict=True))
    return np.pad(dense, ((0, rows - dense.shape[0]), (0, cols - dense.shape[1])))


@given(sparse_matrices(), block_shapes(5), WIDTHS)
def test_counts_are_the_bytes_of_real_arrays(S, block_shape, dtype):
    S = S.astype(dtype)
    sizes = format_bytes(S, block_shape, S.dtype.itemsize)
    assert tuple(sizes) == FORMATS
    assert sizes["dense"].total == S.toarray().nbytes
    C, coo, A = S.tocsc(), S.tocoo(), CSBMatrix.from_scipy(S, block_shape)
    assert parts(sizes["csr"]) == (S.data.nbytes, S.indices.nbytes, S.indptr.nbytes)
    assert parts(sizes["csr16"]) == (S.data.nbytes, S.indices.astype(np.uint16).nbytes, S.indptr.nbytes)
    assert parts(sizes["csc"]) == (C.data.nbytes, C.indices.nbytes, C.indptr.nbytes)
    assert parts(sizes["coo"]) == (S.data.nbytes, coo.row.nbytes + coo.col.nbytes, 0)
    mask = np.packbits(S.toarray() != 0, axis=1)
    assert parts(sizes["bitmap"]) == (S.data.nbytes, mask.nbytes, S.indptr.nbytes)
    assert parts(sizes["csb"]) == (A.values.nbytes, A.index_bytes, A.blk_ptr.nbytes)
    assert sizes["csb"].total == A.nbytes
    for size in sizes.values():
        assert size.note
        assert size.total is None or size.total == sum(parts(size))


@given(sparse_matrices(min_side=1), block_shapes(5))
def test_bsr_and_ell_are_the_bytes_of_real_arrays_and_tell_their_padding(S, block_shape):
    sizes = format_bytes(S, block_shape)
    B = scipy.sparse.csr_matrix(padded(S.toarray(), block_shape)).tobsr(block_shape)
    assert parts(sizes["bsr"]) == (B.data.nbytes, B.indices.nbytes, B.indptr.nbytes)
    assert sizes["bsr"].padding == pytest.approx((B.data.size - S.nnz) / B.data.size if B.data.size else 0)
    width = max(np.diff(S.indptr))
    ell = np.zeros((S.shape[0], width), np.float32)
    assert parts(sizes["ell"]) == (ell.nbytes, ell.astype(np.int32).nbytes, 0)
    assert sizes["ell"].padding == pytest.approx((ell.size - S.nnz) / ell.size if ell.size else 0)
    assert sizes["dense"].padding == pytest.approx(1 - S.nnz / (S.shape[0] * S.shape[1]))


@given(sparse_matrices(), packable_block_shapes())
def test_packed_csb_is_the_bytes_of_the_packed_matrix(S, block_shape):
    A = CSBMatrix.from_scipy(S, block_shape, index="packed")
    assert format_bytes(S, block_shape)["csb_packed"].total == A.nbytes


def test_formats_that_cannot_hold_the_matrix_say_why():
    sizes = format_bytes(scipy.sparse.csr_matrix((2, 70000), dtype=np.float32), (32, 32))
    assert sizes["csr16"].total is None
    assert "70000" in sizes["csr16"].note
    assert sizes["csb_packed"].total is None
    assert "at most 256 cells; found 32 x 32" in sizes["csb_packed"].note
    assert format_bytes(scipy.sparse.csr_matrix((2, 65536)), 2)["csr16"].total is not None


def test_other_sparse_formats_give_the_same_counts():
    S = scipy.sparse.random(40, 30, 0.2, format="csr", random_state=0)
    assert format_bytes(S.tocoo(), 8) == format_bytes(S, 8)
    with pytest.raises(OptionError, match="powers of two"):
        format_bytes(S, 7)


def test_index_bytes_of_a_typical_layer_are_those_of_the_literature():
    """At 90 % sparsity: 2.04 for 32 x 32 blocks, 4.07 in CSR, 2.07 in CSR with 16-bit indices."""
    S = scipy.sparse.random(512, 576, 0.1, format="csr", dtype=np.float32, random_state=0)
    assert index_bytes_per_nonzero(S, [32])[32] == pytest.approx(2.04, abs=0.005)
    sizes = format_bytes(S, 32)
    assert (sizes["csr"].indices + sizes["csr"].pointers) / S.nnz == pytest.approx(4.07, abs=0.005)
    assert (sizes["csr16"].indices + sizes["csr16"].pointers) / S.nnz == pytest.approx(2.07, abs=0.005)


@given(sparse_matrices(), st.booleans())
def test_index_bytes_over_block_sides_are_those_of_the_matrices(S, packed):
    betas = [1, 4, 16, 32, 512]
    curve = index_bytes_per_nonzero(S, betas, packed=packed)
    assert list(curve) == betas
    for beta in betas:
        A = CSBMatrix.from_scipy(S, beta, index="packed" if packed and beta <= 16 else "split")
        if S.nnz:
            assert curve[beta] == pytest.approx((A.index_bytes + A.blk_ptr.nbytes) / S.nnz)
        else:
            assert math.isnan(curve[beta])


def test_pointers_widen_with_the_count_without_building_the_matrix():
    from csbviz.formats.sizes import _csb, _int_bytes

    assert (_int_bytes(2**31 - 1), _int_bytes(2**31)) == (4, 8)
    narrow, wide = (_csb((128, 128), nnz, (64, 64), 4)[0].pointers for nnz in (2**31 - 1, 2**31))
    assert (narrow, wide) == (5 * 4, 5 * 8)
