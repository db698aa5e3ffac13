"""Verify and time every balance strategy on a GPU, on evenly and unevenly pruned layers of the DLMC.

    python -m benchmarks.balance_gpu --dlmc FOLDER --json docs/data/balance_gpu.json
    python -m benchmarks.balance_gpu --dlmc FOLDER --json FILE --append --sparsity 0.8
    python -m benchmarks.balance_gpu --dlmc FOLDER --record sample_models/recordings
    python -m benchmarks.balance_gpu --write        puts the tables between the markers of docs/balance.md

All strategies are executed by one kernel, csb_gather, so that only the strategy differs. Each is timed with
several heights of an item and takes the best. A wrong result is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.balance_gpu_tables import write_tables
from csbviz.balance import STRATEGIES, simulate
from csbviz.balance.recording import KIND, VERSION, as_run, recorded_jobs
from csbviz.bench.gpu_timing import device_info, time_cuda
from csbviz.bench.verify import ERROR_BOUNDS
from csbviz.formats import CSBMatrix, load_matrix
from csbviz.ops.registry import Prepared

_LAYERS = (
    "body_encoder_layer_0_ffn_conv1",
    "body_encoder_layer_0_ffn_conv2",
    "body_decoder_layer_1_self_attention_multihead_attention_q",
)
SETS = {
    "few": (
        "rn50/magnitude_pruning",
        ("bottleneck_2_block_group3_2_1", "bottleneck_1_block_group2_1_1"),
    ),
    "uneven": ("transformer/variational_dropout", _LAYERS),
    "even": ("transformer/magnitude_pruning", _LAYERS),
}
"""Kinds of layers, where they lie, and beginnings of their names: magnitude pruning leaves block rows alike,
variational dropout does not, and some convolutions have two or four block rows only."""

SPARSITIES = ("0.9", "0.8", "0.98")
COLUMNS = (128, 512, 2048)
BLOCK_SHAPE = (64, 64)
HEIGHTS = (8, 32, 64)
"""Rows of an item that are tried."""

WITH_TICKETS = ("swizzle", "equal_nnz", "split_k")
"""Strategies that persistent CTAs execute too: whole units, equal parts, and parts that are not."""

RECORDED = ("body_encoder_layer_0_ffn_conv1", "0.9", 512)


def variants() -> list[tuple[str, str]]:
    """Strategy and execution of everything that is measured."""
    found = []
    for name in STRATEGIES:
        found.append((name, "shares" if name == "stream_k" else "grid"))
        if name in WITH_TICKETS:
            found.append((name, "ticket"))
    return found


class Case:
    """One matrix, operation and N on the device, with a float64 result to compare with."""

    def __init__(self, A: CSBMatrix, dense64, op: str, n: int):
        import cupy

        self.A, self.op, self.n = A, op, n
        left = dense64 if op == "A@B" else dense64.T
        self.B = cupy.random.RandomState(n).standard_normal((left.shape[1], n), dtype=cupy.float32)
        self.reference = left @ self.B.astype(cupy.float64)
        self.norm = float(cupy.linalg.norm(self.reference))
        self.out = cupy.empty(self.reference.shape, cupy.float32)
        self._before: dict[tuple, float] = {}

    def prepare(self, strategy: str, execution: str, height: int, record: bool = False):
        """The kernel made ready."""
        from csbviz.ops.cuda.rows import prepare_gather

        fixed = None if execution == "shares" else execution
        shape = {"window_rows": height, "execution": fixed, "record": record}
        return prepare_gather(self.A, self.op, self.n, balance=strategy, **shape)

    def error(self, run) -> float:
        """Relative error of a run into an output full of NaN."""
        import cupy

        self.out.fill(cupy.nan)
        run(self.B, self.out)
        error = float(cupy.linalg.norm(self.out - self.reference))
        return error / self.norm if self.norm else error

    def measure(self, strategy: str, execution: str, min_time: float, multiprocessors: int) -> dict:
        """The best height of an item: verified, timed, and run once more with recording."""
        best, by_height = None, {}
        for height in HEIGHTS:
            prepared = self.prepare(strategy, execution, height)
            error = self.error(prepared.run)
            if not error <= ERROR_BOUNDS["fp32"]:
                return {"status": "wrong", "rel_error": str(error), "height": height}
            samples = time_cuda(prepared.run, self.B, self.out, min_time=min_time)
            median = float(np.median(samples))
            by_height[height] = round(median, 3)
            if best is None or median < best[0]:
                best = median, height, prepared, error
        median, height, prepared, error = best
        plan, launch = prepared.plan, prepared.launch
        jobs, recorded = self.recorded(strategy, execution, height)
        planned = planned_imbalance(recorded, multiprocessors)
        run = as_run(strategy, execution, median, planned, multiprocessors, jobs)
        return {
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

    def recorded(self, strategy: str, execution: str, height: int) -> tuple[dict, Prepared]:
        """What one warm run did, as the lists of a recording, and the product that did it."""
        prepared = self.prepare(strategy, execution, height, record=True)
        for _ in range(3):
            prepared.run(self.B, self.out)
        return recorded_jobs(prepared.launch.record.get(), prepared.plan), prepared


def planned_imbalance(prepared, multiprocessors: int) -> float:
    """λ of the plan, played on the places for CTAs that the device has."""
    from csbviz.ops.cuda.rows_launch import resident_ctas

    plan, launch = prepared.plan, prepared.launch.launch
    if plan.static:
        return simulate(plan).imbalance
    # The grid runs tile by tile; tickets are drawn item by item.
    fastest = "tile" if prepared.params["execution"] == "ticket" else "item"
    return simulate(plan, resident_ctas(launch, multiprocessors), fastest=fastest).imbalance


def load(path: Path):
    """The matrix in blocks, and its float64 cells on the device."""
    import cupy

    csr = load_matrix(path).astype("float32")
    return CSBMatrix.from_scipy(csr, block_shape=BLOCK_SHAPE), cupy.asarray(csr.toarray(), cupy.float64)


def find(folder: Path, kind: str, layer: str, sparsity: str) -> Path | None:
    """The file of a layer, or None."""
    return next((folder / SETS[kind][0] / sparsity).glob(f"{layer}*.smtx*"), None)


def layers(args) -> Iterator[tuple[str, str, str, Path]]:
    """Kind, name, sparsity and file of every layer; a layer of each kind comes before the next of any."""
    for sparsity in args.sparsity:
        for position in range(max(len(names) for _, names in SETS.values())):
            for kind, (_, names) in SETS.items():
                path = find(args.dlmc, kind, names[position], sparsity) if position < len(names) else None
                if path is not None:
                    yield kind, names[position], sparsity, path


def measure_all(args) -> dict:
    """Every strategy on every case; what is there is written after each layer."""
    start, device = time.perf_counter(), device_info()
    data = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "device": device}
    data |= {"heights": HEIGHTS, "block_shape": BLOCK_SHAPE, "records": []}
    if args.append:
        data["records"] = json.loads(args.json.read_text(encoding="utf-8"))["records"]
    for kind, layer, sparsity, path in layers(args):
        if time.perf_counter() - start > args.most_seconds:
            print("stopped: no time left", flush=True)
            break
        A, dense64 = load(path)
        if not A.nnz:
            continue
        facts = {"kind": kind, "matrix": layer, "target": sparsity, "m": A.shape[0]}
        facts |= {"k": A.shape[1], "nnz": A.nnz, "sparsity": round(A.sparsity, 5)}
        for n in args.n:
            case = Case(A, dense64, args.op, n)
            for strategy, execution in variants():
                named = {"op": args.op, "n": n, "strategy": strategy, "execution": execution}
                found = case.measure(strategy, execution, args.min_time, device["multiprocessors"])
                data["records"].append(facts | named | found)
        if args.json:
            args.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return data


def record_all(args, folder: Path) -> None:
    """Write a recording for the app: every strategy on one even and one uneven layer."""
    device = device_info()
    layer, sparsity, n = RECORDED
    for kind in ("even", "uneven"):
        A, dense64 = load(find(args.dlmc, kind, layer, sparsity))
        case, runs = Case(A, dense64, args.op, n), []
        for strategy, execution in variants():
            found = case.measure(strategy, execution, args.min_time, device["multiprocessors"])
            if found["status"] != "ok":
                print(kind, strategy, execution, found, flush=True)
                continue
            runs.append(record_run(case, strategy, execution, found, device["multiprocessors"]))
        model, method = SETS[kind][0].split("/")
        matrix = {"set": model, "method": method.replace("_", " "), "sparsity": sparsity, "name": layer}
        matrix |= {"shape": list(A.shape), "nnz": A.nnz, "block_shape": list(BLOCK_SHAPE)}
        data = {
            "kind": KIND,
            "version": VERSION,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": device,
            "title": f"{kind.capitalize()}: {model}, {method.replace('_', ' ')}, {sparsity}",
            "matrix": matrix,
            "op": args.op,
            "n": n,
            "kernel": "csb_gather",
            "note": "begin and end of each job by the GPU's nanosecond timer, in one warm run that records",
            "runs": runs,
        }
        folder.mkdir(parents=True, exist_ok=True)
        text = re.sub(r",\n(?=\d)", ",", json.dumps(data, indent=0, ensure_ascii=False))
        (folder / f"balance_{kind}.json").write_text(text + "\n", encoding="utf-8")


def record_run(case: Case, strategy: str, execution: str, found: dict, multiprocessors: int) -> dict:
    """One entry of a recording."""
    jobs, prepared = case.recorded(strategy, execution, found["params"]["window_rows"])
    planned = planned_imbalance(prepared, multiprocessors)
    run = as_run(strategy, execution, found["median_us"], planned, multiprocessors, jobs)
    return {
        "strategy": strategy,
        "execution": execution,
        "params": found["params"],
        "median_us": found["median_us"],
        "deterministic": STRATEGIES[strategy].deterministic,
        "planned_imbalance": round(run.planned_imbalance, 4),
        "measured_imbalance": round(run.imbalance, 4),
        "partial_bytes": found["partial_bytes"],
        **jobs,
    }


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dlmc", type=Path, default=os.environ.get("DLMC_DIR"), help="folder of .smtx files")
    parser.add_argument("--json", type=Path, help="where the measurements go")
    parser.add_argument("--append", action="store_true", help="keep the measurements that are there")
    parser.add_argument("--record", type=Path, help="folder for the recordings of the app")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/balance.md")
    parser.add_argument("--op", choices=("A@B", "A.T@B"), default="A@B")
    parser.add_argument("--n", type=int, nargs="+", default=COLUMNS)
    parser.add_argument("--sparsity", nargs="+", default=SPARSITIES)
    parser.add_argument("--min-time", type=float, default=0.004, help="seconds of timing a variant")
    parser.add_argument("--most-seconds", type=float, default=1e9, help="take no further matrix after these")
    args = parser.parse_args()
    if args.dlmc is None and not args.write:
        parser.error("name the folder of matrices with --dlmc or DLMC_DIR")
    args.dlmc = args.dlmc and Path(args.dlmc)
    return args


def main() -> int:
    """Measure, record, or write the tables."""
    args = parse_arguments()
    if args.write:
        write_tables()
        return 0
    if args.record:
        record_all(args, args.record)
        return 0
    data = measure_all(args)
    wrong = [r for r in data["records"] if r["status"] != "ok"]
    print(f"{len(data['records'])} measurements, {len(wrong)} wrong", *wrong[:5], sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
