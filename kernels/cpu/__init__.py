"""Kernels for CPUs in Numba: `spmm` multiplies, `program` prepares what it walks, `simd` is its vocabulary.

Numba keeps compiled functions in ``__pycache__`` and notices a change of the file that a function stands in,
but not of the files it calls: empty that folder after an edit of `simd` or of the constants of `program`.
"""
