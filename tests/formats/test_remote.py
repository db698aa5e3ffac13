"""Matrices on a GPU, seen from the format: who converts, and when arrays come to the host."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.errors import MatrixError
from csbviz.formats import CSBMatrix, remote


class FakeSparse:
    """Stands for a CuPy matrix: on the host after `get`."""

    __module__ = "cupyx.scipy.sparse"

    def __init__(self, S):
        self.S = S

    def get(self):
        return self.S


class FakeArrays:
    """Arrays on a GPU; notes what was brought to the host."""

    def __init__(self, A):
        self.A, self.nnz, self.dtype, self.fetched = A, A.nnz, A.dtype, []

    def fetch(self, name):
        self.fetched.append(name)
        return getattr(self.A, name)


@pytest.fixture
def host():
    S = sp.random_array((30, 50), density=0.2, rng=np.random.default_rng(0), dtype=np.float32).tocsr()
    return S, CSBMatrix.from_scipy(S, block_shape=(8, 16))


@pytest.fixture
def converted(monkeypatch, host):
    """A matrix whose arrays are on a GPU, and those arrays."""
    S, A = host
    arrays = FakeArrays(A)
    monkeypatch.setattr(
        remote, "_conversion_hook", lambda thing, block_shape: (arrays, A.shape, block_shape, {"key": 1})
    )
    return CSBMatrix.from_scipy(FakeSparse(S), block_shape=(8, 16)), arrays


def test_nothing_is_fetched_before_it_is_asked_for(converted):
    A, arrays = converted
    assert (A.shape, A.grid, A.block_shape, A.order) == ((30, 50), (4, 4), (8, 16), "row")
    assert (A.nnz, A.dtype, A.T.nnz, A.T.shape) == (arrays.nnz, "float32", arrays.nnz, (50, 30))
    assert A.cache == {"key": 1}
    assert A.T.cache is A.cache
    assert arrays.fetched == []


def test_each_array_is_fetched_once_and_alone(converted, host):
    A, arrays = converted
    view = A.T
    assert np.array_equal(view.row_ind, host[1].col_ind)
    assert view.row_ind is A.col_ind
    assert A.T.row_ind is A.col_ind
    assert arrays.fetched == ["col_ind"]
    assert np.array_equal(A.block_nnz(), host[1].block_nnz())
    assert arrays.fetched == ["col_ind", "blk_ptr"]


@pytest.mark.parametrize("transpose", [False, True])
def test_it_behaves_like_a_matrix_of_the_host(converted, host, transpose):
    A, (S, _) = converted[0], host
    if transpose:
        A, S = A.T, S.T.tocsr()
    A.check_format()
    assert (A.to_scipy() != S).nnz == 0
    assert np.array_equal(pickle.loads(pickle.dumps(A)).to_dense(), S.toarray())
    assert A.nbytes == host[1].nbytes
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = A.nothing


def test_other_orders_are_converted_on_the_host(converted, host):
    S, _ = host
    A = CSBMatrix.from_scipy(FakeSparse(S), block_shape=(8, 16), order="morton")
    assert A.order == "morton"
    assert converted[1].fetched == []
    packed = CSBMatrix.from_scipy(FakeSparse(S), block_shape=(8, 16), index="packed")
    assert packed.packed_ind is not None


def test_what_the_gpu_does_not_convert_is_converted_on_the_host(monkeypatch, host):
    S, A = host
    monkeypatch.setattr(remote, "_conversion_hook", lambda thing, block_shape: None)
    again = CSBMatrix.from_scipy(FakeSparse(S), block_shape=(8, 16))
    assert np.array_equal(again.values, A.values)
    dense = CSBMatrix.from_dense(FakeSparse(S.toarray()), block_shape=(8, 16))
    assert np.array_equal(dense.values, A.values)


def test_what_is_no_matrix_is_refused(monkeypatch):
    class Event:
        __module__ = "cupy.cuda"

    monkeypatch.setattr(remote, "_conversion_hook", None)
    with pytest.raises(MatrixError, match="Found a Event of CuPy"):
        CSBMatrix.from_scipy(Event())


def test_importing_the_package_registers_the_conversion():
    import csbviz  # noqa: F401

    assert remote._conversion_hook is not None
