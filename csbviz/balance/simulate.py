"""Play a work plan on P workers: who does what when, in units of work (nonzeros)."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from ..errors import OptionError
from .plan import WorkPlan, imbalance_of

__all__ = ["Timeline", "simulate"]


@dataclass(frozen=True, eq=False)
class Timeline:
    """When each CTA (an item of the plan and a tile of columns) runs, and on which worker.

    The unit of time is the work of one nonzero on one tile of columns.

    Attributes
    ----------
    item, tile, worker : int32[ctas]
        In the order in which the CTAs are launched.
    start, end : float64[ctas]
    workers : int
        Multiprocessor places, or threads.
    work : float64[ctas]
        ``end - start``.
    """

    item: np.ndarray
    tile: np.ndarray
    worker: np.ndarray
    start: np.ndarray
    end: np.ndarray
    workers: int

    @property
    def ctas(self) -> int:
        """Number of CTAs, G: items x tiles, or the items where each belongs to one tile."""
        return self.item.size

    @property
    def work(self) -> np.ndarray:
        return self.end - self.start

    @property
    def makespan(self) -> float:
        """Time T at which the last worker ends."""
        return float(self.end.max()) if self.ctas else 0.0

    @property
    def loads(self) -> np.ndarray:
        """Work of each worker, float64[workers]."""
        return np.bincount(self.worker, weights=self.work, minlength=self.workers)

    @property
    def imbalance(self) -> float:
        """λ = max / mean of the workers' loads."""
        return imbalance_of(self.loads)

    @property
    def efficiency(self) -> float:
        """1 / λ: the share of the workers' time that is spent working."""
        return 1.0 / self.imbalance

    @property
    def waves(self) -> int:
        """W = ⌈G / P⌉."""
        return -(-self.ctas // self.workers)

    @property
    def wave_efficiency(self) -> float:
        """(G / P) / W: the efficiency if all CTAs took the same time; 1.0 without CTAs."""
        return self.ctas / self.workers / self.waves if self.ctas else 1.0

    @property
    def tail_share(self) -> float:
        """Share of the makespan during which at least one worker has nothing left to do."""
        if self.makespan == 0:
            return 0.0
        finished = np.zeros(self.workers)
        np.maximum.at(finished, self.worker, self.end)
        return float(1.0 - finished.min() / self.makespan)

    @property
    def variation(self) -> float:
        """CoV = σ / μ of the CTAs' work; 0.0 without work."""
        mean = self.work.mean() if self.ctas else 0.0
        return float(self.work.std() / mean) if mean else 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """(max(Σw/P, max w), Σw/P + (1 − 1/P)·max w).

        No schedule is shorter than the first. A schedule that hands work to whoever is free is never longer
        than the second; a fixed assignment can be.
        """
        if not self.ctas:
            return 0.0, 0.0
        mean, longest = self.work.sum() / self.workers, self.work.max()
        return float(max(mean, longest)), float(mean + (1 - 1 / self.workers) * longest)


def simulate(
    plan: WorkPlan,
    workers: int | None = None,
    tile_n_count: int | None = None,
    *,
    fastest: str = "tile",
    fixed_cost: float = 0.0,
) -> Timeline:
    """Play `plan` on `workers` workers.

    A dynamic plan is played as a GPU's block scheduler does: CTAs start in launch order, each on the worker
    that is free first (the lowest number among equals). In a static plan every worker does its own items one
    after another, each for all tiles.

    Parameters
    ----------
    plan : WorkPlan
    workers : int, optional
        Places for CTAs (multiprocessors x resident CTAs each). By default ``plan.workers``, the only
        choice for a static plan.
    tile_n_count : int, optional
        Tiles of columns; CTAs = items x tiles. By default ``plan.tiles``, the only choice for a plan whose
        items belong to one tile each. All tiles count as equally wide.
    fastest : {"tile", "item"}
        What changes from one CTA to the next in launch order.
    fixed_cost : float
        What a CTA costs besides its nonzeros, in nonzeros.

    Returns
    -------
    Timeline

    Raises
    ------
    OptionError
        For a number below its least value, or other workers than a static plan has.
    """
    workers = plan.workers if workers is None else int(workers)
    tiles = plan.tiles if tile_n_count is None else int(tile_n_count)
    _validate(plan, workers, tiles, fastest, fixed_cost)
    items = np.arange(plan.items, dtype=np.int32)
    if plan.tile is not None:
        item, tile, tiles = items, plan.tile, 1
    elif fastest == "tile" or plan.static:
        item, tile = np.repeat(items, tiles), np.tile(np.arange(tiles, dtype=np.int32), plan.items)
    else:
        item, tile = np.tile(items, tiles), np.repeat(np.arange(tiles, dtype=np.int32), plan.items)
    cost = plan.work[item] + float(fixed_cost)
    if plan.static:
        worker = np.repeat(plan.item_worker, tiles)
        running = np.concatenate(([0.0], np.cumsum(cost)))
        start = running[:-1] - running[plan.worker_ptr[worker].astype(np.int64) * tiles]
    else:
        worker, start = _first_free(cost, workers)
    return Timeline(item, tile, worker, start, start + cost, workers)


def _validate(plan: WorkPlan, workers: int, tiles: int, fastest: str, fixed_cost: float) -> None:
    if workers < 1 or tiles < 1:
        raise OptionError(f"{workers} workers and {tiles} tiles were asked for; both must be at least 1.")
    if plan.static and workers != plan.workers:
        raise OptionError(
            f"The plan deals its items to {plan.workers} workers and cannot be played on {workers}."
        )
    if plan.tile is not None and tiles != plan.tiles:
        raise OptionError(f"The plan cuts {plan.tiles} tiles of columns and cannot be played with {tiles}.")
    if fastest not in ("tile", "item"):
        raise OptionError(f"fastest is {fastest!r}; it must be 'tile' or 'item'.")
    if not 0 <= fixed_cost < float("inf"):
        raise OptionError(f"fixed_cost is {fixed_cost}; it must be a number of nonzeros, 0 or more.")


def _first_free(cost: np.ndarray, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """List scheduling: each CTA in turn starts on the worker that is free first."""
    free = [(0.0, w) for w in range(workers)]  # a heap, being sorted
    worker, start = [], []
    for length in cost.tolist():
        at, w = free[0]
        worker.append(w)
        start.append(at)
        heapq.heapreplace(free, (at + length, w))
    return np.array(worker, dtype=np.int32), np.array(start, dtype=np.float64)
