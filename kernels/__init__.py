"""The kernels themselves, without any import of csbviz: `cpu` in Numba, `cuda` as CUDA C++ text."""
