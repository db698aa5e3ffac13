"""The settings among which the choice decides: those that were the fastest for some product of a sweep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from csbviz.ops.cuda import panel_launch, wgmma_plan
from csbviz.ops.cuda.module import current_device
from csbviz.ops.registry import get_kernel, is_transposed

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["choice_candidates"]

_PANELS = (
    # tile_m, tile_n, warps, chunk_k, column_tiles, resident
    (64, 32, 16, 512, 1, True),
    (64, 32, 16, 512, 1, False),
    (64, 32, 16, 256, 1, True),
    (64, 32, 16, 256, 1, False),
    (64, 64, 16, 512, 1, True),
    (64, 64, 16, 512, 1, False),
    (64, 64, 16, 512, 2, True),
    (64, 64, 16, 512, 8, True),
    (64, 64, 16, 256, 1, True),
    (128, 32, 16, 512, 1, True),
    (128, 32, 32, 512, 1, True),
    (128, 32, 32, 256, 1, True),
    (128, 64, 16, 512, 1, True),
    (128, 64, 16, 512, 1, False),
    (128, 64, 16, 512, 4, True),
    (128, 64, 32, 512, 1, True),
    (128, 64, 16, 256, 1, False),
    (256, 32, 16, 512, 1, True),
    (256, 32, 32, 512, 1, True),
    (256, 64, 32, 512, 1, True),
    (256, 64, 16, 512, 2, True),
    (256, 64, 32, 512, 2, True),
    (256, 64, 32, 256, 2, True),
    (256, 64, 16, 256, 1, False),
    (512, 64, 32, 512, 1, True),
)
_DIRECT = (
    # tile_n, warps, split
    (32, 4, 1),
    (32, 4, 2),
    (32, 4, 4),
    (32, 8, 1),
    (64, 4, 1),
    (64, 4, 2),
    (64, 4, 4),
    (64, 8, 1),
    (64, 8, 2),
    (64, 8, 4),
    (128, 4, 1),
    (128, 4, 2),
    (128, 4, 4),
    (128, 8, 1),
    (128, 8, 2),
    (128, 8, 4),
)
"""Launches of csb_rows: of 224 in a sweep over 50 products, the best of 20 lost 0.2 % against all. Those
that the kernel took by itself and that were the fastest of a later run came on top."""

_PIECES = (
    # tile_n, warps, length
    (32, 4, 8),
    (32, 8, 8),
    (32, 16, 8),
    (64, 4, 8),
    (64, 8, 8),
    (64, 16, 8),
    (64, 4, 16),
    (64, 8, 16),
    (64, 16, 16),
    (128, 8, 8),
    (128, 16, 8),
    (128, 4, 16),
    (128, 8, 16),
    (128, 16, 16),
)
"""Launches of csb_rows that cut rows into pieces: those that won in a sweep of its own."""


def choice_candidates(name: str, A: CSBMatrix, op: str, n: int) -> Iterable[dict[str, Any]]:
    """Settings of a kernel for a product, each of which it can run; empty where the choice knows none.

    Parameters
    ----------
    name : str
        Name of the kernel.
    A : CSBMatrix
        The stored matrix.
    op : str
        "A@B" or "A.T@B".
    n : int
        Columns of B.
    """
    if name == "csb_rows":
        return _rows(A, op, n)
    if name.startswith("csb_wgmma"):
        rows, inner = A.shape[::-1] if is_transposed(op) else A.shape
        shapes = wgmma_plan.candidates(rows, inner, n, current_device().multiprocessors)
        return [shape._asdict() for shape in shapes]
    kernel = get_kernel(name)
    return kernel.candidates(A, op, n) if kernel.candidates is not None else ()


def _rows(A, op: str, n: int) -> Iterable[dict[str, Any]]:
    structure, device = panel_launch.structure_of(A, is_transposed(op)), current_device()
    for launch in _launches(structure, n):
        if panel_launch.refusal(structure, launch, device) is None:
            yield launch.params


def _launches(structure, n: int) -> Iterable[panel_launch.Launch]:
    """Those that leave no half of a tile empty."""
    rows, inner, wide = structure.lengths.size, structure.inner, structure.item // 4
    for tile_m, tile_n, warps, chunk_k, column_tiles, resident in _PANELS:
        width, chunks = tile_n // wide, -(-inner // chunk_k)
        if (tile_m >= 2 * rows and tile_m > 64) or (width >= 2 * n and tile_n > 32):
            continue
        if chunk_k >= 2 * inner and chunk_k > 256:
            continue
        if (not resident and chunks == 1) or column_tiles > -(-n // width):
            continue
        # A second buffer brings the next panel meanwhile, and takes the memory of larger tiles.
        for buffers in (1,) if column_tiles * chunks == 1 else (1, 2):
            yield panel_launch.Launch("panel", width, warps, tile_m, chunk_k, column_tiles, buffers, resident)
    for tile_n, warps, split in _DIRECT:
        width = tile_n // wide
        if width < 2 * n or tile_n == 32:
            yield panel_launch.Launch("direct", width, warps, split=split)
    for tile_n, warps, length in _PIECES:
        width = tile_n // wide
        if width < 2 * n or tile_n == 32:
            yield panel_launch.Launch("pieces", width, warps, length=length)
