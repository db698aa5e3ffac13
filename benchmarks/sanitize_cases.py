"""What `benchmarks.sanitize` runs: every operation of a kernel on small ragged matrices, against float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from csbviz.bench.verify import ERROR_BOUNDS, relative_error
from csbviz.formats import CSBMatrix
from csbviz.ops.registry import get_kernel, is_transposed

Found = Iterator[tuple[str, float, float]]
"""What was run, its error, and the bound."""

SHAPES = (
    # rows, columns, density, rows and columns of a block
    (130, 67, 0.2, 64, 64),
    (256, 192, 0.1, 64, 64),
    (200, 330, 0.3, 64, 64),
    (300, 260, 0.02, 64, 64),
    (200, 300, 0.05, 32, 32),
    (40, 70, 0.3, 16, 16),
)
COLUMNS = (1, 33, 64, 130)


def matrices() -> Iterator[CSBMatrix]:
    """Seeded matrices with ragged edges; every third row is empty, and the fifth is full."""
    for rows, columns, density, *block in SHAPES:
        rng = np.random.default_rng(rows * 1000 + columns)
        keep = rng.random((rows, columns)) < density
        keep[::3], keep[5] = False, True
        dense = np.where(keep, rng.standard_normal(keep.shape), 0).astype(np.float32)
        yield CSBMatrix.from_scipy(sp.csr_array(dense), block_shape=tuple(block))


def every_product(name: str) -> Iterator[tuple[tuple[int, int], tuple[str, float, float]]]:
    """Every operation of a kernel, or of one of `OTHERS`: the shape of the matrix, and what was found.

    Matrices take turns, so that a run that is cut short has met all of them.
    """
    running = [(A.shape, OTHERS[name](A) if name in OTHERS else products(name, A)) for A in matrices()]
    while running:
        for entry in list(running):
            shape, found = entry
            result = next(found, None)
            if result is None:
                running.remove(entry)
            else:
                yield shape, result


def products(name: str, A: CSBMatrix) -> Found:
    """A kernel of the registry: its own choice, and the first candidates of tuning."""
    import cupy

    kernel = get_kernel(name)
    if "float32" not in kernel.dtypes:
        return
    for op, n, B, exact in operands(A, kernel.ops):
        if kernel.accepts(A, op, n):
            continue
        on_device, out = cupy.asarray(B), cupy.full(exact.shape, cupy.nan, np.float32)
        for params in [{}, *(kernel.candidates(A, op, n)[:3] if kernel.candidates else ())]:
            kernel.prepare(A, op, n, threads=1, **params).run(on_device, out)
            error = relative_error(out.get(), exact)
            yield f"{op}, n = {n}, {params}", error, ERROR_BOUNDS[kernel.precision["float32"]]


def operands(A: CSBMatrix, ops: tuple[str, ...], ns: tuple[int, ...] = COLUMNS):
    """Operations, columns, a right-hand side and its product in float64."""
    dense = A.to_dense().astype(np.float64)
    rng = np.random.default_rng(1)
    for op in ops:
        matrix = dense.T if is_transposed(op) else dense
        for n in (1,) if op.endswith("x") else ns:
            B = rng.standard_normal((matrix.shape[1], n)).astype(np.float32)
            yield op, n, B, matrix @ B.astype(np.float64)


def strategies(A: CSBMatrix) -> Found:
    """Every balance strategy by every execution: grid, tickets, shares, and `csb_simple`."""
    import cupy

    from csbviz.balance import STRATEGIES
    from csbviz.ops.cuda.rows import prepare_gather, prepare_simple

    for op, n, B, exact in operands(A, ("A@B", "A.T@B"), (33, 132)):
        on_device = cupy.asarray(B)
        for strategy in STRATEGIES:
            ways = (None,) if strategy == "stream_k" else ("grid", "ticket")
            made = [(way, prepare_gather(A, op, n, balance=strategy, execution=way)) for way in ways]
            made += [("recorded", prepare_gather(A, op, n, balance=strategy, record=True))]
            made += [("simple", prepare_simple(A, op, n, balance=strategy))]
            for way, prepared in made:
                out = cupy.full(exact.shape, cupy.nan, np.float32)
                for _ in range(2):  # the second finds counters as the first left them
                    prepared.run(on_device, out)
                error = relative_error(out.get(), exact)
                yield f"{op}, n = {n}, {strategy}, {way}", error, ERROR_BOUNDS["fp32"]


def sampled(A: CSBMatrix) -> Found:
    """The sampled product: every version that runs here, columns dealt in one part and in several."""
    import cupy

    from csbviz.ops.cuda.module import current_device
    from csbviz.ops.cuda.sddmm import SampledProduct
    from csbviz.ops.cuda.sddmm_tiles import MMA, WGMMA, fits

    device, rng = current_device(), np.random.default_rng(1)
    rows, columns = A.coordinates()
    tiles = [shape for shape in (*MMA, *WGMMA) if fits(A, shape, "float32", device)]
    versions = [(1, None), (2, 1), (2, 3), (3, 1), (3, 4), *((shape, p) for shape in tiles for p in (1, 2))]
    for n in COLUMNS:
        U, V = (rng.standard_normal((side, n)).astype(np.float32) for side in A.shape)
        exact = np.einsum("ec,ec->e", U[rows].astype(np.float64), V[columns].astype(np.float64))
        on_device = cupy.asarray(U), cupy.asarray(V)
        for version, parts in [(None, None), *versions]:
            out = cupy.full(A.nnz, cupy.nan, np.float32)
            product = SampledProduct(A, n, "float32", version, parts)
            product(*(array.data.ptr for array in on_device), out.data.ptr)
            yield f"n = {n}, {version}, {parts}", relative_error(out.get(), exact), ERROR_BOUNDS["fp32"]


def conversions(A: CSBMatrix) -> Found:
    """From CSR and from a dense matrix, bit for bit as on the CPU."""
    import cupy

    from csbviz.ops.cuda.convert import csr_to_csb, dense_to_csb

    S = A.to_scipy().tocsr()
    arrays = map(cupy.asarray, (S.indptr, S.indices, S.data))
    from_csr, _ = csr_to_csb(*arrays, S.shape, A.block_shape, "float32")
    from_dense, _ = dense_to_csb(cupy.asarray(S.toarray()), A.block_shape, "float32")
    for what, found in (("from CSR", from_csr), ("from dense", from_dense)):
        keys = ("values", "row_ind", "col_ind", "blk_ptr")
        same = all(np.array_equal(found.fetch(key), getattr(A, key)) for key in keys)
        yield what, 0.0 if same else 1.0, 0.0


def transpositions(A: CSBMatrix) -> Found:
    """A dense matrix turned, with a number added to each row and without."""
    import cupy

    from csbviz.ops.cuda.transpose import transpose

    X = cupy.asarray(A.to_dense())
    rows, columns = X.shape
    bias = cupy.arange(rows, dtype=np.float32)
    for added, address in ((0, 0), (bias[:, None], bias.data.ptr)):
        out = cupy.full((columns, rows), cupy.nan, np.float32)
        transpose(X.data.ptr, out.data.ptr, rows, columns, "float32", address)
        yield "turned", 0.0 if cupy.array_equal(out, (X + added).T) else 1.0, 0.0


OTHERS = {
    "sddmm": sampled,
    "convert": conversions,
    "transpose": transpositions,
    "strategies": strategies,
}
"""What is no entry of the registry, or has more to it than its entry."""
