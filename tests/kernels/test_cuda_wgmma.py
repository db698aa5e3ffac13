"""The Hopper tensor-core kernels on a GPU: right for every shape and value, the same in every run."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.bench.verify import ERROR_BOUNDS, relative_error
from csbviz.errors import OptionError
from csbviz.formats import CSBMatrix
from csbviz.formats.dtypes import as_numpy, bits_of, cast_values, values_from_bits
from csbviz.ops.cuda import wgmma
from csbviz.ops.cuda.wgmma_plan import Shape, candidates
from tests.kernels.cuda_cases import CASES, product
from tests.kernels.cuda_launches import check_chain, check_streams_and_graphs

OPS = ("A@B", "A.T@B")
SQUARE = [case for case in CASES if case.block_shape == (64, 64)]
SHAPES = (
    Shape(64, 64),
    Shape(64, 64, split=2),
    Shape(64, 64, split=4),
    Shape(64, 64, prepass=0),
    Shape(64, 64, split=4, prepass=0),
    Shape(64, 128),
    Shape(64, 128, split=8),
    Shape(128, 64, prepass=0),
    Shape(128, 64, split=8, prepass=0),
    Shape(128, 128),
    Shape(128, 128, split=4),
    Shape(128, 128, split=2),
)


@pytest.fixture(autouse=True)
def _needs_hopper():
    reason = wgmma.unavailable()
    if reason:
        pytest.skip(reason)


pytestmark = pytest.mark.gpu


def random_matrix(rows: int, columns: int, density: float, order: str = "row", seed: int = 0) -> CSBMatrix:
    rng = np.random.default_rng(seed + rows)
    keep = rng.random((rows, columns)) < density
    dense = np.where(keep, rng.standard_normal((rows, columns)), 0).astype(np.float32)
    return CSBMatrix.from_scipy(sp.csr_array(dense), block_shape=64, order=order)


def run(A: CSBMatrix, op: str, B: np.ndarray, **params) -> np.ndarray:
    """The kernel's result; what it leaves unwritten is NaN."""
    import cupy

    rows = A.shape[1] if op == "A.T@B" else A.shape[0]
    out = cupy.full((rows, B.shape[1]), np.nan if B.dtype.kind == "f" else 0x7FFF, B.dtype)
    wgmma.prepare(A, op, B.shape[1], **params).run(cupy.asarray(B), out)
    return out.get()


def check(A: CSBMatrix, op: str, n: int, **params) -> None:
    inner = A.shape[0] if op == "A.T@B" else A.shape[1]
    B = np.random.default_rng(n).standard_normal((inner, n)).astype(np.float32)
    error = relative_error(run(A, op, B, **params), product(A, op, B))
    assert error <= ERROR_BOUNDS[params.get("precision") or "fp32"], (error, A, op, n, params)


def fits(shape: Shape, A: CSBMatrix, op: str) -> bool:
    inner = A.shape[0] if op == "A.T@B" else A.shape[1]
    return shape.split <= max(1, -(-inner // 64))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("case", SQUARE, ids=lambda case: case.name)
def test_the_cases_of_all_cuda_kernels(case, op):
    A = case.matrix()
    assert wgmma.accepts(A, op, 33) is None
    for shape in SHAPES:
        for n in (1, 8, 33, 132):
            if fits(shape, A, op):
                check(A, op, n, **shape._asdict())


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("order", ["row", "col", "morton"])
@pytest.mark.parametrize("size", [(64, 64), (130, 67), (700, 513), (96, 1200), (1, 1), (64, 1), (1, 300)])
def test_ragged_shapes_and_orders(size, order, op):
    for density in (0.02, 0.3, 1.0):
        A = random_matrix(*size, density, order)
        for n in (1, 63, 64, 65, 200):
            check(A, op, n)
            for shape in candidates(*(A.shape[::-1] if op == "A.T@B" else A.shape), n)[::3]:
                if fits(shape, A, op):
                    check(A, op, n, **shape._asdict())


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tf32_class(shape, op):
    A = random_matrix(520, 600, 0.2)
    for n in (7, 128, 300):
        check(A, op, n, precision="tf32", **shape._asdict())


def test_each_class_is_as_exact_as_its_name():
    A = random_matrix(512, 640, 0.2)
    B = np.random.default_rng(1).standard_normal((640, 128)).astype(np.float32)
    reference = product(A, "A@B", B)
    assert relative_error(run(A, "A@B", B), reference) < 4e-7
    assert 1e-5 < relative_error(run(A, "A@B", B, precision="tf32"), reference) < 1e-3


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_classes(dtype, op):
    if dtype == "bfloat16":
        pytest.importorskip("torch")
    A = random_matrix(300, 450, 0.2).astype(dtype)
    inner = A.shape[0] if op == "A.T@B" else A.shape[1]
    exact = CSBMatrix.astype(A, "float32")
    for n in (1, 64, 130):
        B = cast_values(
            np.random.default_rng(n).standard_normal((inner, n)).astype(np.float32).ravel(), dtype
        )
        operand = (bits_of(B) if dtype == "bfloat16" else B).reshape(inner, n)
        reference = product(exact, op, np.asarray(as_numpy(B), np.float64).reshape(inner, n))
        for shape in SHAPES:
            if not fits(shape, A, op):
                continue
            result = run(A, op, operand, **shape._asdict())
            if dtype == "bfloat16":
                result = as_numpy(values_from_bits(result.ravel(), dtype)).reshape(result.shape)
            bound = ERROR_BOUNDS["bf16" if dtype == "bfloat16" else "fp16"]
            assert relative_error(result.astype(np.float32), reference) <= bound, (n, shape)


def special(kind: str, shape: tuple[int, int]) -> np.ndarray:
    """Operands that a scaled pair of float16 cannot hold, or only with its scale."""
    rng = np.random.default_rng(3)
    B = rng.standard_normal(shape).astype(np.float32)
    if kind == "one infinity":
        B[shape[0] // 2, shape[1] // 2] = np.inf
    elif kind == "infinities and NaN":
        B[::7, ::5] = np.inf
        B[3::31, 1::9] = -np.inf
        B[5::50, 2::11] = np.nan
    elif kind == "huge":
        B *= np.float32(1e30)
    elif kind == "tiny":
        B *= np.float32(1e-30)
    elif kind == "subnormal":
        B *= np.float32(1e-41)
    elif kind == "all magnitudes":
        B *= np.exp2(rng.uniform(-80, 80, shape)).astype(np.float32)
    elif kind == "columns of different magnitude":
        B *= np.exp2(np.linspace(-60, 60, shape[1])).astype(np.float32)
    elif kind == "overflow":
        B *= np.float32(2e38)
    return B


KINDS = (
    "one infinity",
    "infinities and NaN",
    "huge",
    "tiny",
    "subnormal",
    "all magnitudes",
    "columns of different magnitude",
    "overflow",
)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("kind", KINDS)
def test_special_values_behave_as_in_a_float32_product(kind, op):
    """Element by element: NaN and Inf where float32 has them, else close in terms of |A|·|B|."""
    A = random_matrix(200, 330, 0.1)
    inner = A.shape[0] if op == "A.T@B" else A.shape[1]
    B = special(kind, (inner, 100))
    S = (A.T if op == "A.T@B" else A).to_scipy()
    with np.errstate(all="ignore"):
        exact = S.astype(np.float64) @ B.astype(np.float64)
        single = exact.astype(np.float32)
    finite = np.where(np.isfinite(B), np.abs(B.astype(np.float64)), 0)
    size = abs(S).astype(np.float64) @ finite
    sure = size < 3e38  # sums of larger terms may overflow on the way
    for shape in SHAPES:
        if fits(shape, A, op):
            result = run(A, op, B, **shape._asdict())
            assert_like_float32(result, exact, single, size, sure)


def assert_like_float32(result, exact, single, size, sure) -> None:
    """NaN and Inf where float32 has them; elsewhere close in terms of |A|·|B| (`size`)."""
    special = ~np.isfinite(exact) & sure
    assert np.array_equal(result[special], single[special], equal_nan=True)
    ordinary = np.isfinite(exact) & sure
    wrong = np.abs(result[ordinary].astype(np.float64) - exact[ordinary]) > 2e-6 * size[ordinary] + 1e-42
    assert not wrong.any(), (np.argwhere(wrong)[:5], wrong.sum())


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
    inner = A.shape[0] if op == "A.T@B" else A.shape[1]
    B = np.random.default_rng(0).standard_normal((inner, 90)).astype(np.float32)
    on_device = cupy.asarray(B)
    rows = A.shape[1] if op == "A.T@B" else A.shape[0]
    shapes = [shape for shape in SHAPES if fits(shape, A, op)]
    plans = [wgmma.prepare(A, op, 90, **shape._asdict()) for shape in shapes]
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


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_runs_give_the_same_bits(shape):
    A = random_matrix(900, 1100, 0.15)
    B = np.random.default_rng(0).standard_normal((1100, 260)).astype(np.float32)
    first = run(A, "A@B", B, **shape._asdict())
    for _ in range(3):
        assert np.array_equal(run(A, "A@B", B, **shape._asdict()).view(np.int32), first.view(np.int32))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    "shape", [Shape(64, 64), Shape(64, 64, split=2), Shape(64, 128), Shape(128, 128)], ids=str
)
def test_many_runs_give_the_same_bits(shape, op):
    """A place in a ring that is handed on too early goes wrong in some runs only."""
    import cupy

    A, n = random_matrix(2048, 512, 0.2), 516
    rows, inner = A.shape[::-1] if op == "A.T@B" else A.shape
    B = np.random.default_rng(0).standard_normal((inner, n)).astype(np.float32)
    b, out = cupy.asarray(B), cupy.empty((rows, n), cupy.float32)
    plan = wgmma.prepare(A, op, n, **shape._asdict())
    plan.run(b, out)
    first, wrong = out.copy(), cupy.zeros((), cupy.int64)
    assert relative_error(first.get(), product(A, op, B)) <= ERROR_BOUNDS["fp32"]
    for _ in range(600):
        plan.run(b, out)
        wrong += (out != first).any()
    assert int(wrong) == 0


@pytest.mark.parametrize("n", [64, 130])
def test_unaligned_operands(n):
    import cupy

    A = random_matrix(300, 200, 0.2)
    B = np.random.default_rng(0).standard_normal((200, n)).astype(np.float32)
    shifted = cupy.empty(B.size + 1, cupy.float32)[1:].reshape(B.shape)
    shifted[...] = cupy.asarray(B)
    out = cupy.full(300 * n + 3, cupy.nan, cupy.float32)[3:].reshape(300, n)
    for shape in SHAPES:
        if fits(shape, A, "A@B"):
            out.fill(cupy.nan)
            wgmma.prepare(A, "A@B", n, **shape._asdict()).run(shifted, out)
            assert relative_error(out.get(), product(A, "A@B", B)) <= ERROR_BOUNDS["fp32"]


@pytest.mark.parametrize("prepass", [0, 1])
def test_streams_and_graphs(prepass):
    A, n = random_matrix(1500, 700, 0.2), 320
    check_streams_and_graphs(A, wgmma.prepare(A, "A@B", n, prepass=prepass), n)


def test_a_chain_of_products_waits_for_each_other():
    A, n = random_matrix(640, 640, 0.05), 128
    A.values[...] *= np.float32(0.2)
    shapes = (Shape(64, 64, prepass=0), Shape(64, 64, split=4, prepass=0), Shape(128, 128))
    check_chain(A, [wgmma.prepare(A, "A@B", n, **shape._asdict()) for shape in shapes], n)


def test_a_value_that_no_shape_has():
    A = random_matrix(128, 128, 0.2)
    for wrong in ({"tile_m": 32}, {"cluster": 2}, {"prepass": 0, "tile_n": 128}, {"split": 8}):
        with pytest.raises(OptionError):
            wgmma.prepare(A, "A@B", 64, **wrong)


@pytest.mark.skipif("DLMC_DIR" not in os.environ, reason="DLMC_DIR names no folder of DLMC matrices")
def test_dlmc_matrices():
    files = sorted(Path(os.environ["DLMC_DIR"]).rglob("*.smtx.gz"))
    assert files
    for path in files[:: max(1, len(files) // 12)]:
        with gzip.open(path, "rt") as file:
            rows, columns, nnz = map(int, file.readline().replace(",", " ").split())
            pointers = np.array(file.readline().split(), np.int32)
            indices = np.array(file.read().split(), np.int32)
        values = np.random.default_rng(0).standard_normal(nnz).astype(np.float32)
        A = CSBMatrix.from_scipy(sp.csr_array((values, indices, pointers), (rows, columns)), block_shape=64)
        for op in OPS:
            for n in (128, 196):
                check(A, op, n)
