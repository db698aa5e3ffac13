"""The layers that are compared: CSB, CSR with a second, transposed copy, and dense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from csbviz.formats import CSBMatrix
from csbviz.nn import CSBLinear
from csbviz.nn.product import layer_product
from csbviz.ops.dispatch import prepare_kernel
from csbviz.ops.operands import current_stream_of
from csbviz.ops.registry import get_kernel

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["LAYERS", "Layer", "LayerCase"]

_CUSPARSE = ("cusparse_csr_default", "cusparse_csr_alg1", "cusparse_csr_alg2", "cusparse_csr_alg3")
_CHOICE_SECONDS = 0.01


@dataclass(frozen=True)
class LayerCase:
    """What every contender gets.

    Attributes
    ----------
    csr : scipy.sparse.csr_matrix
        Weights, out_features x in_features, float32 or float64.
    bias : numpy.ndarray
        (out_features,).
    block_shape, order
        Layout of the CSB matrix.
    tokens : int
        Rows of activations.
    device : str
        "cpu" or "cuda".
    layout : str
        One of `csbviz.nn.linear.LAYOUTS`.
    threads : int
        Threads of the CPU.
    """

    csr: csr_matrix
    bias: np.ndarray
    block_shape: tuple[int, int]
    order: str
    tokens: int
    device: str
    layout: str
    threads: int

    @property
    def features_first(self) -> bool:
        """Whether activations have a row for each feature."""
        return self.layout == "features_first"


@dataclass(frozen=True)
class Layer:
    """A contender made ready.

    Attributes
    ----------
    module : torch.nn.Module
        Its parameters are the weights and "bias".
    positions : tuple of numpy.ndarray or None
        Row and column of each number of the weights' gradient; None where it is a whole matrix.
    stored_bytes : int
        Bytes of the weights as they are stored, indices and second copies included; not of plans, buffers of
        libraries and workspaces.
    params : callable
        What was chosen, JSON-safe, after use.
    notes : str
        What a reader of the timing should know.
    """

    module: torch.nn.Module
    positions: tuple | None
    stored_bytes: int
    params: Callable[[], dict]
    notes: str = ""


def _csb_layer(case: LayerCase) -> Layer:
    A = CSBMatrix.from_scipy(case.csr, case.block_shape, case.order)
    layer = CSBLinear(A, case.bias, layout=case.layout).to(case.device)

    def params() -> dict:
        plans = layer.matrix.cache.get("plans", {}).items()
        return {"layout": case.layout} | {key[1]: plan.params.get("kernel", key[0]) for key, plan in plans}

    return Layer(layer, A.coordinates(), A.nbytes, params)


class _DenseFeaturesFirst(torch.nn.Module):
    """Y = W·X + b with a row for each feature."""

    def __init__(self, linear: torch.nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, X):
        return torch.addmm(self.bias[:, None], self.weight, X)


def _dense_layer(case: LayerCase) -> Layer:
    rows, columns = case.csr.shape
    linear = torch.nn.Linear(columns, rows, dtype=_torch_dtype(case))
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(case.csr.toarray()))
        linear.bias.copy_(torch.from_numpy(case.bias))
    module = (_DenseFeaturesFirst(linear) if case.features_first else linear).to(case.device)
    return Layer(module, None, rows * columns * case.csr.dtype.itemsize, lambda: {"layout": case.layout})


class _CsrLayer(torch.nn.Module):
    """A layer whose values are stored in CSR and once more in the CSR of the transpose."""

    def __init__(self, values: np.ndarray, bias: np.ndarray, weights, features_first: bool):
        super().__init__()
        self.values = torch.nn.Parameter(torch.from_numpy(values.copy()))
        self.bias = torch.nn.Parameter(torch.from_numpy(bias.copy()))
        self._weights, self._features_first = weights, features_first

    def forward(self, X):
        return layer_product(X, self.values, self.bias, self._weights, self._features_first)


class _CsrWeights:
    """MKL's products on the CPU, cuSPARSE's on a GPU, each direction on its own copy."""

    def __init__(self, case: LayerCase):
        csr = case.csr
        self._shape, self._case = csr.shape, case
        self._copies = [CSBMatrix.from_scipy(S, case.block_shape) for S in (csr, csr.T.tocsr())]
        prepare = _mkl_product if case.device == "cpu" else _best_cusparse
        chosen = [prepare(A, case) for A in self._copies]
        (self._forward, name), (self._backward, transposed_name) = chosen
        self.params = {"forward": name, "backward": transposed_name}
        self._sample = _mkl_sampled(csr) if case.device == "cpu" else _cusparse_sampled(csr, case.tokens)

    def product(self, B):
        return self._run(self._forward, B, self._shape[0])

    def transposed_product(self, G):
        return self._run(self._backward, G, self._shape[1])

    def sampled_product(self, G, B):
        return self._sample(G, B)

    def _run(self, run, B, rows: int):
        C = B.new_empty((rows, B.shape[1]))
        with current_stream_of(B):
            run(_array_of(B), _array_of(C))
        return C


def _csr_layer(case: LayerCase) -> Layer:
    csr = case.csr
    weights = _CsrWeights(case)
    module = _CsrLayer(csr.data, case.bias, weights, case.features_first).to(case.device)
    index_bytes = 4 * (2 * csr.nnz + sum(csr.shape) + 2)
    rows = np.repeat(np.arange(csr.shape[0]), np.diff(csr.indptr))
    return Layer(
        module,
        (rows, csr.indices),
        2 * csr.data.nbytes + index_bytes,
        lambda: {"layout": case.layout} | weights.params,
        "After each step of an optimizer its second copy has to be filled anew, which is not timed.",
    )


LAYERS = {
    "csb_layer": ("CSB layer", "csb", 1, _csb_layer),
    "csr_layer": ("CSR layer + transposed copy", "csr", 2, _csr_layer),
    "dense_layer": ("Dense layer (PyTorch)", "dense", 1, _dense_layer),
}
"""For each contender its title, format, copies of the values, and the function that makes it ready."""


def _torch_dtype(case: LayerCase) -> torch.dtype:
    return getattr(torch, case.csr.dtype.name)


def _array_of(tensor):
    """The tensor's memory as the kernels of the registry take it."""
    if tensor.device.type == "cpu":
        return tensor.detach().numpy()
    import cupy

    return cupy.from_dlpack(tensor.detach())


def _mkl_product(A: CSBMatrix, case: LayerCase):
    prepared = prepare_kernel(A, get_kernel("csr_mkl"), "A@B", case.tokens, threads=case.threads)
    return prepared.run, "csr_mkl"


def _best_cusparse(A: CSBMatrix, case: LayerCase):
    """The algorithm of cuSPARSE that is the fastest here."""
    import cupy

    from csbviz.bench.gpu_timing import time_cuda

    B = cupy.ones((A.shape[1], case.tokens), A.dtype)
    C = cupy.empty((A.shape[0], case.tokens), A.dtype)
    found = []
    for name in _CUSPARSE:
        run = prepare_kernel(A, get_kernel(name), "A@B", case.tokens, threads=1).run
        found.append((float(np.median(time_cuda(run, B, C, min_time=_CHOICE_SECONDS))), name, run))
    _, name, run = min(found, key=lambda entry: entry[0])
    return run, name


def _mkl_sampled(csr):
    """MKL's sampled product through PyTorch."""
    import warnings

    arrays = csr.indptr.astype(np.int64), csr.indices.astype(np.int64), np.zeros_like(csr.data)
    with warnings.catch_warnings():
        # PyTorch says once that its CSR support is in beta: known, and every result is verified.
        warnings.simplefilter("ignore", UserWarning)
        pattern = torch.sparse_csr_tensor(*map(torch.from_numpy, arrays), size=csr.shape)

    def run(G, B):
        return torch.sparse.sampled_addmm(pattern, G, B.t(), beta=0.0).values()

    return run


def _cusparse_sampled(csr, n: int):
    from csbviz.ops.cuda.sddmm_library import LibrarySampledProduct

    product = LibrarySampledProduct(csr, n)

    def run(G, B):
        out = G.new_empty(csr.nnz)
        with current_stream_of(G):
            product(_array_of(G), _array_of(B), _array_of(out))
        return out

    return run
