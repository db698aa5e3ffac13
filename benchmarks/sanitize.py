"""Run every CSB kernel under NVIDIA's compute-sanitizer, on ragged shapes.

    python -m benchmarks.sanitize                                    all tools, all kernels, some minutes
    python -m benchmarks.sanitize --tools racecheck --kernels csb_wgmma,csb_few --seconds 60

Every product is checked against float64 too. racecheck follows barriers in shared memory, but not the order
that __syncwarp gives to the other lanes of a warp before one of them arrives for all: it reports even a
textbook pipeline written so. Of kernels that are, racecheck sees the same source with every lane arriving.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse as sp

from csbviz.bench.verify import ERROR_BOUNDS, relative_error
from csbviz.formats import CSBMatrix
from csbviz.ops.cuda import module
from csbviz.ops.registry import get_kernel, is_transposed, kernels

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
SHAPES = (
    # rows, columns, density, rows and columns of a block
    (130, 67, 0.2, 64, 64),
    (256, 192, 0.1, 64, 64),
    (200, 330, 0.3, 64, 64),
    (300, 260, 0.02, 64, 64),
    (200, 300, 0.05, 32, 32),
    (40, 70, 0.3, 16, 16),
)
COLUMNS = (1, 33, 64, 130)
OTHERS = ("sddmm", "convert")
"""What is no entry of the registry."""

ONE_LANE = "if (lane == 0) barrier_arrive("


def matrices() -> Iterator[CSBMatrix]:
    """Seeded matrices with ragged edges; every third row is empty, and the fifth is full."""
    for rows, columns, density, *block in SHAPES:
        rng = np.random.default_rng(rows * 1000 + columns)
        keep = rng.random((rows, columns)) < density
        keep[::3], keep[5] = False, True
        dense = np.where(keep, rng.standard_normal(keep.shape), 0).astype(np.float32)
        yield CSBMatrix.from_scipy(sp.csr_array(dense), block_shape=tuple(block))


def every_lane_arrives(text: str) -> str:
    """The source of a kernel whose warps arrive by one lane, changed so that all 32 do; others as they are.

    Arrivals that a count of 32 times as many waits for are those of `barrier_arrive` and `barrier_arrive_at`;
    the one that announces bytes of a copy stays alone.
    """
    if ONE_LANE not in text:
        return text
    text = text.replace(ONE_LANE, "barrier_arrive(")
    text = re.sub(r"if \(lane == 0\) \{(\s*if \(z\.share == 1\)\s*barrier_arrive)", r"{\1", text)

    def count(found: re.Match) -> str:
        barrier, arrivals = found.groups()
        if barrier == "received" or arrivals.strip() == "1":
            return found[0]
        choice = re.fullmatch(r"(\w+) \? (\w+) : 1", arrivals.strip())
        many = f"{choice[1]} ? 32 * {choice[2]} : 1" if choice else f"32 * ({arrivals.strip()})"
        return f"barrier_init({found[0].split('(', 1)[1].rsplit(',', 1)[0]}, {many});"

    return re.sub(r"barrier_init\((\w+)[^,;]*,([^;]*)\);", count, text)


def run_kernel(name: str, seconds: float, all_lanes: bool) -> None:
    """The process that the tool watches: print what was done, and WRONG for a wrong result."""
    import cupy

    if all_lanes:
        read = module.read_source
        module.read_source = lambda source: every_lane_arrives(read(source))
    stop, done = time.monotonic() + seconds, 0
    for A in matrices():
        for what, error, bound in run_matrix(name, A):
            done += 1
            if not error <= bound:
                print(f"WRONG {name} {A.shape} {what}: {error:.2e}", flush=True)
        if time.monotonic() > stop:
            break
    cupy.cuda.Device().synchronize()
    print(f"products: {done}", flush=True)


def run_matrix(name: str, A: CSBMatrix) -> Iterator[tuple[str, float, float]]:
    """Every operation of a kernel on one matrix: what it was, its error, and the bound."""
    import cupy

    dense = A.to_dense().astype(np.float64)
    rng = np.random.default_rng(1)
    if name == "sddmm":
        from csbviz.ops.sampled import sddmm

        rows, columns = A.coordinates()
        for n in COLUMNS:
            U, V = (rng.standard_normal((side, n)).astype(np.float32) for side in A.shape)
            exact = np.einsum("ec,ec->e", U[rows].astype(np.float64), V[columns].astype(np.float64))
            found = sddmm(A, cupy.asarray(U), cupy.asarray(V)).get()
            yield f"sampled, n = {n}", relative_error(found, exact), ERROR_BOUNDS["fp32"]
        return
    if name == "convert":
        from csbviz.ops.cuda.convert import csr_to_csb

        S = A.to_scipy().tocsr()
        arrays = map(cupy.asarray, (S.indptr, S.indices, S.data))
        found, *_ = csr_to_csb(*arrays, S.shape, A.block_shape, "float32")
        keys = ("values", "row_ind", "col_ind", "blk_ptr")
        same = all(np.array_equal(found.fetch(key), getattr(A, key)) for key in keys)
        yield "from CSR", 0.0 if same else 1.0, 0.0
        return
    kernel = get_kernel(name)
    if "float32" not in kernel.dtypes:
        return
    for op in kernel.ops:
        matrix = dense.T if is_transposed(op) else dense
        for n in (1,) if op.endswith("x") else COLUMNS:
            if kernel.accepts(A, op, n):
                continue
            B = rng.standard_normal((matrix.shape[1], n)).astype(np.float32)
            out = cupy.full((matrix.shape[0], n), cupy.nan, np.float32)
            settings = [{}, *(kernel.candidates(A, op, n)[:3] if kernel.candidates else ())]
            for params in settings:
                kernel.prepare(A, op, n, threads=1, **params).run(cupy.asarray(B), out)
                error = relative_error(out.get(), matrix @ B.astype(np.float64))
                yield f"{op}, n = {n}, {params}", error, ERROR_BOUNDS[kernel.precision["float32"]]


def watch(tool: str, name: str, seconds: float) -> tuple[str, str, str, bool]:
    """Run a kernel under a tool: products, what the tool said, and whether all is well."""
    command = ["compute-sanitizer", "--tool", tool, "--print-limit", "5", sys.executable, "-m", __spec__.name]
    command += ["--run", name, "--seconds", str(seconds)] + ["--all-lanes"] * (tool == "racecheck")
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
    except subprocess.TimeoutExpired:
        return name, "0", "it did not end", False
    text = found.stdout + found.stderr
    done = re.search(r"products: (\d+)", text)
    summary = re.search(r"SUMMARY: (.*)", text)
    wrong = text.count("WRONG")
    said = (summary[1] if summary else text.strip()[-200:]) + (f"; {wrong} wrong results" if wrong else "")
    clean = bool(done and summary and not wrong and re.match(r"0 (errors|hazards)", summary[1]))
    return name, done[1] if done else "0", said, clean


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", default=",".join(TOOLS), help="default: %(default)s")
    parser.add_argument("--kernels", help=f"default: every CSB kernel, {', '.join(OTHERS)}")
    parser.add_argument("--seconds", type=float, default=60, help="for each kernel and tool (default: 60)")
    parser.add_argument("--jobs", type=int, default=4, help="processes at a time (default: 4)")
    parser.add_argument("--run", metavar="KERNEL", help=argparse.SUPPRESS)
    parser.add_argument("--all-lanes", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Run the tools, or in a process of theirs one kernel."""
    args = parse_arguments()
    if args.run:
        run_kernel(args.run, args.seconds, args.all_lanes)
        return 0
    if shutil.which("compute-sanitizer") is None:
        sys.exit("compute-sanitizer is not on the PATH; it comes with the CUDA toolkit.")
    names = (
        args.kernels.split(",")
        if args.kernels
        else [kernel.name for kernel in kernels(device="cuda") if kernel.format == "csb"] + list(OTHERS)
    )
    jobs = [(tool, name) for tool in args.tools.split(",") for name in names]
    clean = True
    with ThreadPoolExecutor(args.jobs) as pool:
        for (tool, _), (name, done, said, well) in zip(
            jobs, pool.map(lambda job: watch(*job, args.seconds), jobs), strict=True
        ):
            clean &= well
            print(f"{tool:10s} {name:16s} {done:>4s} products: {said}", flush=True)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
