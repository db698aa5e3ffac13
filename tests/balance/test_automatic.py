"""The automatic strategy is the one that the CPU kernel takes."""

import numpy as np
import pytest
import scipy.sparse

from csbviz.balance import make_plan
from csbviz.balance.automatic import UNEVEN, automatic_strategy
from csbviz.formats import CSBMatrix
from csbviz.ops import csb_cpu
from csbviz.ops.registry import get_kernel


def matrix(kind: str) -> CSBMatrix:
    """A matrix with even, or with very uneven, block rows."""
    rng = np.random.default_rng(4)
    dense = scipy.sparse.random(512, 512, 0.1, "csr", np.float32, rng).toarray()
    if kind == "uneven":
        dense[:64] = rng.normal(size=(64, 512))
    return CSBMatrix.from_dense(dense, (64, 64))


@pytest.mark.parametrize(("kind", "expected"), [("even", "swizzle"), ("uneven", "equal_nnz")])
def test_units_are_cut_only_where_they_are_uneven(kind, expected):
    assert automatic_strategy(matrix(kind), workers=4) == expected


@pytest.mark.parametrize("op", ["A@B", "A.T@B"])
@pytest.mark.parametrize("kind", ["even", "uneven"])
def test_the_cpu_kernel_takes_the_same(kind, op):
    assert csb_cpu.UNEVEN == UNEVEN
    A = matrix(kind)
    prepared = get_kernel("csb_cpu").prepare(A, op, 4096, threads=2)
    assert prepared.plan.strategy == automatic_strategy(A, op == "A.T@B", workers=2)


def test_multiprocessors_without_work_for_all_get_pieces():
    A = matrix("even")
    assert automatic_strategy(A, workers=132, assignment="dynamic") == "equal_nnz"
    cut = make_plan(A, "equal_nnz", workers=132, assignment="dynamic")
    assert cut.items >= 132
