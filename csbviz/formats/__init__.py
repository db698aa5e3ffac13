"""Sparse matrix formats: CSB and its conversions, the bytes of other formats, matrix files."""

from __future__ import annotations

from .block_shape import choose_block_shape
from .csb import CSBMatrix, set_matmul_hook
from .csb_files import load_csb, save_csb
from .example import plan_example
from .matrix_files import load_matrix
from .remote import set_conversion_hook
from .sizes import Size, format_bytes, index_bytes_per_nonzero

__all__ = [
    "CSBMatrix",
    "Size",
    "choose_block_shape",
    "format_bytes",
    "index_bytes_per_nonzero",
    "load_csb",
    "load_matrix",
    "plan_example",
    "save_csb",
    "set_conversion_hook",
    "set_matmul_hook",
]
