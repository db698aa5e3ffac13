"""Operations on CSB matrices: the registry of kernels, their launchers and the dispatch behind ``A @ B``."""

from csbviz.ops.registry import (
    OPS,
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
    "Availability",
    "Kernel",
    "Prepared",
    "availability",
    "get_kernel",
    "kernels",
    "register",
]
