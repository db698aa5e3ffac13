"""Launches made ready once and repeated for the price of a driver call: about 2 µs from Python.

A launch is a ``cuLaunchKernelEx`` whose arguments were written to memory beforehand; a call only fills in the
stream and the addresses of B and C. So it never waits for the device, works on any stream, can be captured
into a graph, and can ask for what CuPy's launcher cannot: clusters and programmatic dependent launch.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from csbviz.errors import UnavailableError

__all__ = ["B", "C", "D", "LaunchPlan", "Launches", "run_with"]


class _Operand:
    """A place among the arguments that each call fills in."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


B = _Operand("B")
"""The address of the dense operand."""

C = _Operand("C")
"""The address of the result."""

D = _Operand("D")
"""The address of a second dense operand, for kernels that have one."""

_CLUSTER_DIMENSION, _PROGRAMMATIC, _CARVEOUT = 4, 6, 14  # CUlaunchAttributeID
_GRID_LIMIT = (2**31 - 1, 65535, 65535)


class _Attribute(ctypes.Structure):
    """CUlaunchAttribute: an id and a union of 64 bytes."""

    _fields_ = (("id", ctypes.c_int), ("pad", ctypes.c_int), ("value", ctypes.c_uint * 16))


class _Config(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("attribute_count", ctypes.c_uint),
    )


@functools.cache
def _launch_function():
    function = ctypes.CDLL("libcuda.so.1").cuLaunchKernelEx
    function.argtypes = (ctypes.c_void_p,) * 4
    function.restype = ctypes.c_int
    return function


class LaunchPlan:
    """One kernel launch, made ready.

    Parameters
    ----------
    kernel : CompiledKernel
        What `get_kernel` returned.
    grid, block : tuple of int
        Up to three numbers each: CTAs, and threads of a CTA.
    shared_bytes : int
        Dynamic shared memory of a CTA.
    arguments : sequence
        For each parameter of the kernel a CuPy array or None (its address, or 0), a NumPy scalar or bytes
        (passed by value), or `B`, `C` or `D` for the operands of a call.
    cluster : tuple of int, optional
        CTAs of a cluster in each dimension (compute capability 9.0 or newer).
    programmatic : bool
        May start while the previous kernel of the stream still runs; waits for it by ``griddepcontrol.wait``.
    carveout : int, optional
        Percent of the L1 cache that should be shared memory.

    Raises
    ------
    UnavailableError
        If the grid or the shared memory is larger than a device allows.
    """

    def __init__(
        self,
        kernel,
        grid: Sequence[int],
        block: Sequence[int],
        shared_bytes: int,
        arguments: Sequence[Any],
        *,
        cluster: Sequence[int] | None = None,
        programmatic: bool = False,
        carveout: int | None = None,
    ):
        grid, block = ((*map(int, size), 1, 1)[:3] for size in (grid, block))
        if any(size > limit for size, limit in zip(grid, _GRID_LIMIT, strict=True)):
            raise UnavailableError(
                f"The launch needs a grid of {grid} CTAs; a device has at most {_GRID_LIMIT}."
            )
        if shared_bytes > kernel.max_dynamic_shared:
            raise UnavailableError(
                f"The launch needs {shared_bytes} bytes of shared memory a CTA; "
                f"this GPU has {kernel.max_dynamic_shared}."
            )
        self._kernel, self._arrays = kernel, [a for a in arguments if hasattr(a, "data")]
        self._cells = [_cell(argument) for argument in arguments]
        self._b_cells, self._c_cells, self._d_cells = (
            tuple(c for c, a in zip(self._cells, arguments, strict=True) if a is operand)
            for operand in (B, C, D)
        )
        self._pointers = (ctypes.c_void_p * max(1, len(self._cells)))(*map(ctypes.addressof, self._cells))
        self._attributes = _attributes(cluster, programmatic, carveout)
        self._config = _Config(grid=grid, block=block, shared_bytes=int(shared_bytes))
        self._config.attributes = self._attributes
        self._config.attribute_count = len(self._attributes)
        self._call = (
            ctypes.addressof(self._config),
            kernel.pointer,
            ctypes.addressof(self._pointers),
            None,
        )
        self._function, self._lock = _launch_function(), threading.Lock()

    def __call__(self, stream: int, b: int, c: int, d: int = 0) -> None:
        """Launch on the stream with these addresses of B, C and D; returns at once.

        Raises
        ------
        RuntimeError
            If the driver refuses the launch.
        """
        with self._lock:  # the cells are shared by all callers; the driver copies them during the call
            for cell in self._b_cells:
                cell.value = b
            for cell in self._c_cells:
                cell.value = c
            for cell in self._d_cells:
                cell.value = d
            self._config.stream = stream
            status = self._function(*self._call)
        if status:
            raise RuntimeError(f"cuLaunchKernelEx failed with CUDA error {status}")


def _cell(argument):
    """Memory that holds an argument by value."""
    if isinstance(argument, _Operand) or argument is None:
        return ctypes.c_void_p(0)
    if isinstance(argument, (bytes, np.generic)):
        # Not bytes(argument): that of np.int32(2) is two zeros.
        value = argument.tobytes() if isinstance(argument, np.generic) else argument
        return ctypes.create_string_buffer(value, len(value))
    return ctypes.c_void_p(argument.data.ptr)


def _attributes(cluster, programmatic: bool, carveout: int | None):
    wanted = []
    if cluster is not None and any(size > 1 for size in cluster):
        wanted.append((_CLUSTER_DIMENSION, (*map(int, cluster), 1, 1)[:3]))
    if programmatic:
        wanted.append((_PROGRAMMATIC, (1,)))
    if carveout is not None:
        wanted.append((_CARVEOUT, (int(carveout),)))
    attributes = (_Attribute * len(wanted))()
    for attribute, (number, values) in zip(attributes, wanted, strict=True):
        attribute.id = number
        attribute.value[: len(values)] = values
    return attributes


class Launches:
    """Several launches, one after the other on the same stream; called like a `LaunchPlan`."""

    def __init__(self, *launches: Callable[[int, int, int], None]):
        self._launches = launches

    def __call__(self, stream: int, b: int, c: int) -> None:
        """Launch all of them."""
        for launch in self._launches:
            launch(stream, b, c)


def run_with(launch: Callable[[int, int, int], None]) -> Callable:
    """``run(B, out)`` for `Prepared`: CuPy arrays, on CuPy's current stream."""
    from cupy.cuda import get_current_stream

    def run(operand, out):
        launch(get_current_stream().ptr, operand.data.ptr, out.data.ptr)
        return out

    return run
