"""What CUDA products must stand: several streams, a captured graph, and products that follow one another."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from csbviz.bench.verify import ERROR_BOUNDS, relative_error
from csbviz.formats import CSBMatrix
from csbviz.ops.registry import Prepared
from tests.kernels.cuda_cases import product


def check_streams_and_graphs(A: CSBMatrix, prepared: Prepared, n: int) -> None:
    """One plan of A·B on two streams at once, and in a graph that is replayed after B has changed."""
    import cupy

    rows, inner = A.shape
    rng = np.random.default_rng(0)
    B = [rng.standard_normal((inner, n)).astype(np.float32) for _ in range(2)]
    on_device = [cupy.asarray(b) for b in B]
    outs = [cupy.full((rows, n), cupy.nan, cupy.float32) for _ in B]
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in B]
    cupy.cuda.Device().synchronize()
    for _ in range(20):
        for b, out, stream in zip(on_device, outs, streams, strict=True):
            with stream:
                prepared.run(b, out)
    cupy.cuda.Device().synchronize()
    for b, out in zip(B, outs, strict=True):
        assert relative_error(out.get(), product(A, "A@B", b)) <= ERROR_BOUNDS["fp32"]

    with streams[0]:
        streams[0].begin_capture()
        prepared.run(on_device[0], outs[0])
        prepared.run(on_device[1], outs[1])
        graph = streams[0].end_capture()
    on_device[0][...] = on_device[1]
    outs[0].fill(cupy.nan)
    cupy.cuda.Device().synchronize()
    graph.launch(streams[1])
    streams[1].synchronize()
    assert np.array_equal(outs[0].get(), outs[1].get())


def check_chain(A: CSBMatrix, plans: Iterable[Prepared], n: int) -> None:
    """Launches overlap: a product with a square A must still see what the one before it wrote."""
    import cupy

    B = np.random.default_rng(0).standard_normal((A.shape[1], n)).astype(np.float32)
    expected = B.astype(np.float64)
    for _ in range(10):
        expected = product(A, "A@B", expected)
    for prepared in plans:
        x, y = cupy.asarray(B), cupy.empty_like(cupy.asarray(B))
        for _ in range(5):
            prepared.run(x, y)
            prepared.run(y, x)
        assert relative_error(x.get(), expected) <= 1e-5
