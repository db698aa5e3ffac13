"""The tensor-core kernel for few columns on a GPU: right for every shape and value, the same in every run."""

from __future__ import annotations

from itertools import product as all_of

import numpy as np
import pytest

from csbviz.bench.verify import ERROR_BOUNDS, relative_error
from csbviz.errors import OptionError
from csbviz.formats import CSBMatrix
from csbviz.ops.cuda import few
from csbviz.ops.cuda.few_plan import TUNABLES, Shape
from tests.kernels.cuda_cases import CASES, product
from tests.kernels.cuda_launches import check_chain, check_streams_and_graphs
from tests.kernels.test_cuda_wgmma import KINDS, OPS, assert_like_float32, random_matrix, special

SQUARE = [case for case in CASES if case.block_shape == (64, 64)]
SHAPES = tuple(map(Shape._make, all_of(*TUNABLES.values())))


@pytest.fixture(autouse=True)
def _needs_hopper():
    reason = few.unavailable()
    if reason:
        pytest.skip(reason)


pytestmark = pytest.mark.gpu


def inner_of(A: CSBMatrix, op: str) -> int:
    return A.shape[0] if op == "A.T@B" else A.shape[1]


def fitting(A: CSBMatrix, op: str) -> list[Shape]:
    return [shape for shape in SHAPES if shape.fault(inner_of(A, op)) is None]


def run(A: CSBMatrix, op: str, B: np.ndarray, **params) -> np.ndarray:
    """The kernel's result; what it leaves unwritten is NaN."""
    import cupy

    rows = A.shape[1] if op == "A.T@B" else A.shape[0]
    out = cupy.full((rows, B.shape[1]), np.nan, np.float32)
    few.prepare(A, op, B.shape[1], **params).run(cupy.asarray(B), out)
    return out.get()


def check(A: CSBMatrix, op: str, n: int, **params) -> None:
    B = np.random.default_rng(n).standard_normal((inner_of(A, op), n)).astype(np.float32)
    error = relative_error(run(A, op, B, **params), product(A, op, B))
    assert error <= ERROR_BOUNDS[params.get("precision", "fp32")], (error, A, op, n, params)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("case", SQUARE, ids=lambda case: case.name)
def test_the_cases_of_all_cuda_kernels(case, op):
    A = case.matrix()
    assert few.accepts(A, op, 33) is None
    for i, shape in enumerate(fitting(A, op)):
        for n in ((1, 132), (8, 33), (47, 97))[i % 3]:
            check(A, op, n, **shape._asdict())


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("order", ["row", "col", "morton"])
@pytest.mark.parametrize("size", [(64, 64), (130, 67), (700, 513), (96, 1200), (1, 1), (64, 1), (1, 300)])
def test_ragged_shapes_and_orders(size, order, op):
    for i, density in enumerate((0.02, 0.3, 1.0)):
        A = random_matrix(*size, density, order)
        for n in (1, 63, 65):
            check(A, op, n)
        for shape in fitting(A, op)[i::4]:
            check(A, op, 100, **shape._asdict())


@pytest.mark.parametrize("op", OPS)
def test_tf32_class(op):
    A = random_matrix(520, 600, 0.2)
    for i, shape in enumerate(fitting(A, op)):
        check(A, op, (7, 128, 300)[i % 3], precision="tf32", **shape._asdict())


def test_each_class_is_as_exact_as_its_name():
    A = random_matrix(512, 640, 0.2)
    B = np.random.default_rng(1).standard_normal((640, 128)).astype(np.float32)
    reference = product(A, "A@B", B)
    assert relative_error(run(A, "A@B", B), reference) < 4e-7
    assert 1e-5 < relative_error(run(A, "A@B", B, precision="tf32"), reference) < 1e-3


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("kind", KINDS)
def test_special_values_behave_as_in_a_float32_product(kind, op):
    """Element by element: NaN and Inf where float32 has them, else close in terms of |A|·|B|."""
    A = random_matrix(200, 330, 0.1)
    B = special(kind, (inner_of(A, op), 100))
    S = (A.T if op == "A.T@B" else A).to_scipy()
    with np.errstate(all="ignore"):
        exact = S.astype(np.float64) @ B.astype(np.float64)
        single = exact.astype(np.float32)
    size = abs(S).astype(np.float64) @ np.where(np.isfinite(B), np.abs(B.astype(np.float64)), 0)
    for shape in fitting(A, op)[KINDS.index(kind) % 2 :: 2]:
        result = run(A, op, B, **shape._asdict())
        assert_like_float32(result, exact, single, size, size < 3e38)


@pytest.mark.parametrize("op", OPS)
def test_values_that_change_after_the_plan_was_made(op):
    """A tensor on the GPU may be trained: growth, Inf and tiny values are met by the slow path."""
    torch = pytest.importorskip("torch")
    import cupy

    if not torch.cuda.is_available():
        pytest.skip("PyTorch was installed without CUDA")
    base = random_matrix(300, 250, 0.15)
    values = torch.from_numpy(base.values.copy()).cuda()
    A = CSBMatrix(values, base.row_ind, base.col_ind, base.blk_ptr, base.shape, base.block_shape)
    B = np.random.default_rng(0).standard_normal((inner_of(A, op), 90)).astype(np.float32)
    on_device = cupy.asarray(B)
    rows = A.shape[1] if op == "A.T@B" else A.shape[0]
    plans = [few.prepare(A, op, 90, **shape._asdict()) for shape in fitting(A, op)[OPS.index(op) :: 2]]
    for change in ("none", "grow", "infinity", "spread"):
        now = base.values.copy()
        if change == "grow":
            now *= 1000
        elif change == "infinity":
            now[now.size // 2] = np.inf
        elif change == "spread":
            now[::3] *= np.float32(1e-20)
        values.copy_(torch.from_numpy(now))
        torch.cuda.synchronize()
        S = CSBMatrix(now, base.row_ind, base.col_ind, base.blk_ptr, base.shape, base.block_shape).to_scipy()
        S = (S.T if op == "A.T@B" else S).astype(np.float64)
        exact = S @ B.astype(np.float64)
        finite = abs(S)
        finite.data[~np.isfinite(finite.data)] = 0
        size = finite @ np.abs(B.astype(np.float64))
        for plan in plans:
            out = cupy.full((rows, 90), cupy.nan, cupy.float32)
            plan.run(on_device, out)
            assert_like_float32(out.get(), exact, exact.astype(np.float32), size, size < 3e38)


@pytest.mark.parametrize("magnitude", [1e-30, 1e-10, 1e10, 1e30])
def test_the_scale_of_the_matrix(magnitude):
    A = random_matrix(200, 260, 0.2)
    A.values[...] *= np.float32(magnitude)
    check(A, "A@B", 70)
    check(A, "A.T@B", 70, precision="tf32")


@pytest.mark.parametrize("precision", few.KINDS)
def test_two_runs_give_the_same_bits(precision):
    A = random_matrix(900, 1100, 0.15)
    B = np.random.default_rng(0).standard_normal((1100, 260)).astype(np.float32)
    for shape in fitting(A, "A@B")[::2]:
        params = shape._asdict() | {"precision": precision}
        first = run(A, "A@B", B, **params)
        for _ in range(3):
            assert np.array_equal(run(A, "A@B", B, **params).view(np.int32), first.view(np.int32)), shape


@pytest.mark.parametrize("n", [64, 130])
def test_unaligned_operands(n):
    import cupy

    A = random_matrix(300, 200, 0.2)
    B = np.random.default_rng(0).standard_normal((200, n)).astype(np.float32)
    shifted = cupy.empty(B.size + 1, cupy.float32)[1:].reshape(B.shape)
    shifted[...] = cupy.asarray(B)
    out = cupy.full(300 * n + 3, cupy.nan, cupy.float32)[3:].reshape(300, n)
    for shape in fitting(A, "A@B")[n // 130 :: 2]:
        out.fill(cupy.nan)
        few.prepare(A, "A@B", n, **shape._asdict()).run(shifted, out)
        assert relative_error(out.get(), product(A, "A@B", B)) <= ERROR_BOUNDS["fp32"]


def test_streams_and_graphs():
    A, n = random_matrix(1500, 700, 0.2), 320
    check_streams_and_graphs(A, few.prepare(A, "A@B", n), n)


def test_a_chain_of_products_waits_for_each_other():
    A, n = random_matrix(640, 640, 0.05), 128
    A.values[...] *= np.float32(0.2)
    check_chain(A, [few.prepare(A, "A@B", n, **shape._asdict()) for shape in fitting(A, "A@B")[::3]], n)


def test_a_value_that_no_shape_has():
    A = random_matrix(128, 128, 0.2)
    for wrong in ({"tile_m": 32}, {"split": 8}, {"depth": 1, "split": 1}):
        with pytest.raises(OptionError):
            few.prepare(A, "A@B", 64, **wrong)
