"""Recorded runs of the balance strategies on a GPU: which multiprocessor did what, and when."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FileFormatError, InputError
from ..formats.recorded_files import parse_recorded, read_recorded
from .plan import imbalance_of
from .simulate import Timeline
from .strategies import STRATEGIES

if TYPE_CHECKING:
    from .plan import WorkPlan

__all__ = [
    "KIND",
    "VERSION",
    "BalanceRecording",
    "RecordedRun",
    "as_run",
    "load_recording",
    "read_recording",
    "recorded_jobs",
    "recordings",
]

KIND, VERSION = "csbviz balance recording", 1

EXECUTIONS = {
    "grid": "a CTA an item",
    "ticket": "persistent CTAs draw tickets",
    "shares": "persistent CTAs with fixed shares",
}
"""What the ways of execution are called."""

_OPS = ("A@B", "A.T@B")
_MOST_MULTIPROCESSORS, _MOST_RUNS, _MOST_JOBS, _MOST_AT_ONCE, _MOST_LETTERS = 1024, 64, 100_000, 64, 600
_COLUMNS = ("multiprocessor", "item", "tile", "start_ns", "duration_ns")


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """One product, as the GPU did it.

    Attributes
    ----------
    strategy, execution : str
        A name in `STRATEGIES`, and one in `EXECUTIONS`.
    median_us : float
        Time of the product, measured without recording.
    planned_imbalance : float
        λ of the simulated plan.
    multiprocessors : int
        Of the device.
    multiprocessor, item, tile, nonzeros : int64[jobs]
        Where each job ran and what it was.
    start_ns, end_ns : int64[jobs]
        When, from the first start on.
    """

    strategy: str
    execution: str
    median_us: float
    planned_imbalance: float
    multiprocessors: int
    multiprocessor: np.ndarray
    item: np.ndarray
    tile: np.ndarray
    nonzeros: np.ndarray
    start_ns: np.ndarray
    end_ns: np.ndarray

    @property
    def title(self) -> str:
        """Strategy and execution, for people."""
        return f"{STRATEGIES[self.strategy].title}, {EXECUTIONS[self.execution]}"

    @property
    def timeline(self) -> Timeline:
        """The run in microseconds, a worker for each place of a CTA that was used.

        A multiprocessor's places lie side by side; one that did nothing is one worker.
        """
        place = _places(self.multiprocessor, self.start_ns, self.end_ns)
        used = np.ones(self.multiprocessors, dtype=np.int64)
        np.maximum.at(used, self.multiprocessor, place + 1)
        first = np.concatenate(([0], np.cumsum(used)))
        worker = (first[self.multiprocessor] + place).astype(np.int32)
        start, end = self.start_ns / 1e3, self.end_ns / 1e3
        item, tile = self.item.astype(np.int32), self.tile.astype(np.int32)
        return Timeline(item, tile, worker, start, end, int(first[-1]))

    @property
    def multiprocessor_loads(self) -> np.ndarray:
        """Microseconds in which each multiprocessor had something to do, float64[multiprocessors]."""
        return _busy_ns(self.multiprocessor, self.start_ns, self.end_ns, self.multiprocessors) / 1e3

    @property
    def imbalance(self) -> float:
        """λ = max / mean of `multiprocessor_loads`."""
        return imbalance_of(self.multiprocessor_loads)


@dataclass(frozen=True, eq=False)
class BalanceRecording:
    """Runs of one product with every strategy, on one device and day.

    Attributes
    ----------
    title, device_name, date : str
        The date as YYYY-MM-DD.
    multiprocessors : int
    matrix : dict
        "set", "method", "sparsity", "name", "shape", "nnz", "block_shape".
    op, kernel, note : str
        The operation, who computed it, and how times were read.
    n : int
        Columns of B.
    runs : tuple of RecordedRun
    """

    title: str
    device_name: str
    date: str
    multiprocessors: int
    matrix: dict[str, Any]
    op: str
    n: int
    kernel: str
    note: str
    runs: tuple[RecordedRun, ...]


def recordings(folder: Path | None = None) -> dict[str, Path]:
    """The files of recorded runs by name; none where they are not installed.

    Parameters
    ----------
    folder : Path, optional
        By default the recordings among the sample models.
    """
    if folder is None:
        folder = Path(__file__).resolve().parents[2] / "sample_models" / "recordings"
    return {path.stem: path for path in sorted(folder.glob("balance_*.json"))}


def load_recording(path: str | Path) -> BalanceRecording:
    """Read a file of recorded runs.

    Raises
    ------
    FileFormatError
        As `read_recording` does, and if it cannot be read.
    """
    return read_recording(read_recorded(path), Path(path).name)


def read_recording(data: bytes | str, name: str = "The recording") -> BalanceRecording:
    """Read recorded runs from the contents of a file; nothing in it is trusted.

    Parameters
    ----------
    data : bytes or str
        JSON.
    name : str
        How messages call it.

    Raises
    ------
    FileFormatError
        If it is no such file, or its lists do not fit together.
    """
    found = parse_recorded(data, name, "balance strategies", KIND, VERSION)
    try:
        return _recording(found)
    except KeyError as error:
        raise FileFormatError(f"{name} cannot be used: it has no {error}.") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise FileFormatError(f"{name} cannot be used: {error}.") from error


def _recording(data: dict[str, Any]) -> BalanceRecording:
    device, matrix, runs = data["device"], data["matrix"], data["runs"]
    multiprocessors = _count(device["multiprocessors"], _MOST_MULTIPROCESSORS)
    texts = {name: _text(data[name]) for name in ("title", "kernel", "note")}
    if data["op"] not in _OPS:
        raise ValueError(f"unknown operation {data['op']!r}")
    if not 1 <= len(runs) <= _MOST_RUNS:
        raise ValueError(f"it has {len(runs)} runs, not 1 to {_MOST_RUNS}")
    facts = {name: _text(value) for name, value in matrix.items() if isinstance(value, str)}
    facts |= {name: [_count(side) for side in matrix[name]] for name in ("shape", "block_shape")}
    if not len(facts["shape"]) == len(facts["block_shape"]) == 2:
        raise ValueError("a shape has not two sides")
    return BalanceRecording(
        device_name=_text(device["name"]),
        date=_text(data["when"])[:10],
        multiprocessors=multiprocessors,
        matrix=facts | {"nnz": _count(matrix["nnz"])},
        op=data["op"],
        n=_count(data["n"]),
        runs=tuple(_run(run, multiprocessors) for run in runs),
        **texts,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MOST_LETTERS:
        raise ValueError(f"{str(value)[:20]!r} is not a text of at most {_MOST_LETTERS} letters")
    return value


def _count(value: Any, most: int = 2**62) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{str(value)[:20]} is not a whole number up to {most}")
    return value


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
        raise ValueError(f"{str(value)[:20]} is not a positive number")
    return float(value)


def _run(data: dict[str, Any], multiprocessors: int) -> RecordedRun:
    columns = {name: _numbers(data[name]) for name in _COLUMNS}
    if len({column.shape for column in columns.values()}) != 1:
        raise ValueError("the lists of a run have different lengths")
    if data["strategy"] not in STRATEGIES or data["execution"] not in EXECUTIONS:
        raise ValueError(f"unknown strategy {data['strategy']!r} or execution {data['execution']!r}")
    work, where = _numbers(data["item_nonzeros"]), columns["multiprocessor"]
    if where.size and not where.max() < multiprocessors:
        raise ValueError("a job ran on a multiprocessor that the device does not have")
    if where.size and not columns["item"].max() < work.size:
        raise ValueError("a job is of an item that the plan does not have")
    duration = columns.pop("duration_ns")
    columns |= {"nonzeros": work[columns["item"]], "end_ns": columns["start_ns"] + duration}
    known = (
        data["strategy"],
        data["execution"],
        _positive(data["median_us"]),
        _positive(data["planned_imbalance"]),
    )
    run = RecordedRun(*known, multiprocessors, **columns)
    if _places(where, run.start_ns, run.end_ns).max(initial=0) >= _MOST_AT_ONCE:
        raise ValueError(f"a multiprocessor does more than {_MOST_AT_ONCE} jobs at once")
    return run


def _numbers(values: Any) -> np.ndarray:
    """A list of whole numbers from 0 on, none of them so large that a sum of two overflows."""
    found = np.asarray(values)
    if found.ndim != 1 or found.size > _MOST_JOBS or (found.size and found.dtype.kind not in "iu"):
        raise ValueError(f"a list is not of at most {_MOST_JOBS} whole numbers")
    found = found.astype(np.int64)
    if found.min(initial=0) < 0:
        raise ValueError("a number is negative: a job ends before it starts, or is no job of the plan")
    if found.max(initial=0) > 2**60:
        raise ValueError("a number is too large")
    return found


def recorded_jobs(record: np.ndarray, plan: WorkPlan) -> dict[str, list[int]]:
    """What the kernels record, as the lists of a run in a file, in the order of starts.

    Parameters
    ----------
    record : int64[..., 8]
        Of `plan`: see kernels/cuda/csb_spmm.cu; items, or tiles x items.
    plan : WorkPlan

    Raises
    ------
    InputError
        If a CTA did not multiply the entries that the plan gives its item.
    """
    tiles = plan.tile[None] if plan.tile is not None else np.arange(plan.tiles)[:, None]
    flat = record.reshape(-1, plan.items, 8)
    item = np.broadcast_to(np.arange(plan.items), flat.shape[:2]).ravel()
    tile = np.broadcast_to(tiles, flat.shape[:2]).ravel()
    processor, _, entries, _, _, _, begin, end = flat.reshape(-1, 8).T
    if not np.array_equal(entries, plan.work[item]):
        raise InputError("A recorded run did not multiply the entries of its plan.")
    first = begin.min() if begin.size else 0
    order = np.argsort(begin, kind="stable")
    columns = (processor, item, tile, begin - first, end - begin)
    lists = {name: column[order].tolist() for name, column in zip(_COLUMNS, columns, strict=True)}
    return {"item_nonzeros": plan.work.tolist(), **lists}


def as_run(
    strategy: str, execution: str, median_us: float, planned: float, multiprocessors: int, jobs: dict
) -> RecordedRun:
    """The run that `recorded_jobs` describes."""
    known = {"strategy": strategy, "execution": execution, "median_us": median_us}
    return _run({**known, "planned_imbalance": planned, **jobs}, multiprocessors)


def _places(multiprocessor: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A place on its multiprocessor for each job, the lowest that is free when it starts."""
    place = np.zeros(start.size, dtype=np.int64)
    free: dict[int, list[int]] = {}
    for i in np.lexsort((end, start)).tolist():
        ends = free.setdefault(int(multiprocessor[i]), [])
        found = next((k for k, until in enumerate(ends) if until <= start[i]), len(ends))
        if found == len(ends):
            ends.append(0)
        ends[found], place[i] = int(end[i]), found
    return place


def _busy_ns(multiprocessor, start, end, multiprocessors: int) -> np.ndarray:
    """Nanoseconds in which each multiprocessor had at least one job."""
    busy, until = np.zeros(multiprocessors), np.full(multiprocessors, -1)
    for i in np.argsort(start, kind="stable").tolist():
        where = multiprocessor[i]
        busy[where] += max(0, end[i] - max(start[i], until[where]))
        until[where] = max(until[where], end[i])
    return busy
