"""The compiled functions of `spmm` for the types at hand: workers, and launchers that start them on threads.

Numba keeps them on disk and compiles them anew when this file has changed, but it does not look at the other
files, whose functions are compiled into them. Its key also holds the variables that a function takes from the
function around it: all that are kept take the digest of all files of the folder from one, so that no edit
leaves old machine code in use.
"""

from __future__ import annotations

import hashlib
import threading
from functools import cache
from pathlib import Path

from numba import cfunc, njit, prange, types

from .simd import call_worker, witness_type
from .spmm import P_B, P_C, P_WORDS, multiply, reduce

__all__ = ["LOCK", "launcher", "multiply_worker", "reduce_worker", "scatter_worker"]

LOCK = threading.Lock()
"""Held while a kernel runs: some of Numba's threading layers end the process when two threads enter."""


def _digest_of_sources() -> str:
    """SHA-256 of the names and contents of the Python files of this folder."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).resolve().parent.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


@njit
def _set_operands(table, B, C):
    """Write the addresses of the operands into the tables of both workers; return that of the first table."""
    for first in range(0, table.size, P_WORDS):
        table[first + P_B] = B.ctypes.data
        table[first + P_C] = C.ctypes.data
    return table.ctypes.data


@njit
def _call(function, rest, values, index, order, table, worker):
    """What one thread does: `function` with the first table, then `rest`, unless 0, with the second."""
    call_worker(function, values, index, order, table, worker)
    if rest:
        call_worker(rest, values, index, order, table + 8 * P_WORDS, worker)


def _cached_functions(sources):
    """The functions that Numba keeps on disk; each uses `sources`, which makes it a part of their keys."""

    def multiply_in_order(values, index, order, witness, table, worker):
        _ = sources
        multiply(values, index, order, witness, table, worker)

    def multiply_scattering(values, index, out_index, witness, table, worker):
        _ = sources
        multiply(values, index, (out_index,), witness, table, worker)

    def reduce_partials(values, index, order, witness, table, worker):
        _ = sources
        reduce(values, index, order, witness, table, worker)

    def launch(table, B, C, function, rest, values, index, order, workers):
        _ = sources
        address = _set_operands(table, B, C)
        for worker in prange(workers):
            _call(function, rest, values, index, order, address, worker)

    def launch_alone(table, B, C, function, rest, values, index, order, workers):
        _ = sources
        address = _set_operands(table, B, C)
        for worker in range(workers):
            _call(function, rest, values, index, order, address, worker)

    return multiply_in_order, multiply_scattering, reduce_partials, launch, launch_alone


_MULTIPLY, _SCATTER, _REDUCE, _LAUNCH, _LAUNCH_ALONE = _cached_functions(_digest_of_sources())


def _signature(dtype: str, index: str, order: str | None, lanes: int):
    number = getattr(types, dtype)
    return types.void(
        types.CPointer(number),
        types.CPointer(getattr(types, index)),
        types.voidptr if order is None else types.CPointer(getattr(types, order)),
        witness_type(number, lanes),
        types.int64,
        types.int64,
    )


@cache
def multiply_worker(dtype: str, index: str, order: str | None, lanes: int):
    """Compile (or load from Numba's cache) the worker for these types.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        Of values, B and C.
    index : {"uint8", "uint16"}
        Of the stored index of an entry.
    order : {"uint16", "uint32"} or None
        Of the visiting order; None when it is the stored order.
    lanes : int
        Columns of a tile.

    Returns
    -------
    numba.core.ccallback.CFunc
        ``void(values, index, order, witness, table, worker)``; its `address` is what a launcher wants.
    """
    return cfunc(_signature(dtype, index, order, lanes), cache=True)(_MULTIPLY)


@cache
def scatter_worker(dtype: str, index: str, out_index: str, lanes: int):
    """Compile the worker that scatters: as `multiply_worker`, with the output index in place of the order."""
    return cfunc(_signature(dtype, index, out_index, lanes), cache=True)(_SCATTER)


@cache
def reduce_worker(dtype: str, lanes: int):
    """Compile the worker of the second phase, with the arguments of `multiply_worker`'s."""
    return cfunc(_signature(dtype, "uint8", None, lanes), cache=True)(_REDUCE)


@cache
def launcher(dtype: str, parallel: bool):
    """Compile (or load) the function that starts the workers on Numba's threads, or on the calling one.

    Returns
    -------
    callable
        ``launch(table, B, C, function, rest, values, index, order, workers)``: two tables of words in one
        array, the C-contiguous operands, the address of a worker for the first table, that of one for the
        second or 0, three addresses more, and the number of workers.
    """
    operand = types.Array(getattr(types, dtype), 2, "C", readonly=True)
    result = types.Array(getattr(types, dtype), 2, "C")
    signature = types.void(types.Array(types.int64, 1, "C"), operand, result, *[types.int64] * 6)
    function = _LAUNCH if parallel else _LAUNCH_ALONE
    return njit(signature, parallel=parallel, nogil=True, cache=True)(function)
