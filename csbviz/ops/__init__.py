"""Operations on CSB matrices: the registry of kernels, their launchers and the dispatch behind ``A @ B``."""

from csbviz.ops.registry import (
    OPS,
    SPMM_OPS,
    SPMV_OPS,
    Availability,
    Kernel,
    Prepared,
    availability,
    get_kernel,
    kernels,
    register,
)

__all__ = [
    "OPS",
    "SPMM_OPS",
    "SPMV_OPS",
    "Availability",
    "Kernel",
    "Prepared",
    "availability",
    "get_kernel",
    "kernels",
    "register",
]
