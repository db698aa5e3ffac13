"""The CUDA-core family on a GPU: right for every shape and launch, the same in every run, on any stream."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from csbviz.bench.verify import ERROR_BOUNDS, relative_error
from csbviz.errors import OptionError
from csbviz.formats import CSBMatrix, load_matrix
from csbviz.ops.cuda.module import current_device
from csbviz.ops.cuda.panel import candidates, prepare
from csbviz.ops.cuda.panel_launch import Launch, refusal, structure_of
from tests.kernels.cuda_cases import CASES, NAMES, product

pytestmark = pytest.mark.gpu

OPS = ("A@B", "A.T@B")


def operands(A, op: str, n: int):
    """B on the host and on the device, and an output full of NaN."""
    import cupy

    rows, inner = A.shape[::-1] if op == "A.T@B" else A.shape
    B = np.random.default_rng(n).standard_normal((inner, n)).astype(A.dtype)
    return B, cupy.asarray(B), cupy.full((rows, n), cupy.nan, A.dtype)


def check(A, op: str, n: int, **params):
    B, on_device, out = operands(A, op, n)
    prepared = prepare(A, op, n, **params)
    prepared.run(on_device, out)
    bound = ERROR_BOUNDS["fp64" if A.dtype == "float64" else "fp32"]
    assert relative_error(out.get(), product(A, op, B)) <= bound, (op, n, prepared.params)
    return prepared, on_device, out


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_any_shape(case, dtype, op):
    A = case.matrix(dtype)
    check(A, op, 33)
    check(A, op, 132)
    check(A, op, 1, form="direct")


SETTINGS = [
    {"tile_m": 64, "warps": 16, "chunk_k": 64, "column_tiles": 1, "buffers": 1, "resident": True},
    {"tile_m": 64, "warps": 8, "chunk_k": 64, "column_tiles": 2, "buffers": 2, "resident": True},
    {"tile_m": 64, "warps": 16, "chunk_k": 256, "column_tiles": 4, "buffers": 1, "resident": True},
    {"tile_m": 128, "warps": 8, "chunk_k": 128, "column_tiles": 1, "buffers": 1, "resident": False},
    {"tile_m": 256, "warps": 32, "chunk_k": 64, "column_tiles": 4, "buffers": 2, "resident": False},
    {"tile_m": 512, "warps": 32, "chunk_k": 512, "column_tiles": 1, "buffers": 1, "resident": True},
]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    ("dtype", "settings"),
    [*(("float32", s) for s in SETTINGS), *(("float64", s) for s in SETTINGS[1:6:2])],
    ids=lambda v: v if isinstance(v, str) else "x".join(map(str, v.values())),
)
def test_panel_launches(dtype, settings, op):
    for name in ("usual", "ragged edges", "heavy row and column"):
        A = CASES[NAMES.index(name)].matrix(dtype)
        for tile_n in (32, 64) if dtype == "float32" else (16, 32):
            for n in (64, 196, 300):
                check(A, op, n, form="panel", tile_n=tile_n, **settings)
        check(A, op, 77, form="panel", tile_n=32, **settings)  # rows that begin anywhere


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("split", [1, 2, 4])
@pytest.mark.parametrize("warps", [4, 8])
def test_direct_launches(warps, split, op):
    for case in CASES[::2]:
        A = case.matrix()
        for tile_n in (32, 64, 128):
            check(A, op, 68, form="direct", tile_n=tile_n, warps=warps, split=split)
        check(A, op, 7, form="direct", tile_n=32, warps=warps, split=split)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("tile_n", "length"), [(32, 4), (32, 8), (64, 8), (64, 16), (128, 8), (128, 16)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_launches_with_pieces(dtype, tile_n, length, op):
    """Those that are not refused, which test_cuda_pieces_plan.py looks at."""
    runs = 0
    for case in CASES:
        A = case.matrix(dtype)
        structure = structure_of(A, op == "A.T@B")
        for warps in (4, 16):
            launch = Launch("pieces", tile_n * 4 // structure.item, warps, length=length)
            if refusal(structure, launch, current_device()) is None:
                for n in (68, 7):
                    check(A, op, n, **launch.params)
                runs += 1
    assert runs >= 15


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("form", ["panel", "direct", "pieces"])
def test_two_runs_give_the_same_bits(form, op):
    import cupy

    A = CASES[NAMES.index("heavy row and column")].matrix()
    prepared, on_device, out = check(A, op, 260, form=form)
    first = out.copy()
    for _ in range(5):
        out.fill(cupy.nan)
        prepared.run(on_device, out)
        assert np.array_equal(out.get().view(np.int32), first.get().view(np.int32))


@pytest.mark.parametrize("form", ["panel", "direct", "pieces"])
def test_special_values_act_as_in_a_float32_product(form):
    """Inf and NaN reach the rows that hold an entry there and no other; huge and tiny numbers are exact."""
    import cupy

    A = CASES[NAMES.index("gaps: empty rows, columns and blocks")].matrix()
    S = A.to_scipy()
    B, _, out = operands(A, "A@B", 40)
    prepared = prepare(A, "A@B", 40, form=form)
    for value in (np.inf, np.nan):
        special = B.copy()
        special[1::3] = value  # these columns of A are empty
        special[2, 5] = value
        prepared.run(cupy.asarray(special), out)
        reached = np.zeros(out.shape, bool)
        reached[S[:, [2]].toarray().ravel() != 0, 5] = True
        assert np.array_equal(~np.isfinite(out.get()), reached)
    for scale in (1e-30, 1e30):
        prepared.run(cupy.asarray((B * scale).astype(np.float32)), out)
        assert relative_error(out.get(), product(A, "A@B", B * scale)) <= ERROR_BOUNDS["fp32"]


@pytest.mark.parametrize("form", ["panel", "direct", "pieces"])
def test_an_unaligned_operand(form):
    import cupy

    A = CASES[0].matrix()
    prepared, on_device, out = check(A, "A@B", 64, form=form)
    shifted = cupy.empty(on_device.size + 1, cupy.float32)[1:].reshape(on_device.shape)
    shifted[...] = on_device
    again = cupy.full_like(out, cupy.nan)
    prepared.run(shifted, again)
    assert np.array_equal(again.get(), out.get())


@pytest.mark.parametrize("form", ["panel", "direct", "pieces"])
def test_a_chain_of_products_on_a_stream_and_in_a_graph(form):
    """Each reads what the one before wrote, and begins before that one has ended."""
    import cupy

    rng = np.random.default_rng(3)
    dense = np.where(rng.random((256, 256)) < 0.05, rng.standard_normal((256, 256)), 0).astype(np.float32)
    A = CSBMatrix.from_dense(dense, block_shape=64)
    run = prepare(A, "A@B", 96, form=form).run
    start = rng.standard_normal((256, 96)).astype(np.float32)
    expected = start.astype(np.float64)
    for _ in range(12):
        expected = dense.astype(np.float64) @ expected
    x, y = cupy.asarray(start), cupy.empty((256, 96), cupy.float32)
    cupy.cuda.Device().synchronize()

    def chain():
        for _ in range(6):
            run(x, y)
            run(y, x)

    with cupy.cuda.Stream(non_blocking=True) as stream:
        chain()
        stream.synchronize()
        assert relative_error(x.get(), expected) <= 20 * ERROR_BOUNDS["fp32"]
        x.set(start, stream=stream)
        stream.begin_capture()
        chain()
        graph = stream.end_capture()
        for _ in range(3):
            x.set(start, stream=stream)
            graph.launch(stream)
            stream.synchronize()
            assert relative_error(x.get(), expected) <= 20 * ERROR_BOUNDS["fp32"]


def test_a_launch_that_does_not_fit_is_one_sentence():
    A = CASES[NAMES.index("usual")].matrix()
    with pytest.raises(OptionError, match=r"tiles of \[.*\] rows\."):
        prepare(A, "A@B", 64, form="panel", warps=4, tile_m=256)


@pytest.mark.parametrize("op", OPS)
def test_layers_of_the_collection(op):
    folder = os.environ.get("DLMC_DIR")
    if not folder:
        pytest.skip("DLMC_DIR names no folder of the collection")
    paths = sorted(Path(folder).rglob("*.smtx*"))
    chosen = [p for p in paths if p.parent.name in ("0.9", "0.95", "0.98")][::7]
    assert chosen
    for path in chosen:
        A = CSBMatrix.from_scipy(load_matrix(path).astype(np.float32), block_shape=64)
        for setting in candidates(A, op, 196)[::5]:
            check(A, op, 196, **setting)
