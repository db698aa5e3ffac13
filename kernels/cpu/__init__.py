"""Kernels for CPUs in Numba.

`spmm` multiplies, `program` prepares what it walks, `simd` is its vocabulary, `workers` compiles it.
"""
