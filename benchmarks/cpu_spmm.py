"""Time the CPU kernel against MKL's CSR, SciPy's CSR and the dense product on real pruned layers.

    python benchmarks/cpu_spmm.py --output docs/data/cpu_spmm.json

reads every matrix of the folders 0.8, 0.9 and 0.95 under ``$DLMC_DIR`` (the Deep Learning Matrix Collection)
and multiplies it and its transpose with N = 32, 128, 512 columns. Every result is compared with float64, then
timed. All contenders take turns in one process: in each round each one runs a block of calls, so that a
disturbed moment meets all of them. The operands are warm, the threads are the same for all (SciPy's products
have one). Run it on a quiet machine: a product of two threads takes as long as the slower one.
``--quick`` takes a few matrices only.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import math
import os
import platform
import sys
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from csbviz.formats import CSBMatrix, load_matrix
from csbviz.ops import csb_cpu
from csbviz.ops.threads import cpu_count, use_threads

FOLDERS = ("0.8", "0.9", "0.95")
COLUMNS = (32, 128, 512)
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}
"""Largest ‖out − exact‖ / ‖exact‖ (Frobenius)."""

AIMS = (
    ("A·B: MKL CSR / CSB", "mkl", "csb", 1.0, None),
    ("A·B: SciPy / CSB", "scipy", "csb", 3.5, None),
    ("Aᵀ·B / A·B of CSB (lower is better)", "csb_t", "csb", -1.2, None),
    ("Aᵀ·B: SciPy / CSB", "scipy_t", "csb_t", 3.5, None),
    ("A·B: dense / CSB at 90 %, N ≥ 128", "dense", "csb", 1.0, "dense"),
    ("Aᵀ·B: dense / CSB at 90 %, N ≥ 128", "dense_t", "csb_t", 1.0, "dense"),
    ("Aᵀ·B: MKL CSR on a second, transposed copy / CSB", "mkl_copy_t", "csb_t", 0.0, None),
)
"""Title, numerator, denominator, aim (at least; negative: at most), and which cases count."""


def aligned(shape, dtype) -> np.ndarray:
    """An array that begins at a cache line, as PyTorch allocates its tensors."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.zeros(size + 64, np.uint8)
    skip = -buffer.ctypes.data % 64
    return buffer[skip : skip + size].view(dtype).reshape(shape)


def contenders(S, A, B, Bt, n, threads, options) -> dict:
    """Functions without arguments that compute A·B, or (names ending in _t) Aᵀ·B."""
    import torch

    def tensor(matrix):
        arrays = [torch.from_numpy(a) for a in (matrix.indptr, matrix.indices, matrix.data)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # PyTorch says that its CSR support is in beta
            return torch.sparse_csr_tensor(*arrays, size=matrix.shape, check_invariants=False)

    C, Ct = aligned((S.shape[0], n), S.dtype), aligned((S.shape[1], n), S.dtype)
    forward = csb_cpu.prepare(A, "A@B", n, threads=threads, **options).run
    backward = csb_cpu.prepare(A, "A.T@B", n, threads=threads, **options).run
    mkl, mkl_copy = tensor(S), tensor(S.T.tocsr())
    dense = torch.from_numpy(S.toarray())
    b, bt = torch.from_numpy(B), torch.from_numpy(Bt)
    return {
        "csb": lambda: forward(B, C),
        "csb_t": lambda: backward(Bt, Ct),
        "mkl": lambda: mkl @ b,
        "mkl_copy_t": lambda: mkl_copy @ bt,
        "scipy": lambda: S @ B,
        "scipy_t": lambda: S.T @ Bt,
        "dense": lambda: torch.mm(dense, b),
        "dense_t": lambda: torch.mm(dense.T, bt),
    }


def verify(functions, S, B, Bt) -> dict:
    """Relative error of each contender against float64.

    Raises
    ------
    SystemExit
        If one is wrong: a wrong kernel is not timed.
    """
    exact = S.astype(np.float64)
    errors = {}
    for name, function in functions.items():
        expected = exact.T @ Bt.astype(np.float64) if name.endswith("_t") else exact @ B.astype(np.float64)
        error = np.linalg.norm(np.asarray(function()) - expected) / max(np.linalg.norm(expected), 1e-300)
        if not error <= TOLERANCE[S.dtype.name]:
            raise SystemExit(f"{name} is wrong: relative error {error:.1e}.")
        errors[name] = float(error)
    return errors


def measure(functions, rounds, seconds) -> dict:
    """Microseconds a call: quartiles, minimum and count of each contender, taking turns."""
    calls = {}
    for name, function in functions.items():
        start = time.perf_counter_ns()
        function()
        once = time.perf_counter_ns() - start
        calls[name] = int(min(max(seconds * 1e9 / rounds / max(once, 1), 3), 300))
    samples = {name: [] for name in functions}
    gc.disable()
    try:
        for _ in range(rounds):
            for name, function in functions.items():
                function()  # the pool of threads wakes up, the operands return to the caches
                for _ in range(calls[name]):
                    start = time.perf_counter_ns()
                    function()
                    samples[name].append(time.perf_counter_ns() - start)
    finally:
        gc.enable()
    return {name: _summary(np.asarray(times) / 1e3) for name, times in samples.items()}


def _summary(times) -> dict:
    low, middle, high = np.percentile(times, (25, 50, 75))
    numbers = {"median_us": middle, "p25_us": low, "p75_us": high, "min_us": times.min()}
    return {name: round(float(number), 2) for name, number in numbers.items()} | {"samples": int(times.size)}


def run_case(path, sparsity, n, args) -> dict:
    S = load_matrix(path)
    S = S.astype(args.dtype)
    S.indptr, S.indices = S.indptr.astype(np.int32), S.indices.astype(np.int32)
    A = CSBMatrix.from_scipy(S, args.block_size or None)
    rng = np.random.default_rng(n)
    B, Bt = aligned((S.shape[1], n), S.dtype), aligned((S.shape[0], n), S.dtype)
    B[:], Bt[:] = rng.standard_normal(B.shape), rng.standard_normal(Bt.shape)
    options = {"balance": args.balance}
    functions = contenders(S, A, B, Bt, n, args.threads, options)
    errors = verify(functions, S, B, Bt)
    times = measure(functions, args.rounds, args.seconds)
    for name in times:
        times[name]["rel_error"] = errors[name]
    return {
        "matrix": str(path.relative_to(args.folder)).removesuffix(".gz"),
        "sparsity": sparsity,
        "m": S.shape[0],
        "k": S.shape[1],
        "nnz": int(S.nnz),
        "n": n,
        "block_shape": list(A.block_shape),
        "kernels": times,
    }


def ratios(cases, above, below, which, statistic) -> list[tuple[float, dict]]:
    """The ratio of two contenders' times in each case that counts."""
    chosen = [c for c in cases if which is None or (c["sparsity"] == 0.9 and c["n"] >= 128)]
    return [(c["kernels"][above][statistic] / c["kernels"][below][statistic], c) for c in chosen]


def geomean(numbers) -> float:
    return math.exp(sum(map(math.log, numbers)) / len(numbers))


def summarize(cases, statistic="median_us") -> list[dict]:
    """Geometric mean and worst case of every aim."""
    rows = []
    for title, above, below, aim, which in AIMS:
        found = ratios(cases, above, below, which, statistic)
        if not found:
            continue
        worst, case = (max if aim < 0 else min)(found, key=lambda pair: pair[0])
        mean = geomean([ratio for ratio, _ in found])
        rows.append(
            {
                "comparison": title,
                "statistic": statistic,
                "geomean": round(mean, 3),
                "aim": f"{'≤' if aim < 0 else '≥'} {abs(aim)}" if aim else "",
                "reached": bool(mean <= -aim if aim < 0 else mean >= aim),
                "worst": round(worst, 3),
                "worst_case": f"{case['matrix']}, N = {case['n']}",
                "by_n": {
                    str(n): round(geomean(part), 3)
                    for n in COLUMNS
                    if (part := [ratio for ratio, c in found if c["n"] == n])
                },
                "cases": len(found),
            }
        )
    return rows


def print_table(rows) -> None:
    for row in rows:
        by_n = ", ".join(f"N={n}: {ratio:.2f}" for n, ratio in row["by_n"].items())
        mark = "ok  " if row["reached"] else "MISS"
        print(f"{mark} {row['comparison']:<50} {row['geomean']:6.2f} (aim {row['aim']:>6})  {by_n}")
        print(f"       worst {row['worst']:.2f}: {row['worst_case']}")


def machine(args) -> dict:
    import numba
    import scipy
    import torch

    model = [line for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    return {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": model[0].split(":", 1)[1].strip() if model else platform.processor(),
        "processors": cpu_count(),
        "threads": args.threads,
        "scipy_threads": 1,
        "threading_layer": _threading_layer(),
        "load_average_at_end": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": {m.__name__: m.__version__ for m in (np, scipy, torch, numba)}
        | {"python": platform.python_version()},
    }


def _threading_layer() -> str | None:
    import numba

    try:
        return numba.threading_layer()
    except ValueError:  # every product was so small that one thread ran it
        return None


def _read(path) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def files(args) -> list[tuple[Path, float]]:
    found = [
        (p, float(p.parent.name)) for p in sorted(args.folder.rglob("*.smtx*")) if p.parent.name in FOLDERS
    ]
    if args.quick:
        found = found[::7]
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=os.environ.get("DLMC_DIR"), help="default: $DLMC_DIR")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--quick", action="store_true", help="a few matrices only")
    parser.add_argument("--threads", type=int, default=cpu_count())
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--balance", default="auto", help="balance strategy of the CSB kernel")
    parser.add_argument("--block-size", type=int, help="default: choose_block_shape")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.2, help="timing of one contender in one case")
    parser.add_argument("--statistic", choices=("median_us", "min_us"), default="median_us")
    args = parser.parse_args()
    if args.folder is None:
        parser.error("name the folder of the matrices with --folder or DLMC_DIR")
    args.folder = Path(args.folder)
    return args


def main() -> None:
    args = parse()
    cases = []
    with use_threads(args.threads):
        import torch

        torch.set_num_threads(args.threads)
        for path, sparsity in files(args):
            for n in COLUMNS:
                cases.append(run_case(path, sparsity, n, args))
                times = " ".join(f"{k} {v['median_us']:.0f}" for k, v in cases[-1]["kernels"].items())
                print(f"{cases[-1]['matrix']} N={n}: {times}", file=sys.stderr, flush=True)
    if not cases:
        raise SystemExit(f"There are no .smtx files in folders {', '.join(FOLDERS)} under {args.folder}.")
    rows = summarize(cases, args.statistic)
    print_table(rows)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {"machine": machine(args), "summary": rows, "cases": cases}, indent=1, ensure_ascii=False
        )
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
