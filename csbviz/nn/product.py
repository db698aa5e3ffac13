"""The product of a layer as autograd sees it: W·X forward, Wᵀ·G and the sampled product backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch.autograd.function import once_differentiable

from csbviz.ops.dispatch import spmm
from csbviz.ops.sampled import sddmm
from csbviz.ops.threads import cpu_count
from csbviz.ops.transposed import transposed

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["CSBWeights", "Weights", "layer_product", "version_of"]


class Weights(Protocol):
    """Weights W, M x K, as a layer multiplies them: row-major tensors with a column for each token."""

    def product(self, B: torch.Tensor) -> torch.Tensor:
        """W·B."""

    def transposed_product(self, G: torch.Tensor) -> torch.Tensor:
        """Wᵀ·G."""

    def sampled_product(self, G: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        """G·Bᵀ at the stored positions: the gradient of the values."""


class CSBWeights:
    """The weights of a CSB matrix: all three products from its one copy."""

    def __init__(self, matrix: CSBMatrix):
        self._matrix = matrix

    def product(self, B: torch.Tensor) -> torch.Tensor:
        return _multiply(self._matrix, B)

    def transposed_product(self, G: torch.Tensor) -> torch.Tensor:
        return _multiply(self._matrix.T, G)

    def sampled_product(self, G: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        if G.dtype in (torch.float16, torch.bfloat16):  # the sums need more digits
            return sddmm(self._matrix, G.float(), B.float(), threads=_threads()).to(G.dtype)
        return sddmm(self._matrix, G, B, threads=_threads())


def layer_product(
    X: torch.Tensor,
    values: torch.Tensor,
    bias: torch.Tensor | None,
    weights: Weights,
    features_first: bool,
) -> torch.Tensor:
    """Y = X·Wᵀ + b, or Y = W·X + b with the features first, with gradients of X, the values and b.

    Parameters
    ----------
    X : torch.Tensor
        (tokens, K), or (K, tokens) with `features_first`; any strides.
    values : torch.Tensor
        (nnz,): the stored values of the weights, in the same memory.
    bias : torch.Tensor or None
        (M,).
    weights : Weights
        W, M x K.
    features_first : bool
        Whether X and Y have a row for each feature, which is what the kernels read and write; otherwise both
        are transposed on their device, and so are the gradients.

    Returns
    -------
    torch.Tensor
        (tokens, M) or (M, tokens), contiguous.
    """
    return _LayerProduct.apply(X, values, bias, weights, features_first)


class _LayerProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, X, values, bias, weights, features_first):
        columns = _with_features_first(X, features_first)
        Y = weights.product(columns)
        if not features_first:
            Y = transposed(Y, bias)
        elif bias is not None:
            Y += bias[:, None]
        ctx.weights, ctx.features_first = weights, features_first
        # The backward product reads the values again, where they lie: they must still be the same then.
        ctx.values = values.detach()
        ctx.version = version_of(values)
        ctx.save_for_backward(columns if ctx.needs_input_grad[1] else None)
        return Y

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        needs_x, needs_values, needs_bias, *_ = ctx.needs_input_grad
        if version_of(ctx.values) != ctx.version:
            raise RuntimeError(
                "The values of a CSBLinear were changed in place between its forward and its backward pass; "
                "take the optimizer's step after the backward pass."
            )
        G = _with_features_first(gradient, ctx.features_first) if needs_x or needs_values else None
        dX = ctx.weights.transposed_product(G) if needs_x else None
        if needs_x and not ctx.features_first:
            dX = transposed(dX)
        dvalues = None
        if needs_values:
            (columns,) = ctx.saved_tensors
            dvalues = ctx.weights.sampled_product(G, columns)
        dbias = None
        if needs_bias:  # sums along rows are the faster ones
            dbias = gradient.sum(1 if ctx.features_first else 0) if G is None else G.sum(1)
        return dX, dvalues, dbias, None, None


def version_of(tensor: torch.Tensor) -> int:
    """How often the tensor was changed in place; 0 for those of inference mode, which do not count it."""
    return 0 if tensor.is_inference() else tensor._version


def _with_features_first(tensor: torch.Tensor, features_first: bool) -> torch.Tensor:
    """The tensor as the kernels take it: a row for each feature, contiguous."""
    return tensor.contiguous() if features_first else transposed(tensor)


def _multiply(matrix: CSBMatrix, B: torch.Tensor) -> torch.Tensor:
    """matrix @ B into memory of PyTorch's own allocator; one column goes to the kernels for vectors."""
    C = B.new_empty((matrix.shape[0], B.shape[1]))
    if B.shape[1] == 1:
        spmm(matrix, B[:, 0], out=C[:, 0], threads=_threads())
    else:
        spmm(matrix, B, out=C, threads=_threads())
    return C


def _threads() -> int:
    """As many threads as PyTorch was given."""
    return min(torch.get_num_threads(), cpu_count())
