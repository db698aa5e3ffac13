import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.bench.verify import ERROR_BOUNDS, make_reference, relative_error
from csbviz.errors import OptionError


@pytest.fixture
def csr():
    return sp.random(30, 20, density=0.2, format="csr", dtype=np.float32, random_state=0)


@pytest.mark.parametrize("op", ["A@B", "A.T@B"])
def test_reference_is_the_float64_product(csr, op):
    reference = make_reference(csr, op, 7, "float32")
    dense = csr.toarray().astype(np.float64)
    expected = (dense if op == "A@B" else dense.T) @ reference.B.astype(np.float64)
    assert reference.C.dtype == np.float64
    np.testing.assert_allclose(reference.C, expected, rtol=1e-12)


def test_reference_is_the_same_for_the_same_seed(csr):
    first, second = (make_reference(csr, "A@B", 3, "float32", seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.B, second.B)
    assert not np.array_equal(first.B, make_reference(csr, "A@B", 3, "float32", seed=6).B)


def test_no_columns_is_refused(csr):
    with pytest.raises(OptionError, match="at least 1; 0"):
        make_reference(csr, "A@B", 0, "float32")


def test_errors_that_must_be_seen():
    reference = np.arange(1.0, 7.0).reshape(2, 3)
    assert relative_error(reference.copy(), reference) == 0.0
    off = reference.copy()
    off[0, 0] += 1e-3
    assert relative_error(off, reference) > ERROR_BOUNDS["fp32"]
    unwritten = reference.copy()
    unwritten[1, 2] = np.nan
    assert relative_error(unwritten, reference) == float("inf")
    assert relative_error(reference[:1], reference) == float("inf")
    assert relative_error(np.zeros((2, 3)), np.zeros((2, 3))) == 0.0
    assert relative_error(np.ones((2, 3)), np.zeros((2, 3))) > 1.0
