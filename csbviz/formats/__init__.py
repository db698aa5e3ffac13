"""Sparse matrix formats: CSB and its conversions, the bytes of other formats, matrix files."""

from .csb import CSBMatrix, set_matmul_hook

__all__ = ["CSBMatrix", "set_matmul_hook"]
