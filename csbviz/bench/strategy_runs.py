"""Every balance strategy on a GPU: verified, timed, and recorded job by job for the app's page Balance.

One kernel, csb_gather, executes them all, so that only the strategy differs. Each is timed with several
heights of an item and takes the best. A wrong result is not timed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from csbviz.balance import STRATEGIES, simulate
from csbviz.balance.recording import KIND, VERSION, as_run, recorded_jobs
from csbviz.bench.gpu_timing import device_info, time_cuda
from csbviz.bench.verify import ERROR_BOUNDS
from csbviz.formats import CSBMatrix
from csbviz.ops.registry import Prepared

__all__ = ["HEIGHTS", "StrategyCase", "record_strategies", "save_strategies", "variants"]

HEIGHTS = (8, 32, 64)
"""Rows of an item that are tried."""

WITH_TICKETS = ("swizzle", "equal_nnz", "split_k")
"""Strategies that persistent CTAs execute too: whole units, equal parts, and parts that are not."""

_NOTE = "begin and end of each job by the GPU's nanosecond timer, in one warm run that records"


def variants() -> list[tuple[str, str]]:
    """Strategy and execution of everything that is measured."""
    found = []
    for name in STRATEGIES:
        found.append((name, "shares" if name == "stream_k" else "grid"))
        if name in WITH_TICKETS:
            found.append((name, "ticket"))
    return found


class StrategyCase:
    """One matrix, operation and N on the current device, with a float64 result to compare with.

    Parameters
    ----------
    A : CSBMatrix
        float32.
    op : str
        "A@B" or "A.T@B".
    n : int
        Columns of B.
    dense64 : cupy.ndarray of float64, optional
        The matrix's cells on the device, where they are there already.
    """

    def __init__(self, A: CSBMatrix, op: str, n: int, dense64=None):
        import cupy

        self.A, self.op, self.n = A, op, n
        if dense64 is None:
            dense64 = cupy.asarray(A.to_dense(), cupy.float64)
        left = dense64 if op == "A@B" else dense64.T
        self.B = cupy.random.RandomState(n).standard_normal((left.shape[1], n), dtype=cupy.float32)
        self.reference = left @ self.B.astype(cupy.float64)
        self.norm = float(cupy.linalg.norm(self.reference))
        self.out = cupy.empty(self.reference.shape, cupy.float32)
        self.multiprocessors = device_info()["multiprocessors"]

    def prepare(self, strategy: str, execution: str, height: int, record: bool = False) -> Prepared:
        """The kernel made ready."""
        from csbviz.ops.cuda.rows import prepare_gather

        fixed = None if execution == "shares" else execution
        shape = {"window_rows": height, "execution": fixed, "record": record}
        return prepare_gather(self.A, self.op, self.n, balance=strategy, **shape)

    def error(self, run: Callable) -> float:
        """Relative error of a run into an output full of NaN."""
        import cupy

        self.out.fill(cupy.nan)
        run(self.B, self.out)
        error = float(cupy.linalg.norm(self.out - self.reference))
        return error / self.norm if self.norm else error

    def measure(self, strategy: str, execution: str, min_time: float) -> dict[str, Any]:
        """The best height of an item: verified, timed, and run once more with recording.

        Returns
        -------
        dict
            "status" ("ok", "wrong"), and what was measured and counted; of a wrong result "rel_error" and
            "height". "run" is the entry of a recording.
        """
        best, by_height = None, {}
        for height in HEIGHTS:
            prepared = self.prepare(strategy, execution, height)
            error = self.error(prepared.run)
            if not error <= ERROR_BOUNDS["fp32"]:
                return {"status": "wrong", "rel_error": str(error), "height": height}
            median = float(np.median(time_cuda(prepared.run, self.B, self.out, min_time=min_time)))
            by_height[height] = round(median, 3)
            if best is None or median < best[0]:
                best = median, height, prepared, error
        median, height, prepared, error = best
        plan, launch = prepared.plan, prepared.launch
        jobs, recorded = self.recorded(strategy, execution, height)
        planned = planned_imbalance(recorded, self.multiprocessors)
        run = as_run(strategy, execution, median, planned, self.multiprocessors, jobs)
        found = {
            "status": "ok",
            "median_us": round(median, 3),
            "by_height": by_height,
            "rel_error": float(f"{error:.3g}"),
            "params": prepared.params,
            "items": plan.items,
            "jobs": plan.jobs,
            "ctas": launch.ctas,
            "partials": plan.slots,
            "partial_bytes": plan.partial_bytes(height, 4),
            "plan_bytes": prepared.bytes - self.A.nbytes,
            "planned": round(run.planned_imbalance, 4),
            "measured": round(run.imbalance, 4),
        }
        found["run"] = {
            "strategy": strategy,
            "execution": execution,
            "params": found["params"],
            "median_us": found["median_us"],
            "deterministic": STRATEGIES[strategy].deterministic,
            "planned_imbalance": found["planned"],
            "measured_imbalance": found["measured"],
            "partial_bytes": found["partial_bytes"],
            **jobs,
        }
        return found

    def recorded(self, strategy: str, execution: str, height: int) -> tuple[dict, Prepared]:
        """What one warm run did, as the lists of a recording, and the product that did it."""
        prepared = self.prepare(strategy, execution, height, record=True)
        for _ in range(3):
            prepared.run(self.B, self.out)
        return recorded_jobs(prepared.launch.record.get(), prepared.plan), prepared


def planned_imbalance(prepared: Prepared, multiprocessors: int) -> float:
    """λ of the plan, played on the places for CTAs that the device has."""
    from csbviz.ops.cuda.rows_launch import resident_ctas

    plan, launch = prepared.plan, prepared.launch.launch
    if plan.static:
        return simulate(plan).imbalance
    # The grid runs tile by tile; tickets are drawn item by item.
    fastest = "tile" if prepared.params["execution"] == "ticket" else "item"
    return simulate(plan, resident_ctas(launch, multiprocessors), fastest=fastest).imbalance


def record_strategies(
    A: CSBMatrix,
    op: str,
    n: int,
    title: str,
    matrix: dict[str, Any],
    *,
    min_time: float = 0.004,
    progress: Callable[[float, str], None] = lambda fraction, message: None,
) -> tuple[dict[str, Any], list[str]]:
    """A recording of every strategy on one product.

    Parameters
    ----------
    A : CSBMatrix
        float32.
    op : str
        "A@B" or "A.T@B".
    n : int
        Columns of B.
    title : str
        What the recording is called.
    matrix : dict
        What is known of the matrix besides shape, nonzeros and blocks: "name", "set", "method", "sparsity".
    min_time : float
        Seconds of timing a variant.
    progress : callable
        ``progress(fraction, message)``.

    Returns
    -------
    recording : dict
        What `csbviz.balance.recording.load_recording` reads, as `save_strategies` writes it.
    problems : list of str
        A sentence for each strategy whose result was wrong; those are not in the recording.
    """
    case, runs, problems, ways = StrategyCase(A, op, n), [], [], variants()
    for index, (strategy, execution) in enumerate(ways):
        progress(index / len(ways), f"timing {STRATEGIES[strategy].title}, {execution}")
        found = case.measure(strategy, execution, min_time)
        if found["status"] != "ok":
            problems.append(
                f"{STRATEGIES[strategy].title} ({execution}) with items of {found['height']} rows is off by "
                f"{found['rel_error']}; at most {ERROR_BOUNDS['fp32']:g} is right."
            )
            continue
        runs.append(found["run"])
    sizes = {"shape": list(A.shape), "nnz": A.nnz, "block_shape": list(A.block_shape)}
    recording = {
        "kind": KIND,
        "version": VERSION,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_info(),
        "title": title,
        "matrix": matrix | sizes,
        "op": op,
        "n": n,
        "kernel": "csb_gather",
        "note": _NOTE,
        "runs": runs,
    }
    return recording, problems


def save_strategies(data: dict[str, Any], path: Path) -> None:
    """Write a recording, each list of numbers on one line."""
    text = re.sub(r",\n(?=-?\d)", ",", json.dumps(data, indent=0, ensure_ascii=False))
    path.write_text(text + "\n", encoding="utf-8")
