"""What Nsight Compute measures of every version of the CUDA kernels, on representative products.

``python -m benchmarks.profile_kernels --json docs/data/ncu.json`` runs itself under ``ncu`` and keeps, for
each kernel, the bytes that passed DRAM and L2, shared-memory wavefronts, issue slots, occupancy and
registers, beside the compulsory bytes of the product. Caches are emptied before each pass and clocks are left
alone, so a time here is that of a cold call. `benchmarks.profile_report` makes the tables of docs/kernels.md.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from csbviz.errors import CSBVizError, UnavailableError

METRICS = {
    "us": ("gpu__time_duration.sum", 1e-3),
    "dram_bytes": ("dram__bytes.sum", 1.0),
    "l2_bytes": ("lts__t_bytes.sum", 1.0),
    "l1_hit": ("l1tex__t_sector_hit_rate.pct", 0.01),
    "shared_wavefronts": ("l1tex__data_pipe_lsu_wavefronts_mem_shared.sum", 1.0),
    "issue": ("smsp__issue_active.avg.pct_of_peak_sustained_active", 0.01),
    "tensor": ("sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active", 0.01),
    "occupancy": ("sm__warps_active.avg.pct_of_peak_sustained_active", 0.01),
    "registers": ("launch__registers_per_thread", 1.0),
    "ctas": ("launch__grid_size", 1.0),
}
"""What is kept → metric of Nsight Compute, and the factor to seconds-free units (µs, bytes, shares)."""

SHAPE, N, SPARSITIES = (2048, 512), 512, (0.8, 0.95)
"""A feed-forward layer of a small transformer, as the Deep Learning Matrix Collection has them."""

PRODUCTS = (
    ("csb_simple", {}),
    ("csb_gather", {}),
    ("csb_rows", {"form": "panel"}),
    ("csb_rows", {"form": "pieces"}),
    ("csb_mma", {}),
    ("csb_wgmma", {}),
    ("cusparse_csr_alg3", {}),
    ("cublas_fp32", {}),
)
"""Kernels of A·B, simple to fast, and what they are compared with; those that are not there are left out."""

FEW_COLUMNS, FEW = (
    128,
    (
        ("csb_rows", {"form": "direct"}),
        ("csb_rows", {"form": "pieces"}),
        ("csb_wgmma", {}),
        ("csb_few", {}),
        ("cusparse_csr_alg3", {}),
        ("cublas_fp32", {}),
    ),
)
"""Columns of B where a product is over at once, and its kernels."""

TRANSPOSED = (("csb_rows", {}), ("csb_wgmma", {}))
VECTORS = (("csb_spmv", "A@x"), ("csb_spmv", "A.T@x"), ("cusparse_spmv_alg1", "A@x"))
SAMPLED = (
    {"version": 2},
    {"version": 3},
    {"version": "csb_sddmm_mma", "rows": 128, "columns": 64},
    {"version": "csb_sddmm_wgmma", "rows": 128, "columns": 64},
)
"""Versions of the sampled product: two for CUDA cores, two with tiles on tensor cores."""

_MARK = "csbviz_mark_"


@dataclass(frozen=True)
class Case:
    """One profiled call.

    Attributes
    ----------
    name, op : str
        Kernel of the registry, or "convert", "sddmm"; the operation.
    sparsity : float
    n : int
        Columns of B.
    params : dict
        What is set of the launch; the rest is chosen.
    """

    name: str
    op: str
    sparsity: float
    n: int
    params: dict = field(default_factory=dict)


def all_cases(quick: bool = False) -> list[Case]:
    """Every call that is worth a row: products at each sparsity, the rest at the first."""
    found = []
    for sparsity in SPARSITIES[:1] if quick else SPARSITIES:
        found += [Case(name, "A@B", sparsity, N, params) for name, params in PRODUCTS]
        found += [Case(name, "A.T@B", sparsity, N, params) for name, params in TRANSPOSED]
        found += [Case(name, "A@B", sparsity, FEW_COLUMNS, params) for name, params in FEW]
        found += [Case("sddmm", "SDDMM", sparsity, N, params) for params in SAMPLED]
    first = SPARSITIES[0]
    found += [Case(name, op, first, 1) for name, op in VECTORS]
    return [*found, Case("convert", "CSR → CSB", first, 0)]


@functools.cache
def sample_matrix(sparsity: float):
    """The seeded matrix of a case, as SciPy's CSR: every position is kept with the same chance."""
    import scipy.sparse as sp

    generator = np.random.default_rng(20)
    mask = generator.random(SHAPE) >= sparsity
    values = np.where(mask, generator.standard_normal(SHAPE, dtype=np.float32), np.float32(0))
    return sp.csr_matrix(values)


def ready(case: Case) -> tuple[Callable[[], object], int]:
    """A call on the GPU, verified once, and its compulsory bytes.

    Raises
    ------
    CSBVizError
        If the kernel is not there, does not run here, or is wrong.
    """
    if case.name == "convert":
        return _conversion(case)
    if case.name == "sddmm":
        return _sampled(case)
    return _product(case)


def _product(case: Case) -> tuple[Callable[[], object], int]:
    import cupy

    from csbviz.bench.verify import ERROR_BOUNDS, make_reference, relative_error
    from csbviz.formats import CSBMatrix, choose_block_shape
    from csbviz.ops.dispatch import prepare_kernel
    from csbviz.ops.registry import get_kernel

    kernel, csr = get_kernel(case.name), sample_matrix(case.sparsity)
    if case.op not in kernel.ops:
        raise UnavailableError(f"{case.name} does not compute {case.op}.")
    A = CSBMatrix.from_scipy(csr, block_shape=choose_block_shape(csr.shape, csr.nnz, device="cuda"))
    prepared = prepare_kernel(A, kernel, case.op, case.n, threads=1, **case.params)
    reference = make_reference(csr, case.op, case.n, "float32")
    B, out = cupy.asarray(reference.B), cupy.full(reference.C.shape, cupy.nan, cupy.float32)
    result = prepared.run(B, out)
    error, bound = relative_error(result.get(), reference.C), ERROR_BOUNDS[kernel.precision["float32"]]
    if not error <= bound:
        raise UnavailableError(f"{case.name} is off by {error:.1e}; {bound:.0e} is its bound.")
    csr_bytes = csr.data.nbytes + csr.indices.nbytes + csr.indptr.nbytes
    stored = {"csb": A.nbytes, "csr": csr_bytes, "dense": 4 * csr.shape[0] * csr.shape[1]}[kernel.format]
    return lambda: prepared.run(B, out), stored + B.nbytes + out.nbytes


def _conversion(case: Case) -> tuple[Callable[[], object], int]:
    import cupy

    from csbviz.formats import CSBMatrix
    from csbviz.ops.cuda.convert import csr_to_csb

    csr = sample_matrix(case.sparsity)
    indptr, indices = (cupy.asarray(array.astype(np.int32)) for array in (csr.indptr, csr.indices))
    data = cupy.asarray(csr.data)

    def run():
        return csr_to_csb(indptr, indices, data, csr.shape, (64, 64), "float32")

    arrays, _ = run()
    expected = CSBMatrix.from_scipy(csr, block_shape=(64, 64))
    if not np.array_equal(cupy.asnumpy(arrays.values), expected.values):
        raise UnavailableError("the conversion gives other values than the one on the CPU.")
    read = indptr.nbytes + indices.nbytes + data.nbytes
    return run, read + expected.nbytes


def _sampled(case: Case) -> tuple[Callable[[], object], int]:
    import cupy

    from csbviz.formats import CSBMatrix
    from csbviz.ops.cuda.sddmm import SampledProduct
    from csbviz.ops.cuda.sddmm_tiles import MMA, WGMMA

    csr = sample_matrix(case.sparsity)
    A = CSBMatrix.from_scipy(csr, block_shape=(64, 64))
    generator = np.random.default_rng(0)
    U, V = (generator.standard_normal((side, case.n), dtype=np.float32) for side in csr.shape)
    on_device = cupy.asarray(U), cupy.asarray(V)
    out = cupy.full(A.nnz, cupy.nan, cupy.float32)
    version = case.params.get("version")
    if isinstance(version, str):
        sides = case.params["rows"], case.params["columns"]
        shapes = [tile for tile in (*MMA, *WGMMA) if (tile.name, *tile[1:3]) == (version, *sides)]
        version = shapes[0]
    product = SampledProduct(A, case.n, "float32", version)

    def run():
        product(on_device[0].data.ptr, on_device[1].data.ptr, out.data.ptr)

    run()
    rows, cols = A.coordinates()
    expected = np.einsum("ec,ec->e", U[rows].astype(np.float64), V[cols].astype(np.float64))
    error = np.linalg.norm(out.get() - expected) / np.linalg.norm(expected)
    if not error <= 2e-6:
        raise UnavailableError(f"the sampled product is off by {error:.1e}.")
    index = A.row_ind.nbytes + A.col_ind.nbytes + A.blk_ptr.nbytes
    return run, U.nbytes + V.nbytes + out.nbytes + index


def run_cases(cases: list[Case], facts: Path, seconds: float) -> None:
    """Under ncu: call every case once between the profiler's start and stop, after a kernel that marks it.

    No case is begun after `seconds`: ncu tells what it measured only when this process has ended by itself.
    """
    import cupy
    from cupy.cuda import profiler

    from csbviz.bench.gpu_timing import device_info

    known, left_out = [], []
    marks = cupy.RawModule(
        code="".join(f'extern "C" __global__ void {_MARK}{i}() {{}}\n' for i in range(len(cases)))
    )
    deadline = time.monotonic() + seconds
    for case in cases:
        if time.monotonic() > deadline:
            left_out.append({**asdict(case), "reason": "There was no time left for it."})
            continue
        try:
            run, compulsory = ready(case)
            marker = marks.get_function(f"{_MARK}{len(known)}")
            marker((1,), (1,), ())
            run()
            cupy.cuda.Device().synchronize()
        except (CSBVizError, ImportError, RuntimeError) as error:
            left_out.append({**asdict(case), "reason": " ".join(str(error).split())})
            continue
        profiler.start()
        marker((1,), (1,), ())
        run()
        cupy.cuda.Device().synchronize()
        profiler.stop()
        known.append({**asdict(case), "compulsory_bytes": int(compulsory)})
    facts.write_text(json.dumps({"cases": known, "left_out": left_out, "device": device_info()}))


def read_profile(text: str, cases: list[dict]) -> list[dict]:
    """Rows of ncu's raw page, put together by case: a product may be several launches.

    Parameters
    ----------
    text : str
        What ``ncu --csv --page raw --print-units base`` printed.
    cases : list of dict
        In the order of their marks.

    Returns
    -------
    list of dict
        Each case with "launches", one dict of `METRICS` a kernel launch, with its name.
    """
    found = {place: [] for place in range(len(cases))}
    place = None
    for row in _rows(text):
        name = row["Kernel Name"]
        if name.startswith(_MARK):
            place = int(name.removeprefix(_MARK).split("(")[0])
        elif place is not None:
            found[place].append({"kernel": name.split("(")[0]} | _values(row))
    return [{**case, "launches": found[place]} for place, case in enumerate(cases)]


def _rows(text: str) -> Iterator[dict[str, str]]:
    """The rows of the CSV; lines before its header are ncu's own messages, the second line holds units."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return
    reader = csv.DictReader(lines[start:])
    next(reader, None)
    yield from (row for row in reader if row.get("Kernel Name"))


def _values(row: dict[str, str]) -> dict[str, float | None]:
    values = {}
    for name, (metric, factor) in METRICS.items():
        cell = (row.get(metric) or "").replace(",", "")
        try:
            values[name] = round(float(cell) * factor, 6)
        except ValueError:  # "n/a" where a device does not count it
            values[name] = None
    return values


def profile(cases: list[Case], seconds: float, without: tuple[str, ...] = ()) -> dict:
    """Run the cases under ncu and read what it measured.

    Parameters
    ----------
    cases : list of Case
    seconds : float
        No case is begun later than this; what was measured until then is kept.
    without : tuple of str
        Keys of `METRICS` that this version of ncu does not know.

    Raises
    ------
    UnavailableError
        If there is no ncu, or it could not read the counters.
    """
    program = shutil.which("ncu")
    if program is None:
        raise UnavailableError("Nsight Compute's ncu is not on the PATH.")
    with tempfile.TemporaryDirectory() as folder:
        facts, wanted = Path(folder) / "facts.json", Path(folder) / "cases.json"
        wanted.write_text(json.dumps([asdict(case) for case in cases]))
        command = [program, "--csv", "--page", "raw", "--print-units", "base", "--profile-from-start", "off"]
        metrics = [metric for name, (metric, _) in METRICS.items() if name not in without]
        command += ["--clock-control", "none", "--metrics", ",".join(metrics)]
        command += [sys.executable, "-m", "benchmarks.profile_kernels", "--run", str(wanted), str(facts)]
        command += ["--seconds", str(seconds)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
            text = done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            raise UnavailableError("ncu did not end a minute after its time.") from None
        if not facts.is_file():
            raise UnavailableError(f"ncu measured nothing: {' '.join(text.split())[-400:]}")
        known = json.loads(facts.read_text())
    rows = [row for row in read_profile(text, known["cases"]) if row["launches"]]
    if not rows:
        raise UnavailableError(f"ncu gave no numbers: {' '.join(text.split())[-400:]}")
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "when": when,
        "device": known["device"],
        "shape": SHAPE,
        "cases": rows,
        "left_out": known["left_out"],
    }


def main() -> None:
    """Read the arguments and profile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="file to write")
    parser.add_argument("--quick", action="store_true", help="one sparsity only")
    parser.add_argument("--only", metavar="NAME,…", help="kernels to profile")
    parser.add_argument(
        "--without", metavar="KEY,…", default="", help=f"metrics to leave out: {', '.join(METRICS)}"
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="begin no case later than this")
    parser.add_argument("--run", nargs=2, metavar=("CASES", "FACTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        cases = [Case(**values) for values in json.loads(Path(options.run[0]).read_text())]
        run_cases(cases, Path(options.run[1]), options.seconds)
        return
    cases = all_cases(options.quick)
    if options.only:
        cases = [case for case in cases if case.name in options.only.split(",")]
    try:
        found = profile(cases, options.seconds, tuple(options.without.split(",")))
    except CSBVizError as error:
        sys.exit(str(error))
    text = json.dumps(found, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
