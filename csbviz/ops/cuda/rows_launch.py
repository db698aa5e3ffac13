"""Which launch shape a CSB product on a GPU takes: the one that a small cost model predicts to be fastest."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from csbviz.ops.cuda.module import Function
from csbviz.ops.cuda.settings import given

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = [
    "CUTTING",
    "EXECUTIONS",
    "LANES",
    "TUNABLES",
    "V1_ROWS",
    "Launch",
    "choose_launch",
    "instantiations",
    "plan_workers",
    "predict_us",
    "resident_ctas",
]

LANES = (1, 8, 16, 32)
"""Lanes that share a row in version 2; a tile is four times as many columns."""

V1_ROWS = 32
"""Rows of a window in version 1; the same number as in the source."""

EXECUTIONS = ("grid", "ticket")
"""A CTA an item and tile, or CTAs that stay and draw tickets. Stream-K's CTAs stay with a share."""

TUNABLES = {
    "lanes": LANES,
    "warps": (8, 16),
    "window_rows": (8, 16, 32, 64),
    "execution": EXECUTIONS,
}
"""Parameters of version 2 and the values worth trying."""

CUTTING = ("equal_nnz", "split_k", "stream_k")
"""Strategies that make as many pieces as fill the device."""

_THREADS_RESIDENT = 1024
"""Threads that a multiprocessor holds of version 2, which takes up to 64 of its 65536 registers a thread."""

_MOST_ORDERS = 4
"""Most different ways in which stream-K may cut the same unit in different tiles; each needs a row order."""


def instantiations() -> tuple[Function, ...]:
    """Every instantiation of csb_spmm.cu that the launcher can ask for."""
    dtypes, indices, pointers = ("float32", "float64"), ("uint8", "uint16"), ("int32", "int64")
    gathering = ("csb_spmm_v2", "csb_spmm_v2_persistent")
    arguments = {
        "csb_spmm_v1": product(dtypes, indices, indices, pointers),
        "csb_add_partials": product(dtypes),
        **{name: product(dtypes, indices, pointers, LANES, (1, 4)) for name in gathering},
    }
    return tuple(Function("csb_spmm.cu", name, a) for name, all_of in arguments.items() for a in all_of)


class Launch(NamedTuple):
    """Shape of a launch of version 2.

    Attributes
    ----------
    lanes : int
        Lanes that share a row.
    warps : int
        Warps of a CTA.
    window_rows : int
        Output rows of an item, at most those of a block.
    tile_n : int
        Columns of an item.
    """

    lanes: int
    warps: int
    window_rows: int
    tile_n: int


class Costs(NamedTuple):
    """Microseconds that the parts of a launch take.

    Fitted on an H100 to 64 products with matrices of the DLMC at 70-98 % sparsity, 32 or 48 launch shapes
    each: the prediction is off by 16 % (root mean square of the log), and the shape that it prefers takes
    1.08 times as long as the best one, in the geometric mean.
    """

    launch: float = 0.79
    cta: float = 1.98  # from the start of a CTA to its first product
    stage: float = 0.16  # an entry a thread, copied to shared memory
    step: float = 0.053  # an entry of a row, by a warp that gives all its lanes to it
    row: float = 0.26  # a row of a warp
    gather: float = 5.8  # a million entries read, once a tile
    traffic: float = 1.0  # a million entries times lanes, that is 16 MB of B through the L1 caches
    output: float = 2.2  # a million elements of C
    fix_up: float = 1.0  # the last CTA of a unit waits for its arrival and adds
    partials: float = 2.2  # a million elements of partial sums


_COSTS = Costs()


def choose_launch(
    A: CSBMatrix, transpose: bool, n: int, multiprocessors: int, balance: str = "auto", **wanted: int | None
) -> tuple[Launch, str]:
    """Launch shape and balance strategy for a product.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    transpose : bool
        Whether the product is with its transpose.
    n : int
        Columns of B.
    multiprocessors : int
        Of the device.
    balance : str
        A strategy's name, or "auto".
    **wanted : int or None
        Parameters of `TUNABLES` that the caller sets; None and absent ones are chosen.

    Raises
    ------
    OptionError
        If a parameter has a value that the kernel does not offer.
    """
    wanted = given(wanted, TUNABLES)
    unit_rows = A.block_shape[1 if transpose else 0]
    lengths = _row_lengths(A, transpose)
    # Cutting a unit costs partial sums: cut only where it pays.
    strategies = ("swizzle", "equal_nnz") if balance == "auto" else (balance,)
    best = min(
        product(_candidates(n, unit_rows, wanted), strategies),
        key=lambda pair: predict_us(lengths, pair[0], n, multiprocessors, cut=pair[1] in CUTTING),
    )
    return best


def _candidates(n: int, unit_rows: int, wanted: dict) -> list[Launch]:
    """The shapes that suit the product: no tile of which half would be empty, no window beyond a block."""
    # A tile of four columns for very narrow B; else at least 32, so that rows of B are read in whole sectors.
    fitting = (
        (1,) if n <= 4 else [lanes for lanes in LANES if lanes > 1 and (lanes == 8 or 4 * lanes < 2 * n)]
    )
    choices = {"lanes": fitting} | {name: TUNABLES[name] for name in ("warps", "window_rows")}
    for name in choices:
        if wanted.get(name) is not None:
            choices[name] = (wanted[name],)
    windows = sorted({min(rows, unit_rows) for rows in choices["window_rows"]})
    return [
        Launch(lanes, warps, rows, 4 * lanes)
        for lanes, warps, rows in product(choices["lanes"], choices["warps"], windows)
    ]


def _row_lengths(A: CSBMatrix, transpose: bool) -> np.ndarray:
    """Entries of each row of the product's matrix, int64[units, rows of a unit], kept with the matrix."""
    key = ("row_lengths", transpose)
    if key not in A.cache:
        view = A.T if transpose else A
        units, unit_rows = view.grid[0], view.block_shape[0]
        lengths = np.bincount(view.coordinates()[0], minlength=units * unit_rows)
        A.cache[key] = lengths.reshape(units, unit_rows)
    return A.cache[key]


def resident_ctas(launch: Launch, multiprocessors: int) -> int:
    """CTAs of version 2 that the device holds at a time."""
    return multiprocessors * max(1, _THREADS_RESIDENT // (32 * launch.warps))


def plan_workers(launch: Launch, strategy: str, n: int, multiprocessors: int) -> int:
    """Workers that a plan is made for.

    Stream-K's are the CTAs that the device holds, or a few less: with P workers and T tiles a unit is cut in
    T / gcd(P, T) ways, each of which costs two bytes an entry. Other plans are made for two CTAs a
    multiprocessor.
    """
    if strategy != "stream_k":
        return 2 * multiprocessors
    most, tiles = resident_ctas(launch, multiprocessors), max(1, -(-n // launch.tile_n))
    few = (p for p in range(most, 0, -1) if tiles // math.gcd(p, tiles) <= _MOST_ORDERS)
    return next(few, most)


def predict_us(lengths: np.ndarray, launch: Launch, n: int, multiprocessors: int, cut: bool) -> float:
    """Microseconds that version 2 should take.

    Parameters
    ----------
    lengths : numpy.ndarray
        int[units, rows of a unit]: entries of each row.
    launch : Launch
        The shape.
    n : int
        Columns of B.
    multiprocessors : int
        Of the device.
    cut : bool
        Whether units are cut into as many pieces as fill the device.

    Notes
    -----
    The time is bound by three things that overlap in part, hence their cubic mean: the CTAs' average load,
    the heaviest CTA, and what all CTAs move through the caches.
    """
    tiles = max(1, -(-n // launch.tile_n))
    windows = lengths.reshape(-1, launch.window_rows).astype(float)
    entries, longest = windows.sum(axis=1), windows.max(axis=1, initial=0)
    total, slots = float(entries.sum()), 0.0
    pieces = np.ones(entries.size)
    if cut and total:
        parts = -(-plan_workers(launch, "equal_nnz", n, multiprocessors) // tiles)
        pieces = np.maximum(1.0, np.ceil(entries * parts / total + 0.5))
        slots = float(pieces.sum()) - pieces.size
        entries, longest = entries / pieces, longest / pieces

    c = _COSTS
    resident = resident_ctas(launch, multiprocessors)
    rows = launch.window_rows / launch.warps
    steps = np.maximum(longest, entries / launch.warps) * launch.lanes / 32
    load = c.cta + c.row * rows + c.stage * entries / (32 * launch.warps) + c.step * steps
    average = float((load * pieces).sum()) * tiles / resident
    heaviest = float(load.max(initial=0.0))
    moved = total * tiles * (c.gather + c.traffic * launch.lanes) + c.output * lengths.size * n
    extra = c.fix_up + c.partials * slots * launch.window_rows * n / 1e6 if cut else 0.0
    return c.launch + extra + (average**3 + heaviest**3 + (moved / 1e6) ** 3) ** (1 / 3)
