"""Verify and time every CUDA contender: all CSB kernels, cuSPARSE's CSR algorithms, cuBLAS of each class.

    python -m benchmarks.gpu_spmm --dlmc FOLDER --json gpu_spmm.json      # collection and the held-out set
    python -m benchmarks.gpu_spmm --dlmc FOLDER --quick
    python -m benchmarks.gpu_spmm --dlmc FOLDER --sweep --json sweep.json  # every variant of the CSB kernels

One run on one device; all contenders of a case are timed one after the other. A wrong result is not timed.
A worker process measures; a kernel that breaks or hangs it is reported and left out from there on.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks import gpu_data, gpu_tables
from benchmarks.gpu_sets import HELD_OUT_COLUMNS, Layer, collection, held_out, sample
from benchmarks.gpu_worker import compile_all, in_worker
from csbviz.errors import CSBVizError
from csbviz.ops.registry import SPMM_OPS, SPMV_OPS

PARTS = ("spmm", "classes", "transposed", "spmv", "convert", "overhead")
"""What is measured: fp32 and TF32 products; fp16 and bf16; the product of a stored transpose; and so on."""


LEFT_OUT = ("csb_simple",)
"""Kernels that only serve to explain the others; measured when named."""


@dataclass(frozen=True)
class Settings:
    """What a run measures; the same in the worker."""

    folder: Path | None
    held_out: bool
    quick: bool
    every: int
    parts: tuple[str, ...]
    columns: tuple[int, ...] | None
    kernels: tuple[str, ...] | None
    sweep: bool
    both: bool
    min_time: float
    block: int | None = None
    seed: int = 7
    within: float = 2.0
    targets: tuple[str, ...] | None = None

    def layers(self) -> list[Layer]:
        """The matrices, in the order of their numbers."""
        layers = collection(self.folder, self.quick) if self.folder else []
        others = held_out(self.quick) if self.held_out else []
        layers, others = (
            sample([layer for layer in of if self._is_wanted(layer)], self.every, self.seed)
            for of in (layers, others)
        )
        # Mixed, so that a run whose budget ends among them has measured some of each kind.
        if self.sweep:
            layers, others = [], layers + others
        order = np.random.default_rng(self.seed).permutation(len(others))
        return layers + [others[number] for number in order]

    def _is_wanted(self, layer: Layer) -> bool:
        return self.targets is None or layer.target in self.targets


def measure_layer(index: int, skip: set, say, settings: Settings) -> None:
    """Everything that is measured on one matrix."""
    import cupy

    from csbviz.formats import CSBMatrix, choose_block_shape

    if index == 0 or not hasattr(measure_layer, "device"):
        from csbviz.bench.gpu_timing import device_info

        measure_layer.device = device_info()
        say("device", measure_layer.device)
    layer = settings.layers()[index]
    csr = layer.load()
    block_shape = settings.block or choose_block_shape(csr.shape, csr.nnz, device="cuda")
    A = CSBMatrix.from_scipy(csr, block_shape=block_shape)
    facts = layer.facts() | {
        "m": A.shape[0],
        "k": A.shape[1],
        "nnz": A.nnz,
        "sparsity": round(A.sparsity, 5),
        "block": list(A.block_shape),
    }
    say("layer", (index, facts))
    dense = cupy.asarray(csr.toarray(), dtype=cupy.float64)
    run = _Run(index, skip, say, settings, layer.columns)
    if settings.sweep:
        run.sweep(A, dense)
        return
    for part in settings.parts:
        try:
            getattr(run, part)(csr, A, dense)
        except CSBVizError as error:  # of a part, not of a kernel: those get a record
            say("note", f"{part} of matrix {index}: {error}")


class _Run:
    """Measures the cases of one matrix and hands their records on."""

    def __init__(self, index: int, skip: set, say, settings: Settings, columns: tuple[int, ...]):
        self._index, self._skip, self._say, self._settings = index, skip, say, settings
        self._columns = settings.columns or columns

    def _chosen(self, op: str, dtype: str, names=None):
        from benchmarks.gpu_case import contenders

        wanted = self._settings.kernels
        return [
            kernel
            for kernel in contenders(op, dtype, names)
            if kernel.name not in self._skip
            and (self._is_asked(kernel, op, dtype) if wanted is None else kernel.name in wanted)
        ]

    def _is_asked(self, kernel, op: str, dtype: str) -> bool:
        """Libraries and the automatic choice always; its families where the tables show them."""
        from csbviz.ops.choice import AUTOMATIC

        if kernel.format != "csb" or kernel.name in AUTOMATIC or op in SPMV_OPS:
            return True
        shown = op == "A@B" and dtype == "float32" and self._columns != HELD_OUT_COLUMNS
        return shown and kernel.name not in LEFT_OUT

    def _measure(self, case, kernel, mode: str = "warm", more: dict | None = None, **options) -> None:
        self._say("kernel", kernel.name)
        record = case.measure(kernel, mode, self._settings.min_time, **options)
        self._say("record", {"layer": self._index} | record | (more or {}))

    def products(self, A, dense, ops, names=None, **more) -> None:
        """A·B and Aᵀ·B with every N."""
        from benchmarks.gpu_case import Case

        for n in self._columns:
            for op in ops:
                case = Case(A, dense, op, n)
                for kernel in self._chosen(op, A.dtype, names):
                    self._measure(case, kernel, more=more)

    def spmm(self, csr, A, dense) -> None:
        """Products of float32 values, with every N."""
        self.products(A, dense, SPMM_OPS)

    def transposed(self, csr, A, dense) -> None:
        """A·B of a stored matrix that equals Aᵀ, by CSB and by cuSPARSE."""
        from csbviz.formats import CSBMatrix

        stored = CSBMatrix.from_scipy(csr.T.tocsr(), block_shape=A.block_shape[::-1])
        # Of a forward product ALG2, which the default takes, or ALG3 is cuSPARSE's best: see the products.
        names = ("csb_cuda", "cusparse_csr_alg2", "cusparse_csr_alg3")
        self.products(stored, dense.T, ("A@B",), names, stored="transpose")

    def classes(self, csr, A, dense) -> None:
        """A·B of float16 and bfloat16 values."""
        import cupy

        if self._columns == HELD_OUT_COLUMNS:
            return
        for dtype in ("float16", "bfloat16"):
            narrow = A.astype(dtype)
            self.products(narrow, cupy.asarray(narrow.to_dense(), dtype=cupy.float64), ("A@B",))

    def spmv(self, csr, A, dense) -> None:
        """A·x and Aᵀ·x, warm and cold."""
        from benchmarks.gpu_case import Case

        for op in SPMV_OPS:
            case = Case(A, dense, op, 1)
            for mode in ("warm", "cold"):
                for kernel in self._chosen(op, A.dtype):
                    self._measure(case, kernel, mode, {"mode": mode})

    def convert(self, csr, A, dense) -> None:
        """CSR to CSB on the GPU, and cuSPARSE's CSR to CSC of the same matrix."""
        from benchmarks.gpu_convert import time_conversions

        if "conversion" in self._skip:
            return
        self._say("kernel", "conversion")
        for record in time_conversions(csr, A):
            self._say("record", {"layer": self._index} | record)

    def overhead(self, csr, A, dense) -> None:
        """What calls cost from Python, once in a run."""
        from benchmarks.gpu_overhead import time_calls

        if self._index == 0 and "calls" not in self._skip:
            self._say("kernel", "calls")
            for record in time_calls(A, self._columns[0]):
                self._say("record", {"layer": self._index} | record)

    def sweep(self, A, dense) -> None:
        """The candidates of every CSB kernel for float32 values; a variant that repeats counts once."""
        from benchmarks.gpu_case import Case
        from benchmarks.gpu_sweep import settings_of, sweep_columns

        columns = self._settings.columns or sweep_columns(self._index, self._columns)
        for place, n in enumerate(columns):
            for op in SPMM_OPS if self._settings.both else (SPMM_OPS[(self._index + place) % 2],):
                case, seen = Case(A, dense, op, n), set()
                for kernel, params, _ in settings_of(
                    self._chosen(op, A.dtype), A, op, n, self._settings.within
                ):
                    self._say("kernel", kernel.name)
                    record = case.measure(
                        kernel, "warm", self._settings.min_time, seen=seen, sample_us=100.0, **params
                    )
                    if record["status"] != "repeated":
                        self._say("record", {"layer": self._index, "asked": params} | record)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dlmc", type=Path, default=os.environ.get("DLMC_DIR"), help="folder of .smtx files")
    parser.add_argument("--json", type=Path, help="where the records go")
    parser.add_argument("--quick", action="store_true", help="three layers at 90 %% of a set, few held out")
    parser.add_argument("--every", type=int, default=1, help="take one matrix of so many, by a draw")
    parser.add_argument("--seed", type=int, default=7, help="of the draw")
    parser.add_argument("--targets", nargs="+", help="only matrices pruned to these, as in 0.95")
    parser.add_argument("--n", type=int, nargs="+", help="columns of B (default: those of each set)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--kernels", nargs="+", help="names of contenders (default: all)")
    parser.add_argument("--held-out", choices=("also", "only", "no"), default="also")
    parser.add_argument("--min-time", type=float, default=0.0022, help="seconds of timing a contender")
    parser.add_argument("--budget", type=float, default=1e9, help="seconds after which no matrix is begun")
    parser.add_argument("--sweep", action="store_true", help="time every variant of the CSB kernels instead")
    parser.add_argument(
        "--within", type=float, default=2.0, help="sweep: leave out what should take so many times the best"
    )
    parser.add_argument("--block", type=int, help="side of the blocks (default: what suits the GPU)")
    parser.add_argument("--both", action="store_true", help="sweep both directions of each product, not one")
    parser.add_argument("--compile-only", action="store_true", help="fill the cache of compiled kernels")
    args = parser.parse_args()
    if args.dlmc is None and args.held_out != "only" and not args.compile_only:
        parser.error("name the folder of matrices with --dlmc or DLMC_DIR")
    return args


def main() -> None:
    """Compile, run, print the tables, write the JSON."""
    args = parse_arguments()
    start = time.perf_counter()
    compiled = compile_all()
    print(f"compiled in {compiled:.1f} s", flush=True)
    if args.compile_only:
        return
    settings = Settings(
        folder=None if args.held_out == "only" else args.dlmc,
        held_out=args.held_out != "no",
        quick=args.quick,
        every=args.every,
        parts=tuple(args.parts),
        columns=tuple(args.n) if args.n else None,
        kernels=tuple(args.kernels) if args.kernels else None,
        sweep=args.sweep,
        both=args.both,
        block=args.block,
        seed=args.seed,
        min_time=args.min_time,
        within=args.within,
        targets=tuple(args.targets) if args.targets else None,
    )
    count = len(settings.layers())
    if not count:
        sys.exit(f"{args.dlmc} holds no .smtx files; name the folder of the collection with --dlmc.")
    when = datetime.now(UTC).isoformat(timespec="seconds")
    layers, records, device, lost = {}, [], {}, []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # what was measured by then is worth keeping
    try:
        for kind, value in in_worker(measure_layer, count, settings):
            if kind == "record":
                records.append(value)
            elif kind == "layer":
                layers[value[0]] = value[1]
                if time.perf_counter() - start - compiled > args.budget:
                    lost.append(f"the budget was spent before matrix {value[0]} of {count}")
                    break
            elif kind == "device":
                device = device or value
            elif kind == "note":
                lost.append(value)
            else:
                number, kernel = value
                records = [record for record in records if record["layer"] != number]
                lost.append(f"{kernel} ended its process at matrix {number}: left out from there on")
    except (SystemExit, KeyboardInterrupt):
        lost.append("the run was interrupted")
    header = {"when": when, "device": device, "mode": "warm", "numpy": np.__version__}
    header["arguments"] = sys.argv[1:]
    header |= {"seconds": round(time.perf_counter() - start - compiled, 1), "lost": lost}
    numbers = sorted(layers)
    place = {number: row for row, number in enumerate(numbers)}
    records = [record | {"layer": place[record["layer"]]} for record in records]
    if args.json:
        gpu_data.write(args.json, header, [layers[number] for number in numbers], records)
    print("\n".join(lost))
    print(json.dumps(device))
    for record in records:
        record.update(layers[numbers[record["layer"]]])
    print(gpu_tables.summary(header | {"records": records}))


if __name__ == "__main__":
    main()
