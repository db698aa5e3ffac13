"""Verify and time every CUDA contender over DLMC matrices: CSB, cuSPARSE's CSR algorithms, cuBLAS.

    python benchmarks/gpu_spmm.py --dlmc FOLDER --json gpu_spmm.json
    python benchmarks/gpu_spmm.py --dlmc FOLDER --quick

One run on one device; all contenders of a case are timed one after the other. A wrong result is not timed.
`--sweep` also times every launch shape of the CSB kernel and prints what its own choice loses.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import csbviz.ops.cuda.baselines
import csbviz.ops.cuda.rows  # noqa: F401  (both register their kernels)
from csbviz.bench.gpu_timing import device_info, time_cuda
from csbviz.bench.verify import ERROR_BOUNDS
from csbviz.formats import CSBMatrix, choose_block_shape, load_matrix
from csbviz.ops.registry import OPS, Kernel, get_kernel, kernels

COLUMNS = {"rn50": (196, 1568)}
"""Columns of B for convolutions (positions of one and of eight images); others take 128 and 512."""

OTHER_COLUMNS = (128, 512)
QUICK = ("q_fully_connected", "conv1_fully_connected", "group2_1_1")


def find_matrices(folder: Path, quick: bool) -> list[Path]:
    """Files of the collection; with `quick` three layers at 90 % of each set."""
    paths = sorted(folder.rglob("*.smtx*"))
    if quick:
        paths = [
            p
            for p in paths
            if p.parent.name == "0.9" and any(word in p.name for word in QUICK) and "decoder" not in p.name
        ]
    if not paths:
        sys.exit(f"{folder} holds no .smtx files; name the folder of the collection with --dlmc.")
    return paths


def describe(path: Path, folder: Path) -> dict:
    """Set, pruning method and target sparsity from the place in the folder."""
    model, method, target, name = ("", "", "", *path.relative_to(folder).parts)[-4:]
    return {"matrix": re.sub(r"\.smtx(\.gz)?$", "", name), "model": model, "method": method, "target": target}


class Case:
    """One matrix, operation and N on the device, with a float64 result to compare with."""

    def __init__(self, A: CSBMatrix, dense64, op: str, n: int, dtype: str):
        import cupy

        self.A, self.op, self.n = A, op, n
        left = dense64 if op == "A@B" else dense64.T
        rng = cupy.random.RandomState(n)
        self.B = rng.standard_normal((left.shape[1], n)).astype(dtype)
        self.reference = left @ self.B.astype(cupy.float64)
        self.norm = float(cupy.linalg.norm(self.reference))
        self.out = cupy.empty(self.reference.shape, dtype)

    def error(self, run) -> float:
        """Relative error of a run into an output full of NaN."""
        import cupy

        self.out.fill(cupy.nan)
        run(self.B, self.out)
        error = float(cupy.linalg.norm(self.out - self.reference))
        return error / self.norm if self.norm else error

    def measure(self, kernel: Kernel, mode: str, min_time: float, **params) -> dict:
        """Verify, then time; a record for the JSON."""
        start = time.perf_counter()
        prepared = kernel.prepare(self.A, self.op, self.n, threads=1, **params)
        seconds = time.perf_counter() - start
        precision = kernel.precision[self.A.dtype]
        record = {
            "kernel": kernel.name,
            "op": self.op,
            "n": self.n,
            "precision": precision,
            "balance": prepared.plan.strategy if prepared.plan else None,
            "params": prepared.params,
            "bytes": prepared.bytes,
            "prepare_us": round(seconds * 1e6, 1),
            "rel_error": self.error(prepared.run),
        }
        if not record["rel_error"] <= ERROR_BOUNDS[precision]:
            return record | {"status": "wrong", "rel_error": str(record["rel_error"])}
        samples = time_cuda(prepared.run, self.B, self.out, mode=mode, min_time=min_time)
        p25, median, p75 = (round(float(p), 3) for p in np.percentile(samples, (25, 50, 75)))
        return record | {
            "status": "ok",
            "median_us": median,
            "p25_us": p25,
            "p75_us": p75,
            "samples": len(samples),
        }


def run_matrix(path: Path, args) -> list[dict]:
    """All contenders on one file."""
    import cupy

    csr = load_matrix(path).astype(args.dtype)
    shape = choose_block_shape(csr.shape, csr.nnz, device="cuda")
    A = CSBMatrix.from_scipy(csr, block_shape=shape, order=args.order)
    dense64 = cupy.asarray(csr.toarray(), dtype=cupy.float64)
    info = describe(path, args.dlmc)
    facts = info | {
        "m": A.shape[0],
        "k": A.shape[1],
        "nnz": A.nnz,
        "sparsity": round(A.sparsity, 5),
        "block": list(shape),
    }
    records = []
    for n in args.n or COLUMNS.get(info["model"], OTHER_COLUMNS):
        for op in args.op:
            case = Case(A, dense64, op, n, args.dtype)
            for kernel in kernels(device="cuda", op=op, dtype=args.dtype):
                records.append(facts | case.measure(kernel, args.mode, args.min_time))
            if args.simple:
                csb = get_kernel("csb_cuda")
                records.append(
                    facts | case.measure(csb, args.mode, args.min_time, version=1) | {"kernel": "csb_cuda_v1"}
                )
            if args.sweep:
                records += [facts | record | {"kernel": "sweep"} for record in sweep(case, args)]
    return records


def sweep(case: Case, args) -> list[dict]:
    """Version 2 with every launch shape that suits the case, and with each balance strategy."""
    csb = get_kernel("csb_cuda")
    shapes = itertools.product((8, 16, 32), (8, 16), (8, 16, 32, 64), ("swizzle", "equal_nnz"))
    return [
        case.measure(
            csb, args.mode, args.min_time / 2, lanes=lanes, warps=warps, window_rows=rows, balance=balance
        )
        for lanes, warps, rows, balance in shapes
        if 4 * lanes < 2 * case.n
    ]


def geometric_mean(values) -> float:
    """NaN for no values."""
    values = np.asarray(list(values), dtype=float)
    return float(np.exp(np.log(values).mean())) if values.size else float("nan")


def by_case(records: list[dict]) -> dict[tuple, dict[str, dict]]:
    """Verified records by kernel, for each case; of several of one kernel the fastest."""
    cases: dict[tuple, dict[str, dict]] = {}
    for record in records:
        if record["status"] != "ok":
            continue
        key = tuple(record[name] for name in ("model", "method", "target", "matrix", "op", "n"))
        group = cases.setdefault(key, {})
        best = group.get(record["kernel"])
        if best is None or record["median_us"] < best["median_us"]:
            group[record["kernel"]] = record
    return cases


def best_csr(group: dict[str, dict]) -> dict:
    """cuSPARSE's fastest algorithm for the case."""
    return min((r for name, r in group.items() if name.startswith("cusparse")), key=lambda r: r["median_us"])


def print_summary(records: list[dict]) -> None:
    """Geometric means by operation, target sparsity and N, and the worst case against CSR."""
    cases = by_case(records)
    rows: dict[tuple, list] = {}
    for (_, _, target, _, op, n), group in cases.items():
        if "csb_cuda" in group:
            rows.setdefault((op, target, n), []).append(group)
    print("op     target     N cases   CSB us   CSR us  x CSR x fp32 x TF32")
    for (op, target, n), groups in sorted(rows.items()):
        print_row(op, target, n, groups)
    for op in OPS:
        print_row(op, "all", "", [group for key, groups in rows.items() if key[0] == op for group in groups])
    ratios = [
        (best_csr(g)["median_us"] / g["csb_cuda"]["median_us"], key)
        for key, g in cases.items()
        if "csb_cuda" in g
    ]
    if ratios:
        print(f"worst against CSR: {min(ratios)[0]:.2f}x at {' '.join(map(str, min(ratios)[1]))}")
    wrong = [r for r in records if r["status"] != "ok"]
    print(f"{len(cases)} cases, {len(wrong)} wrong results" + "".join(f"\n  WRONG {r}" for r in wrong[:5]))


def print_row(op: str, target: str, n, groups: list) -> None:
    """One line of the summary."""

    def ratio(name):
        return geometric_mean(g[name]["median_us"] / g["csb_cuda"]["median_us"] for g in groups if name in g)

    csb = geometric_mean(g["csb_cuda"]["median_us"] for g in groups)
    csr = geometric_mean(best_csr(g)["median_us"] for g in groups)
    loss = f"   {1 / ratio('sweep'):.2f}x the best shape's time" if "sweep" in groups[0] else ""
    print(
        f"{op:6} {target:6} {n!s:>5} {len(groups):5} {csb:8.1f} {csr:8.1f} {csr / csb:6.2f} "
        f"{ratio('cublas_fp32'):6.2f} {ratio('cublas_tf32'):6.2f}{loss}"
    )


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dlmc", type=Path, default=os.environ.get("DLMC_DIR"), help="folder of .smtx files")
    parser.add_argument("--json", type=Path, help="where the records go")
    parser.add_argument("--quick", action="store_true", help="three layers at 90 %% of each set")
    parser.add_argument("--every", type=int, default=1, help="take every i-th file")
    parser.add_argument("--n", type=int, nargs="+", help="columns of B (default: 128 512; 196 1568 for rn50)")
    parser.add_argument("--op", nargs="+", choices=OPS, default=OPS)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--order", choices=("row", "col", "morton"), default="row")
    parser.add_argument("--mode", choices=("warm", "cold"), default="warm")
    parser.add_argument("--min-time", type=float, default=0.01, help="seconds of timing a contender")
    parser.add_argument("--simple", action="store_true", help="time version 1 of the CSB kernel too")
    parser.add_argument("--sweep", action="store_true", help="time every launch shape of the CSB kernel too")
    args = parser.parse_args()
    if args.dlmc is None:
        parser.error("name the folder of matrices with --dlmc or DLMC_DIR")
    return args


def main() -> None:
    """Run, print the table, write the JSON."""
    args = parse_arguments()
    start = time.perf_counter()
    header = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_info(),
        "mode": args.mode,
    }
    header |= {"dtype": args.dtype, "order": args.order, "numpy": np.__version__}
    print(json.dumps(header["device"]))
    records: list[dict] = []
    for path in find_matrices(args.dlmc, args.quick)[:: args.every]:
        records += run_matrix(path, args)
    header |= {"clocks_after": device_info()["clocks"], "seconds": round(time.perf_counter() - start, 1)}
    if args.json:
        args.json.write_text(json.dumps(header | {"records": records}, indent=1) + "\n", encoding="utf-8")
    print_summary(records)
    print(f"{header['seconds']} s")


if __name__ == "__main__":
    main()
