"""Kernel times of a study's operating points, so that accuracy has a measured second axis."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from csbviz.bench.gpu_timing import release_memory
from csbviz.bench.jobs import build
from csbviz.bench.recordings import device_facts
from csbviz.bench.run import BenchRequest, bench_matrix
from csbviz.errors import OptionError
from csbviz.ops.devices import device_name, versions
from csbviz.pruning.study_points import DENSE, Point, layers_of, matrices, pruned_weights
from csbviz.tasks.registry import task_named
from csbviz.tasks.task import Task

__all__ = ["FORMATS", "measure_points", "times_of"]

FORMATS = ("csr", "csb", "dense")
_POINT = ("task", "method", "granularity", "options", "scope", "seed", "sparsity")


def measure_points(
    task: str | Task,
    weights: Mapping[str, np.ndarray],
    records: Sequence[Mapping[str, Any]],
    layers: Collection[str] | None = None,
    ns: Sequence[int] = (128,),
    device: str = "cpu",
    threads: int | None = None,
    min_time: float = 0.05,
    calibration: int = 512,
    turned: Collection[str] = (),
    progress: Callable[..., None] | None = None,
) -> dict[str, Any]:
    """Prune once more as the records say, and time the products of the pruned layers.

    Parameters
    ----------
    task : str or Task
    weights : mapping of str to numpy.ndarray
        Those that the study began with.
    records : sequence of mapping
        Of `csbviz.pruning.study.study`; one for each point is enough. A network that was trained after
        pruning has the same zeros as before its training, and is timed as such.
    layers : collection of str, optional
        Which layers to time; of those that the study pruned, the two with the most FLOPs otherwise.
    ns : sequence of int
        Columns of B.
    device : str
        "cpu" or "cuda".
    threads, min_time
        As in `BenchRequest`.
    calibration, turned
        As in `study`; the same as there.
    progress : callable, optional
        As in `study`.

    Returns
    -------
    dict
        "times": a dict for each point, layer and N; "device": what is known of it.
        A time is the median in microseconds of the fastest verified kernel of its format, named beside it;
        None where there is none, and "message" says why. "others_load" is the share of the processors that
        other programs took meanwhile, where it is known.

    Raises
    ------
    OptionError
        There is nothing to time.
    """
    task = task if isinstance(task, Task) else task_named(task)
    records = list(records)
    if not records:
        raise OptionError("there are no operating points to time; measure a study first.")
    found: list[dict[str, Any]] = []
    evidence: dict[Any, Any] = {}
    for index, record in enumerate(records):
        chosen = list(layers) if layers is not None else _largest(task, weights, record)
        point = Point(*(record[name] for name in ("method", "granularity", "options", "sparsity", "seed")))
        known = _evidence(task, weights, point, calibration, evidence)
        pruned, _ = pruned_weights(weights, point, record["scope"], record["layers"], known, turned)
        _say(progress, index / len(records), f"{point.method}, {point.granularity}", found, device)
        for name, matrix in matrices(pruned, chosen, turned):
            request = BenchRequest(
                ops=("A@B",), ns=tuple(ns), device=device, threads=threads, min_time=min_time
            )
            found += [{**_facts(record), "layer": name, **row} for row in _timed(matrix, request, name)]
    release_memory()
    _say(progress, 1.0, "Done", found, device)
    return {"times": found, "device": device_facts(device)}


def times_of(times: Iterable[Mapping[str, Any]], record: Mapping[str, Any]) -> dict[str, float] | None:
    """Add up the layers of one point.

    Returns
    -------
    dict or None
        "csr_us", "csb_us" and "dense_us"; None when one of them was not timed.
    """
    own = [time for time in times if all(time[name] == record[name] for name in _POINT)]
    sums = {}
    for name in (f"{kind}_us" for kind in FORMATS):
        if not own or any(time[name] is None for time in own):
            return None
        sums[name] = sum(time[name] for time in own)
    return sums


def _timed(matrix: np.ndarray, request: BenchRequest, name: str) -> list[dict[str, Any]]:
    from scipy.sparse import csr_matrix

    csr = csr_matrix(matrix)
    bench = bench_matrix(build(csr, request.device), request, name=name)
    rows = []
    for n in request.ns:
        row = {
            "rows": int(csr.shape[0]),
            "cols": int(csr.shape[1]),
            "nnz": int(csr.nnz),
            "n": n,
            "op": "A@B",
            "device": request.device,
            "device_name": device_name(request.device),
            "threads": request.threads,
        }
        for kind in FORMATS:
            own = [record for record in bench if record.format == kind and record.n == n]
            own = [record for record in own if record.precision == "fp32"] or own
            timed = [record for record in own if record.ok and record.median_us is not None]
            best = min(timed, key=lambda record: record.median_us, default=None)
            row[f"{kind}_us"] = None if best is None else float(best.median_us)
            row[f"{kind}_kernel"] = None if best is None else best.kernel
            if best is None:
                row["message"] = next((r.message for r in own if r.message), f"no {kind} kernel runs here")
        loads = [record.others_load for record in bench if record.n == n and record.others_load is not None]
        row["others_load"] = max(loads, default=None)
        row["when"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        row["versions"] = versions()
        rows.append(row)
    return rows


def _largest(task: Task, weights: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> list[str]:
    products = task.network(weights).products
    chosen = [name for name in layers_of(weights, record["layers"]) if name in products]
    return sorted(chosen, key=lambda name: -weights[name].size * products[name])[:2]


def _evidence(task, weights, point: Point, calibration: int, known: dict) -> Any:
    from csbviz.pruning.evidence import collect
    from csbviz.pruning.registry import METHODS

    needs = () if point.method == DENSE else METHODS[point.method].needs
    key = (tuple(needs), point.seed)
    if needs and key not in known:
        known.clear()
        known[key] = collect(task, task.network(weights), needs, calibration, int(point.seed))
    return known.get(key)


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in _POINT}


def _say(progress, fraction: float, message: str, found: list, device: str) -> None:
    if hasattr(progress, "wanted"):
        progress(fraction, message, partial={"times": list(found), "device": {}})
    elif progress is not None:
        progress(fraction, message)
