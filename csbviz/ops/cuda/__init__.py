"""The CUDA side of the operations: launchers of kernels/cuda, and the libraries they are compared with."""
