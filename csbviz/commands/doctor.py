"""``csbviz doctor``: what this machine can run, and why not the rest."""

from __future__ import annotations

import argparse
import os
import platform
import warnings
from collections.abc import Iterator

from csbviz.bench.names import class_name, class_rank
from csbviz.commands.output import emit, joined, table, wrapped
from csbviz.figures.text import plural

__all__ = ["examine", "run"]


def run(args: argparse.Namespace) -> int:
    """Print what `examine` finds."""
    found = examine()
    emit(args.json, found, _lines(found))
    return 0


def examine() -> dict:
    """Devices, versions, threads, kernels and samples of this machine, as plain values."""
    from csbviz.models import sample_models
    from csbviz.ops.devices import cpu_name, gpu_state, versions
    from csbviz.ops.registry import availability, kernels
    from csbviz.ops.threads import cpu_count

    gpu, no_gpu = gpu_state()
    rows = []
    for kernel in kernels():
        state = availability(kernel)
        rows.append(
            {
                "name": kernel.name,
                "title": kernel.title,
                "summary": kernel.summary,
                "format": kernel.format,
                "device": kernel.device,
                "ops": list(kernel.ops),
                "dtypes": list(kernel.dtypes),
                "classes": sorted({kernel.precision[dtype] for dtype in kernel.dtypes}, key=class_rank),
                "capability": list(kernel.min_capability) if kernel.min_capability else None,
                "exact_capability": kernel.exact_capability,
                "threads": kernel.threads if kernel.device == "cpu" else None,
                "deterministic": kernel.deterministic,
                "available": state.ok,
                "reason": state.reason,
            }
        )
    return {
        "platform": platform.platform(),
        "versions": versions(),
        "cpu": {"name": cpu_name(), "threads": cpu_count(), "numba_layer": _numba_layer()},
        "gpu": {"name": gpu, "reason": no_gpu, "note": _torch_note(gpu)},
        "kernels": rows,
        "samples": [
            {
                "id": sample.id,
                "title": sample.title,
                "origin": sample.origin,
                "licence": sample.licence,
                "available": sample.available,
                "reason": sample.reason,
            }
            for sample in sample_models()
        ],
        "scheduler": os.environ.get("CSBVIZ_SCHEDULER"),
    }


def _numba_layer() -> str:
    """Name of the layer that runs Numba's parallel loops, which only a parallel loop decides."""
    import numba
    import numpy as np

    @numba.njit(parallel=True)
    def touch(values):
        for i in numba.prange(values.size):
            values[i] = i

    touch(np.empty(8))
    return numba.threading_layer()


def _torch_note(gpu: str | None) -> str:
    """A sentence where PyTorch cannot use a GPU that CuPy can."""
    if gpu is None:
        return ""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns about a driver that is too old; the sentence says it
        if torch.cuda.is_available():
            return ""
    if torch.version.cuda is None:
        return "PyTorch is a CPU build: CUDA tensors are not available, CuPy arrays are."
    return (
        f"PyTorch is built for CUDA {torch.version.cuda}, which this driver does not run: "
        "CUDA tensors are not available, CuPy arrays are."
    )


def _lines(found: dict) -> Iterator[str]:
    versions = dict(found["versions"])
    yield f"csbviz {versions.pop('csbviz')} on Python {versions.pop('python')}, {found['platform']}"
    yield from wrapped("Packages", joined(f"{name} {version}" for name, version in versions.items()))
    cpu, gpu = found["cpu"], found["gpu"]
    yield from wrapped(
        "Processor", f"{cpu['name']}; {plural(cpu['threads'], 'thread')}, Numba layer {cpu['numba_layer']}"
    )
    yield from wrapped("GPU", gpu["name"] or f"none: {gpu['reason']}")
    if gpu["note"]:
        yield from wrapped("", gpu["note"])
    if found["scheduler"]:
        yield from wrapped("Scheduler", found["scheduler"])
    yield ""
    for device in ("cpu", "cuda"):
        rows = [kernel for kernel in found["kernels"] if kernel["device"] == device]
        yield from _kernel_table(device, rows)
        yield ""
    yield from _reasons(found["kernels"], "name")
    yield ""
    yield from table(
        ("sample:", "title", "licence", "here"),
        [
            (
                sample["id"],
                sample["title"],
                sample["licence"],
                "yes" if sample["available"] else "no",
            )
            for sample in found["samples"]
        ],
        left=4,
    )
    yield from _reasons(found["samples"], "id")


def _kernel_table(device: str, kernels: list[dict]) -> Iterator[str]:
    header = ["kernels on the CPU", "format", "class", "operations", "here"]
    if device == "cuda":
        header = ["kernels on a GPU", "format", "class", "operations", "capability", "here"]
    rows = []
    for kernel in kernels:
        row = [kernel["name"], kernel["format"], joined(map(class_name, kernel["classes"]))]
        row.append(joined(kernel["ops"]))
        if device == "cuda":
            row.append(_needs(kernel))
        row.append(_runs_here(kernel))
        rows.append(row)
    yield from table(header, rows, left=len(header))


def _needs(kernel: dict) -> str:
    """Compute capability that a kernel needs."""
    if kernel["capability"] is None:
        return "any"
    return ".".join(map(str, kernel["capability"])) + ("" if kernel["exact_capability"] else "+")


def _runs_here(kernel: dict) -> str:
    if not kernel["available"]:
        return "no"
    return "yes" if kernel["threads"] != "one" else "yes, one thread"


def _reasons(entries: list[dict], name: str) -> Iterator[str]:
    """One paragraph a reason, with everything that it keeps from running."""
    kept: dict[str, list[str]] = {}
    for entry in entries:
        if not entry["available"]:
            kept.setdefault(entry["reason"], []).append(entry[name])
    for reason, names in kept.items():
        yield from wrapped("", f"{joined(names)}: {reason}", indent=2)
