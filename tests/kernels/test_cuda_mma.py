"""The tensor-core kernels by mma.sync on a GPU: right in every class and shape, and at the extremes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.bench.verify import ERROR_BOUNDS, relative_error
from csbviz.formats import CSBMatrix
from csbviz.ops.cuda.mma import accepts, prepare
from csbviz.ops.cuda.mma_launch import TILES, TUNABLES
from tests.kernels.cuda_cases import CASES, product

pytestmark = pytest.mark.gpu

OPS = ("A@B", "A.T@B")
MMA_CASES = [case for case in CASES if accepts(case.matrix(), "A@B", 1) is None]
NAMES = [case.name for case in MMA_CASES]
OLDER = ("compute_75", "compute_80")
"""Architectures whose code this GPU translates and runs: other instructions, other paths of the source."""


def matrix(shape=(200, 300), density=0.2, block_shape=(64, 64), seed=0, dtype="float32") -> CSBMatrix:
    rng = np.random.default_rng(seed)
    D = np.where(rng.random(shape) < density, rng.standard_normal(shape), 0).astype(np.float32)
    return CSBMatrix.from_dense(D, block_shape=block_shape).astype(dtype)


def multiply(A: CSBMatrix, op: str, B: np.ndarray, shift: int = 0, **params) -> np.ndarray:
    """The kernel's result; operand and output begin `shift` elements behind an aligned address."""
    import cupy

    rows = A.shape[1 if op == "A.T@B" else 0]
    flat = cupy.empty(B.size + shift, B.dtype)[shift:]
    operand = flat.reshape(B.shape)
    operand[...] = cupy.asarray(B)
    out = cupy.full(rows * B.shape[1] + shift, cupy.nan, B.dtype)[shift:].reshape(rows, B.shape[1])
    prepared = prepare(A, op, B.shape[1], **params)
    assert prepared.run(operand, out) is out
    return out.get()


def normals(A: CSBMatrix, op: str, n: int, dtype=np.float32) -> np.ndarray:
    rows = A.shape[0 if op == "A.T@B" else 1]
    return np.random.default_rng(n).standard_normal((rows, n)).astype(dtype)


def check(A: CSBMatrix, op: str, n: int, precision: str = "fp32", shift: int = 0, **params) -> None:
    B = normals(A, op, n, {"fp16": np.float16}.get(precision, np.float32))
    found = multiply(A, op, B, shift, precision=precision, **params)
    error = relative_error(found, product(A, op, B))
    assert error <= ERROR_BOUNDS[precision], (error, op, n, precision, params)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("case", MMA_CASES, ids=NAMES)
def test_any_shape(case, op, precision):
    A = case.matrix().astype("float16" if precision == "fp16" else "float32")
    for n in (1, 8, 33, 132):
        check(A, op, n, precision)


@pytest.mark.parametrize("tile", TUNABLES["tile"])
@pytest.mark.parametrize("stages", TUNABLES["stages"])
@pytest.mark.parametrize("splits", [1, 2, 5])
def test_every_launch_shape(tile, stages, splits, monkeypatch):
    monkeypatch.setitem(TUNABLES, "splits", (1, 2, 5))
    A = matrix((330, 500), block_shape=(64, 64))
    for n in (70, 256):
        for op in OPS:
            check(A, op, n, tile=tile, stages=stages, splits=splits)
        check(A, "A@B", n, "tf32", tile=tile, stages=stages, splits=splits)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
@pytest.mark.parametrize("target", OLDER)
def test_the_code_for_older_architectures(target, precision):
    """Turing multiplies by other instructions and has no asynchronous copies."""
    A = matrix((200, 330), block_shape=(64, 64), dtype="float16" if precision == "fp16" else "float32")
    for op in OPS:
        check(A, op, 136, precision, tile="64x64", stages=1, splits=2, target=target)
    check(A, "A@B", 136, precision, tile="64x128", stages=2, splits=1, target=target)


@pytest.mark.parametrize("block_shape", [(16, 16), (64, 16), (16, 32), (32, 64)])
def test_every_block_shape(block_shape):
    A = matrix((150, 210), block_shape=block_shape)
    for op in OPS:
        for tile in TUNABLES["tile"]:
            check(A, op, 100, tile=tile)


@pytest.mark.parametrize("shift", [1, 2, 3])
@pytest.mark.parametrize("n", [64, 65, 66])
def test_operands_of_any_alignment(n, shift):
    for op in OPS:
        check(matrix(), op, n, shift=shift)
        check(matrix(dtype="float16"), op, n, "fp16", shift=shift)


def test_bfloat16():
    import cupy
    import torch

    A = matrix(dtype="bfloat16")
    for op in OPS:
        B = torch.from_numpy(normals(A, op, 72)).bfloat16()
        rows = A.shape[1 if op == "A.T@B" else 0]
        out = cupy.zeros((rows, 72), cupy.uint16)
        prepare(A, op, 72).run(cupy.asarray(B.view(torch.int16).numpy()), out)
        found = (out.get().astype(np.uint32) << 16).view(np.float32)
        error = relative_error(found, product(A, op, B.float().numpy()))
        assert error <= ERROR_BOUNDS["bf16"]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("tile", TUNABLES["tile"])
def test_two_runs_give_the_same_bits(tile, op):
    A = matrix((300, 1100), density=0.5)
    B = normals(A, op, 130)
    first = multiply(A, op, B, tile=tile, splits=4)
    for _ in range(3):
        assert np.array_equal(multiply(A, op, B, tile=tile, splits=4).view(np.int32), first.view(np.int32))


def test_fp32_and_tf32_are_told_apart():
    A, errors = matrix((256, 512)), {}
    for precision in ("fp32", "tf32"):
        B = normals(A, "A@B", 128)
        errors[precision] = relative_error(multiply(A, "A@B", B, precision=precision), product(A, "A@B", B))
    assert errors["fp32"] < 1e-6 < 1e-5 < errors["tf32"]


# ---- special values, element by element against a float32 product ------------------------------------------


def compare_with_float32(A: CSBMatrix, op: str, B: np.ndarray, found: np.ndarray, tolerance: float) -> None:
    """NaN and Inf as in float32, everything else within the tolerance of the sum of magnitudes."""
    S = A.to_scipy() if op == "A@B" else A.to_scipy().T
    coo = sp.coo_array(S)
    expected = np.zeros((S.shape[0], B.shape[1]), np.float32)
    magnitude = np.zeros(expected.shape)
    with np.errstate(all="ignore"):  # a float32 product of the stored entries, one after the other
        for row, k, value in zip(*coo.coords, coo.data.astype(np.float32), strict=True):
            expected[row] += value * B[k].astype(np.float32)
            magnitude[row] += np.abs(np.float64(value) * B[k].astype(np.float64))
        exact = S.astype(np.float64) @ np.where(np.isfinite(B), B, 0).astype(np.float64)
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    infinite = np.isinf(expected)
    assert np.array_equal(found[infinite], expected[infinite])
    normal = np.isfinite(expected)
    assert np.isfinite(found[normal]).all()
    off = np.abs(found[normal].astype(np.float64) - exact[normal])
    assert np.all(off <= tolerance * magnitude[normal] + 2e-45 * np.sqrt(S.shape[1])), off.max()


SPECIAL = {
    "Inf": [np.inf],
    "Inf of both signs": [np.inf, -np.inf],
    "NaN": [np.nan],
    "subnormal": [1e-40, -1e-42, 1e-45],
    "1e30": [1e30, -1e30],
    "1e-30": [1e-30],
    "from 1e-30 to 1e30": [1e30, 1e-30, 1.0],
    "largest": [3.4e38],
    "small beside the largest": [1e-6, -1e-8],
}


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", sorted(SPECIAL))
def test_special_values_of_b(name, op, precision):
    A = matrix((150, 200), density=0.1)
    B = normals(A, op, 70)
    rng = np.random.default_rng(1)
    places = rng.integers(0, B.shape[0], 12), rng.integers(0, B.shape[1], 12)
    B[places] = np.resize(np.float32(SPECIAL[name]), 12)
    tolerance = 2e-6 if precision == "fp32" else 1e-3
    for tile, splits in (("64x64", 1), ("128x128", 2)):
        found = multiply(A, op, B, precision=precision, tile=tile, splits=splits)
        compare_with_float32(A, op, B, found, tolerance)


@pytest.mark.parametrize("scale_b", [1e-37, 1e-30, 1.0, 1e30])
@pytest.mark.parametrize("scale_a", [1e-30, 1.0, 1e30, 1e37])
def test_operands_that_are_small_or_large_as_a_whole(scale_a, scale_b):
    """Sums that leave the range of float32 become Inf, NaN where products of both signs do, or subnormal."""
    D = matrix((150, 200), density=0.1).to_dense() * np.float32(scale_a)
    A = CSBMatrix.from_dense(D, block_shape=64)
    for op in OPS:
        B = normals(A, op, 70) * np.float32(scale_b)
        S = (A.to_scipy() if op == "A@B" else A.to_scipy().T).astype(np.float64)
        exact, magnitude = S @ B.astype(np.float64), abs(S) @ np.abs(B.astype(np.float64))
        found = multiply(A, op, B)
        safe = magnitude < 1e38
        assert np.isfinite(found[safe]).all()
        off = np.abs(found[safe].astype(np.float64) - exact[safe])
        assert np.all(off <= 2e-6 * magnitude[safe] + 2e-43)
        assert not np.isfinite(found[np.abs(exact) > 1e39]).any()


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("op", OPS)
def test_special_values_of_a(op, tile):
    """Entries that are tiny beside the others count in full where they meet a row of their own."""
    D = matrix((150, 200), density=0.05).to_dense()
    D[3] = 0
    D[3, [5, 70, 199]] = 1e-30, 1e-12, -1e-7
    D[:, 9] = 0
    D[[4, 80, 149], 9] = 1e-40, 1e-20, 2e-6
    A = CSBMatrix.from_dense(D, block_shape=64)
    B = normals(A, op, 70)
    for splits in (1, 2):
        compare_with_float32(A, op, B, multiply(A, op, B, tile=tile, splits=splits), 2e-6)
    B[70:75] = np.inf  # a tiny entry in a block that is multiplied in float32 counts once
    compare_with_float32(A, op, B, multiply(A, op, B, tile=tile), 2e-6)


@pytest.mark.parametrize("name", ["Inf", "NaN"])
@pytest.mark.parametrize("op", OPS)
def test_special_values_of_fp16(name, op):
    A = matrix((150, 200), density=0.1, dtype="float16")
    B = normals(A, op, 70, np.float16)
    B[[3, 80], [5, 60]] = SPECIAL[name][0]
    found = multiply(A, op, B).astype(np.float32)
    compare_with_float32(A, op, B.astype(np.float32), found, 2e-3)


@pytest.mark.parametrize("tile", TILES)
def test_infinity_stays_where_it_belongs(tile):
    """Rows of C without an entry in a column of A do not see what that row of B holds."""
    D = matrix().to_dense()
    D[:, 1::3] = 0
    A = CSBMatrix.from_dense(D, block_shape=64)
    B = normals(A, "A@B", 40)
    expected = product(A, "A@B", B)
    B[1::3] = np.inf
    found = multiply(A, "A@B", B, tile=tile)
    assert relative_error(found, expected) <= ERROR_BOUNDS["fp32"]


# ---- streams, graphs, real matrices ------------------------------------------------------------------------


def test_a_graph_can_be_captured_and_replayed():
    import cupy

    A = matrix((300, 700))
    B = normals(A, "A@B", 96)
    operand, out = cupy.asarray(B), cupy.empty((300, 96), cupy.float32)
    prepared = prepare(A, "A@B", 96, splits=4)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        for _ in range(3):
            prepared.run(operand, out)
        graph = stream.end_capture()
    for seed in range(2):
        B = np.random.default_rng(seed).standard_normal(B.shape).astype(np.float32)
        operand.set(B)
        out.fill(cupy.nan)
        cupy.cuda.Device().synchronize()
        graph.launch(stream)
        stream.synchronize()
        assert relative_error(out.get(), product(A, "A@B", B)) <= ERROR_BOUNDS["fp32"]


def test_two_streams_do_not_share_a_workspace():
    import cupy

    A = matrix((500, 900))
    prepared = prepare(A, "A@B", 256, splits=4)
    operands = [cupy.asarray(np.float32(i + 1) * normals(A, "A@B", 256)) for i in range(2)]
    outputs = [cupy.empty((500, 256), cupy.float32) for _ in range(2)]
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
    cupy.cuda.Device().synchronize()
    for _ in range(20):
        for operand, out, stream in zip(operands, outputs, streams, strict=True):
            with stream:
                prepared.run(operand, out)
    cupy.cuda.Device().synchronize()
    expected = product(A, "A@B", normals(A, "A@B", 256))
    for i, out in enumerate(outputs):
        assert relative_error(out.get(), (i + 1) * expected) <= ERROR_BOUNDS["fp32"]


def test_real_matrices(dlmc):
    """Both directions and classes on one matrix of each folder."""
    from csbviz.formats.matrix_files import load_matrix

    files = {path.parent: path for path in sorted(dlmc.rglob("*.smtx*"))}
    assert files
    for path in files.values():
        A = CSBMatrix.from_scipy(load_matrix(path), block_shape=64)
        for op in OPS:
            for precision in ("fp32", "tf32"):
                check(A, op, 128, precision)
