"""Recordings written by hand, for tests of the pages that show them."""

from __future__ import annotations

import json
from pathlib import Path

from csbviz.bench.record import Record
from csbviz.bench.recordings import RecordedRun, Recording, make_recording

GPU = "Test GPU 80GB"
_TIMES = {
    # kernel: (format, class, dtype, µs)
    "csb_cuda": ("csb", "fp32", "float32", 8.0),
    "cusparse_csr_alg2": ("csr", "fp32", "float32", 16.0),
    "cublas_fp32": ("dense", "fp32", "float32", 24.0),
    "csb_cuda_tf32": ("csb", "tf32", "float32", 6.0),
    "cublas_tf32": ("dense", "tf32", "float32", 9.0),
    "cublas_fp16": ("dense", "fp16", "float16", 4.0),
}
_OPS = (("A@B", 128), ("A@B", 512), ("A.T@B", 128), ("A.T@B", 512), ("A@x", 1))


def gpu_record(kernel: str, op: str = "A@B", n: int = 128, **changes) -> Record:
    """A measured case of the sample's largest layer on a GPU."""
    fmt, precision, dtype, us = _TIMES[kernel]
    us *= n / 128 if n > 1 else 0.5
    values = {
        "kernel": kernel,
        "title": f"Kernel {kernel}",
        "format": fmt,
        "matrix": "fc1",
        "op": op,
        "device": "cuda",
        "device_name": GPU,
        "dtype": dtype,
        "precision": precision,
        "m": 128,
        "k": 3136,
        "n": n,
        "nnz": 34980,
        "sparsity": 1 - 34980 / (128 * 3136),
        "block_shape": (64, 64),
        "balance": None,
        "params": {},
        "threads": None,
        "mode": "warm",
        "median_us": us,
        "p25_us": 0.98 * us,
        "p75_us": 1.02 * us,
        "rel_error": 1e-7 if precision == "fp32" else 4e-4,
        "tflops": 2 * 34980 * n / us / 1e6,
        "bytes": 250_000,
        "when": "2026-01-02T03:04:05+00:00",
        "versions": {"csbviz": "0.1.0", "cupy-cuda13x": "14.2.0"},
        "sample_count": 45,
    }
    return Record(**(values | changes))


def run_recording(title: str = "The sample on a GPU") -> Recording:
    """Two layers of the sample."""
    runs = [
        RecordedRun(
            layer,
            tuple(gpu_record(kernel, op, n) for op, n in _OPS for kernel in _TIMES),
            "sample:fashion_cnn",
            "magnitude 90 %, whole model",
        )
        for layer in ("conv2.weight", "fc1.weight")
    ]
    return make_recording(title, runs, {"ns": [128, 512]}, {"capability": [9, 0]})


def balance_recording(path: Path) -> None:
    """Write two strategies on a GPU of four multiprocessors: in order one is late, by tickets none is."""

    def run(strategy: str, execution: str, median: float, ends: list[int]) -> dict:
        return {
            "strategy": strategy,
            "execution": execution,
            "params": {},
            "median_us": median,
            "deterministic": True,
            "planned_imbalance": 1.5,
            "measured_imbalance": max(ends) / (sum(ends) / 4),
            "partial_bytes": 0,
            "multiprocessor": [0, 1, 2, 3],
            "item": [0, 1, 2, 3],
            "tile": [0, 0, 0, 0],
            "item_nonzeros": [100, 100, 100, 500],
            "start_ns": [0, 0, 0, 0],
            "duration_ns": ends,
        }

    found = {
        "kind": "csbviz balance recording",
        "version": 1,
        "when": "2026-01-02T03:04:05+00:00",
        "device": {"name": GPU, "multiprocessors": 4},
        "title": "Uneven: a layer",
        "matrix": {"name": "q.smtx", "shape": [512, 512], "nnz": 800, "block_shape": [64, 64]},
        "op": "A@B",
        "n": 512,
        "kernel": "csb_gather",
        "note": "Times are read from a counter.",
        "runs": [
            run("in_order", "grid", 20.0, [4000, 4000, 4000, 20000]),
            run("equal_nnz", "ticket", 10.0, [8000, 8000, 8000, 8000]),
        ],
    }
    path.write_text(json.dumps(found), encoding="utf-8")
