"""The short way of a product on a GPU: a call with operands like an earlier one goes straight to the driver.

The first product with a matrix looks for a kernel, makes its plan and uploads it. Later ones with a PyTorch
tensor of the same size need none of that: they make the output and launch, in a few microseconds of Python.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix
    from csbviz.ops.registry import Prepared

__all__ = ["direct_product", "keep_direct"]


class _Direct(NamedTuple):
    """What a repeated product needs: the launch, type and place of its operands, size of its result."""

    launch: Callable[[int, int, int], None]
    dtype: Any
    device: Any
    out_size: tuple[int, ...]


def direct_product(A: CSBMatrix, key: tuple, B, out):
    """The product, launched on PyTorch's current stream, or None where the long way has to be taken.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    key : tuple
        Direction, kernel and balance strategy as the caller named them.
    B, out : torch.Tensor
        As for `csbviz.spmm`; anything else takes the long way.
    """
    known = A.cache.get("direct")
    if not known:
        return None
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(B, torch.Tensor) or not B.is_contiguous():
        return None
    index = B.get_device()
    direct = known.get((key, B.shape, index))
    if direct is None or B.dtype is not direct.dtype or torch._C._cuda_getDevice() != index:
        return None
    if out is None:
        out = torch.empty(direct.out_size, dtype=direct.dtype, device=direct.device)
    elif not _fits(out, direct, B):
        return None
    direct.launch(torch._C._cuda_getCurrentRawStream(index), B.data_ptr(), out.data_ptr())
    return out


def _fits(out, direct: _Direct, B) -> bool:
    """Whether `out` can be written as it lies: the long way tells the caller what is wrong with it."""
    return (
        isinstance(out, type(B))
        and out.shape == direct.out_size
        and out.dtype is direct.dtype
        and out.device == direct.device
        and out.is_contiguous()
        and not (out.data_ptr() < B.data_ptr() + B.nbytes and B.data_ptr() < out.data_ptr() + out.nbytes)
    )


def keep_direct(A: CSBMatrix, key: tuple, prepared: Prepared, B, rows: int) -> None:
    """Remember a product that can be launched by address."""
    torch = sys.modules.get("torch")
    if prepared.launch is None or torch is None or not isinstance(B, torch.Tensor):
        return
    if not B.is_cuda or not B.is_contiguous():
        return
    out_size = (rows, *B.shape[1:])
    direct = _Direct(prepared.launch, B.dtype, B.device, out_size)
    A.cache.setdefault("direct", {})[(key, B.shape, B.get_device())] = direct
