"""The frozen work plan: which worker multiplies which entries of which blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, OptionError

if TYPE_CHECKING:
    from ..formats import CSBMatrix

__all__ = ["WorkPlan", "block_counts", "imbalance_of"]

_ITEM_FIELDS = {
    "unit": np.int32,
    "block_begin": np.int32,
    "block_end": np.int32,
    "entry_begin": np.int64,
    "entry_end": np.int64,
    "slot": np.int32,
    "work": np.int64,
}


def imbalance_of(loads: np.ndarray) -> float:
    """Return λ = max / mean of `loads`; 1.0 when there is nothing to do."""
    total = loads.sum() if loads.size else 0
    return float(loads.max() * loads.size / total) if total else 1.0


@dataclass(frozen=True, eq=False)
class WorkPlan:
    """Who multiplies what: the entries of a CSB matrix cut into items of work.

    A *unit* is a block row of the matrix the product sees: a block row of the stored matrix for ``A @ B``,
    a block column for ``A.T @ B``; or, with `unit_rows`, a part of one. An *item* is a run of consecutive
    entries of one unit. The first item of a unit *owns* the unit's output rows and overwrites them; further
    items of the unit each write a *partial* of the same size, which are added in slot order afterwards.
    Nothing is added atomically, so the result is the same in every run.

    Where the columns are cut into tiles, every item runs once a tile; or, with `tile`, each item belongs to
    one tile, each tile of a unit has an owner of its own, and a partial is as wide as a tile.

    Attributes
    ----------
    strategy : str
        Name of the strategy in ``STRATEGIES`` that made the plan.
    transpose : bool
        True when the plan is for the transposed product of the matrix it was made from.
    workers : int
        Threads of a CPU, or CTAs that a GPU holds at a time.
    tile_n, n : int or None
        Columns of B and C that one CTA handles, and all of them; None when the columns are not cut.
    unit : int32[items]
        Output block row of the view (a block column of the stored matrix when `transpose`), or part of one.
    block_begin, block_end : int32[items]
        Range of blocks along the unit; empty for an item without work.
    entry_begin, entry_end : int64[items]
        First entry inside the first block, and one past the last entry inside the last block, as positions in
        the block's own order of entries, of which those in the unit's rows count. They are 0 and that block's
        count unless a cut falls inside a block.
    slot : int32[items]
        -1 when the item owns its unit's output rows, else the partial that it writes.
    work : int64[items]
        Nonzeros of the item.
    worker_ptr : int32[workers + 1] or None
        Items ``worker_ptr[w]:worker_ptr[w + 1]`` belong to worker w. None: items are taken in order by
        whoever is free, as a GPU's block scheduler does.
    slot_unit : int32[slots]
        The unit of each partial, in ascending order.
    tile : int32[items] or None
        The tile of columns of each item; None when every item runs once for every tile.
    unit_rows : int or None
        Output rows of a unit where it is a part of a block row; None when it is a whole one.

    Notes
    -----
    Treat the arrays as constants: plans are kept and shared. Every unit, also an empty one, has exactly one
    owner, so all output is written. `check` compares a plan with a matrix.
    """

    strategy: str
    transpose: bool
    workers: int
    tile_n: int | None
    n: int | None
    unit: np.ndarray
    block_begin: np.ndarray
    block_end: np.ndarray
    entry_begin: np.ndarray
    entry_end: np.ndarray
    slot: np.ndarray
    work: np.ndarray
    worker_ptr: np.ndarray | None
    slot_unit: np.ndarray
    tile: np.ndarray | None = None
    unit_rows: int | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise OptionError(f"A plan has {self.workers} workers; it needs at least 1.")
        self._check_arrays()
        self._check_tile()
        self._check_slots()
        self._check_worker_ptr()

    def _check_arrays(self) -> None:
        for name, dtype in _ITEM_FIELDS.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != self.unit.shape or array.ndim != 1:
                raise InputError(
                    f"A plan's {name} is {array.dtype}{list(array.shape)}; "
                    f"it needs {np.dtype(dtype)}[{self.unit.size}], one value an item."
                )
        if self.items == 0:
            return
        if min(self.unit.min(), self.block_begin.min(), self.entry_begin.min(), self.work.min()) < 0:
            raise InputError("A plan has a negative unit, block, entry or count of nonzeros.")
        if (self.block_end < self.block_begin).any():
            raise InputError("A plan has an item whose last block comes before its first.")

    def _check_tile(self) -> None:
        if self.tile is None:
            return
        if self.tile.dtype != np.int32 or self.tile.shape != self.unit.shape:
            raise InputError(
                f"A plan's tile is {self.tile.dtype}{list(self.tile.shape)}; "
                f"it needs int32[{self.unit.size}], one value an item."
            )
        if self.items and not 0 <= self.tile.min() <= self.tile.max() < self.tiles:
            raise InputError(f"A plan has an item of a tile that is not one of its {self.tiles}.")

    def _check_slots(self) -> None:
        partial = self.slot >= 0
        if self.slot_unit.dtype != np.int32 or self.slot_unit.shape != (int(partial.sum()),):
            raise InputError(
                f"A plan's slot_unit is {self.slot_unit.dtype}{list(self.slot_unit.shape)}; "
                f"it needs int32[{int(partial.sum())}], one value a partial."
            )
        if (np.diff(self.slot_unit) < 0).any():
            raise InputError("A plan's partials are not sorted by unit.")
        slots = self.slot[partial]
        if not np.array_equal(np.sort(slots), np.arange(slots.size)):
            raise InputError("A plan's partials are not numbered 0, 1, 2, …, each written by one item.")
        if not np.array_equal(self.slot_unit[slots], self.unit[partial]):
            raise InputError("A plan's slot_unit names another unit than the item that writes the partial.")

    def _check_worker_ptr(self) -> None:
        pointers = self.worker_ptr
        if pointers is None:
            return
        if pointers.dtype != np.int32 or pointers.shape != (self.workers + 1,):
            raise InputError(
                f"A plan's worker_ptr is {pointers.dtype}{list(pointers.shape)}; "
                f"it needs int32[{self.workers + 1}], workers + 1 values."
            )
        if pointers[0] != 0 or pointers[-1] != self.items or (np.diff(pointers) < 0).any():
            raise InputError(f"A plan's worker_ptr must rise from 0 to {self.items}, the number of items.")

    @property
    def items(self) -> int:
        """Pieces of work."""
        return self.unit.size

    @property
    def jobs(self) -> int:
        """What is done in one go: an item and a tile of columns."""
        return self.items * (self.tiles if self.tile is None else 1)

    @property
    def slots(self) -> int:
        """Partials that the second phase adds."""
        return self.slot_unit.size

    @property
    def units(self) -> int:
        """Block rows of the view, or parts of them; each has one owning item (one a tile, with `tile`)."""
        return (self.items - self.slots) // (1 if self.tile is None else self.tiles)

    @property
    def static(self) -> bool:
        """True when each worker's items are fixed beforehand."""
        return self.worker_ptr is not None

    @property
    def tiles(self) -> int:
        """Tiles of N columns, ⌈n / tile_n⌉; 1 when the columns are not cut."""
        if self.n is None or self.tile_n is None:
            return 1
        return max(1, -(-self.n // self.tile_n))

    @property
    def nnz(self) -> int:
        """Nonzeros of the matrix."""
        return int(self.work.sum()) // (1 if self.tile is None else self.tiles)

    @property
    def item_worker(self) -> np.ndarray | None:
        """Worker of each item, int32[items]; None for a dynamic plan."""
        if self.worker_ptr is None:
            return None
        return np.repeat(np.arange(self.workers, dtype=np.int32), np.diff(self.worker_ptr))

    @property
    def worker_loads(self) -> np.ndarray | None:
        """Nonzeros of each worker, int64[workers]; None for a dynamic plan."""
        if self.worker_ptr is None:
            return None
        running = np.concatenate(([0], np.cumsum(self.work)))
        return np.diff(running[self.worker_ptr])

    @property
    def imbalance(self) -> float:
        """λ = max / mean of the workers' loads of a static plan, of the items' work of a dynamic one."""
        loads = self.worker_loads
        return imbalance_of(self.work if loads is None else loads)

    @property
    def efficiency(self) -> float:
        """1 / λ."""
        return 1.0 / self.imbalance

    @property
    def nbytes(self) -> int:
        """Bytes of the plan's arrays, which a kernel reads besides the matrix."""
        arrays = [getattr(self, name) for name in (*_ITEM_FIELDS, "slot_unit", "worker_ptr", "tile")]
        return sum(array.nbytes for array in arrays if array is not None)

    @property
    def slot_tile(self) -> np.ndarray:
        """Tile of each partial, int32[slots]; all 0 where an item runs once for every tile."""
        tiles = np.zeros(self.slots, dtype=np.int32)
        if self.tile is not None:
            partial = self.slot >= 0
            tiles[self.slot[partial]] = self.tile[partial]
        return tiles

    def reduction(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what is added to what owners wrote.

        Returns
        -------
        units : int32[k]
            The units that have partials, ascending; with `tile`, once for each tile that has some.
        slot_ptr : int32[k + 1]
            Partials ``slot_ptr[i]:slot_ptr[i + 1]`` are added, in this order, to the rows of ``units[i]``.
        """
        group = self.slot_unit.astype(np.int64) * self.tiles + self.slot_tile
        _, first = np.unique(group, return_index=True)
        return self.slot_unit[first], np.append(first, self.slots).astype(np.int32)

    def partial_bytes(self, unit_rows: int, itemsize: int) -> int:
        """Bytes of the partials of a product.

        Parameters
        ----------
        unit_rows : int
            Output rows of a unit.
        itemsize : int
            Bytes of a value.
        """
        columns = self.n if self.tile is None else self.tile_n
        return self.slots * unit_rows * (columns or 0) * itemsize

    def entry_ranges(self, A: CSBMatrix) -> tuple[np.ndarray, np.ndarray]:
        """Return each item's range in the sequence of entries, unit by unit and block by block.

        Parameters
        ----------
        A : CSBMatrix
            The matrix the plan was made from (not its transpose, when the plan is transposed).

        Returns
        -------
        begin, end : int64[items]
            The positions count entries as the plan visits them; for a transposed plan this is not the order
            in which they are stored.
        """
        counts = block_counts(A, self.transpose, self.unit_rows)
        running = np.concatenate(([0], np.cumsum(counts.ravel(), dtype=np.int64)))
        row = self.unit.astype(np.int64) * counts.shape[1]
        last = np.maximum(self.block_end - 1, self.block_begin)
        filled = self.block_end > self.block_begin
        begin = running[row + self.block_begin] + self.entry_begin
        end = np.where(filled, running[np.minimum(row + last, running.size - 1)] + self.entry_end, begin)
        return begin, end

    def check(self, A: CSBMatrix) -> None:
        """Verify that the plan covers every entry of `A` exactly once and that every unit has one owner.

        With `tile`, once for each tile.

        Parameters
        ----------
        A : CSBMatrix
            The matrix the plan was made from.

        Raises
        ------
        InputError
            With one sentence on the first thing that is wrong.
        """
        counts = block_counts(A, self.transpose, self.unit_rows)
        units, blocks = counts.shape
        if self.items and (self.unit.max() >= units or self.block_end.max() > blocks):
            raise InputError(
                f"The plan reaches unit {self.unit.max()} and block {self.block_end.max() - 1}; "
                f"the matrix has {units} units of {blocks} blocks."
            )
        tile, tiles = (0, 1) if self.tile is None else (self.tile.astype(np.int64), self.tiles)
        owners = np.bincount((tile * units + self.unit)[self.slot < 0], minlength=units * tiles)
        if (owners != 1).any():
            wrong = int(np.flatnonzero(owners != 1)[0])
            where = f"Unit {wrong % units}" + (f" of tile {wrong // units}" if tiles > 1 else "")
            raise InputError(f"{where} has {owners[wrong]} owning items; it needs exactly 1.")
        self._check_cuts(counts)
        begin, end = self.entry_ranges(A)
        if not np.array_equal(end - begin, self.work):
            wrong = int(np.flatnonzero(end - begin != self.work)[0])
            raise InputError(
                f"Item {wrong} says {self.work[wrong]} nonzeros and covers {end[wrong] - begin[wrong]}."
            )
        _check_cover(begin + tile * counts.sum(), end + tile * counts.sum(), counts.sum() * tiles)

    def _check_cuts(self, counts: np.ndarray) -> None:
        filled = self.block_end > self.block_begin
        unit = self.unit[filled]
        first = counts[unit, self.block_begin[filled]]
        last = counts[unit, self.block_end[filled] - 1]
        begin, end = self.entry_begin[filled], self.entry_end[filled]
        if (begin > first).any() or (end > last).any() or (end < 0).any():
            raise InputError("An item's cut lies outside of the block that it cuts.")


def _check_cover(begin: np.ndarray, end: np.ndarray, total: int) -> None:
    """Every position in [0, total) lies in one of the ranges."""
    filled = end > begin
    order = np.argsort(begin[filled], kind="stable")
    edges = np.append(begin[filled][order], total)
    ends = np.concatenate(([0], end[filled][order]))
    if not np.array_equal(edges, ends):
        wrong = int(np.flatnonzero(edges != ends)[0])
        what = "nobody" if edges[wrong] > ends[wrong] else "two items"
        place = min(edges[wrong], ends[wrong])
        raise InputError(f"Entry {place} in visiting order is covered by {what}; it needs one item.")


def block_counts(A: CSBMatrix, transpose: bool, unit_rows: int | None = None) -> np.ndarray:
    """Return nonzeros of the blocks as int64[units, blocks along a unit].

    Parameters
    ----------
    A : CSBMatrix
        The matrix, or a transposed view of it.
    transpose : bool
        Count for the product with its transpose.
    unit_rows : int, optional
        Rows of a unit; by default those of a block. Units without a row of the matrix are left out.

    Raises
    ------
    OptionError
        If a block's rows are no multiple of `unit_rows`.
    """
    view = A.T if transpose else A
    if unit_rows is None or unit_rows == view.block_shape[0]:
        return np.ascontiguousarray(view.block_nnz(), dtype=np.int64)
    if unit_rows < 1 or view.block_shape[0] % unit_rows:
        raise OptionError(
            f"unit_rows is {unit_rows}; it must divide the {view.block_shape[0]} rows of a block."
        )
    units, blocks = -(-view.shape[0] // unit_rows), view.grid[1]
    rows, cols = view.coordinates()
    key = rows // unit_rows * blocks + cols // view.block_shape[1]
    return np.bincount(key, minlength=units * blocks).reshape(units, blocks).astype(np.int64, copy=False)
