"""`transposed`: activations turned for a product and back, on either device, with the bias of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csbviz.ops.operands import current_stream_of

if TYPE_CHECKING:
    import torch

__all__ = ["transposed"]


def transposed(X: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """The transpose of X + bias[:, None], contiguous; X itself where it lies like that already.

    Parameters
    ----------
    X : torch.Tensor
        Two dimensions, any strides.
    bias : torch.Tensor, optional
        One number for each row of X, of its dtype and on its device.

    Returns
    -------
    torch.Tensor
        Without a gradient to X: this belongs inside a function whose gradient is its own.
    """
    if X.is_cuda and X.is_contiguous() and 1 not in X.shape:
        from csbviz.ops.cuda.transpose import DTYPES, transpose

        dtype = str(X.dtype).removeprefix("torch.")
        if dtype in DTYPES:
            out = X.new_empty(X.shape[::-1])
            bias = None if bias is None else bias.contiguous()
            address = 0 if bias is None else bias.data_ptr()
            with current_stream_of(X):
                transpose(X.data_ptr(), out.data_ptr(), *X.shape, dtype, address)
            return out
    if bias is None:
        return X.t().contiguous()
    import torch

    return torch.add(X.t(), bias, out=X.new_empty(X.shape[::-1]))
