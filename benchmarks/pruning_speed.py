"""The speed and the memory of pruning: 100 M weights in one ranking, N:M, and a slider that moves.

Run ``python -m benchmarks.pruning_speed [--json PATH] [--millions 100]``. It prints each figure with its aim.

The ranking of all weights is held against one selection over the same numbers: ``torch.kthvalue`` of the
absolute values (made beforehand, not timed), on as many threads; ``numpy.partition``, the fastest selection
that we know, is printed for comparison. Both only find the threshold, while pruning also makes the masks and
the new weights and counts what is left. Memory is the peak of resident memory in a process of its own, less
what the process held before it made the weights.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from csbviz.models import Model, sample_models  # noqa: E402  (the checkout is put on the path first)
from csbviz.models.tensors import StoredTensor  # noqa: E402
from csbviz.ops.devices import cpu_name, versions  # noqa: E402
from csbviz.pruning import masks_for, prune_model  # noqa: E402

ROWS, COLS = 1024, 2048  # of one layer of the large model
SPARSITY = 0.9

AIMS = {
    "global magnitude / torch.kthvalue": 1.5,
    "2:4 [s]": 2.0,
    "memory of global masks, weights included / weights": 2.0,
    "memory of global pruning, beside the weights / weights": 2.0,
    "slider on MiniLM-L6 (22.7 M), each layer's sparsity [ms]": 700.0,
}


def large_model(millions: float) -> Model:
    """A model of about so many million normal weights in linear layers of 1024 x 2048."""
    rng = np.random.default_rng(0)
    layers = max(1, round(millions * 1e6 / (ROWS * COLS)))
    tensors = []
    for index in range(layers):
        weight = rng.standard_normal((ROWS, COLS), dtype=np.float32)
        weight *= 0.01 + 0.04 * index / layers  # layers differ, as those of real models do
        weight.flags.writeable = False
        tensors.append(StoredTensor.of(f"layer{index}.weight", weight))
    return Model(tensors, name="large", digest="0" * 64, source="made here")


def seconds(run: Callable[[], object]) -> float:
    """Seconds of one call; its result is dropped, and the garbage of earlier calls collected beforehand."""
    gc.collect()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def times(millions: float, repeats: int) -> dict[str, float]:
    """Median seconds of pruning and of plain selections, in turn on the same weights."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = large_model(millions)
    flat = torch.from_numpy(np.abs(np.concatenate([layer.weight().ravel() for layer in model.layers])))
    count = round(SPARSITY * flat.numel())
    runs = {
        "global magnitude [s]": lambda: prune_model(model, sparsity=SPARSITY),
        "torch.kthvalue [s]": lambda: torch.kthvalue(flat, count),
        "numpy.partition [s]": lambda: np.partition(flat.numpy(), count - 1),
        "2:4 [s]": lambda: prune_model(model, granularity="nm"),
        "blocks of 8x8 [s]": lambda: prune_model(model, sparsity=SPARSITY, granularity="block"),
    }
    small = large_model(2)
    for granularity in ("weight", "nm", "block"):  # compile beforehand
        prune_model(small, sparsity=SPARSITY, granularity=granularity)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            taken[name].append(seconds(run))
    found = {name: statistics.median(values) for name, values in taken.items()}
    found["global magnitude / torch.kthvalue"] = found["global magnitude [s]"] / found["torch.kthvalue [s]"]
    return found


def memory(what: str, millions: float) -> float:
    """Peak resident memory of a run in a process of its own, over the bytes of the weights."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.pruning_speed",
        "--measure",
        what,
        "--millions",
        str(millions),
    ]
    return float(subprocess.check_output(command, cwd=ROOT, text=True))


def measure(what: str, millions: float) -> float:
    """Prune in this process, and give its peak over the bytes of the weights, which are part of the peak."""
    small = large_model(2)
    call(what, small)  # imports and compiled code are not the weights' memory
    del small
    gc.collect()
    before = _status("VmRSS")
    model = large_model(millions)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    kept = call(what, model)
    peak = _status("VmHWM") - before
    del kept
    return peak / model.nbytes


def call(what: str, model: Model) -> object:
    """Make the masks of all layers, or the pruned model, by global magnitude."""
    if what == "model":
        return prune_model(model, sparsity=SPARSITY)
    arrays = {layer.name: layer.weight() for layer in model.layers}
    return masks_for(arrays, dict.fromkeys(arrays, "linear"), sparsity=SPARSITY)


def _status(name: str) -> int:
    """Bytes that Linux reports of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"/proc/self/status has no {name}: memory is measured on Linux only.")


def slider(repeats: int = 15) -> float | None:
    """Median milliseconds from another sparsity of MiniLM to each layer's; None without the sample."""
    from csbviz.models.opened import open_sample
    from csbviz.pruning.opened import prune_opened

    if "minilm_l6" not in [sample.id for sample in sample_models() if sample.available]:
        return None
    opened = open_sample("minilm_l6")
    taken = []
    for step in range(repeats):
        sparsity = 0.5 + 0.03 * step
        taken.append(
            seconds(
                lambda sparsity=sparsity: [
                    layer.sparsity for layer in prune_opened(opened, "magnitude", sparsity=sparsity).layers
                ]
            )
        )
    return 1e3 * statistics.median(taken)


def main() -> None:
    """Measure, print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--millions", type=float, default=100.0, help="weights (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--measure", choices=("masks", "model"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measure(options.measure, options.millions))
        return
    figures = {
        "memory of global masks, weights included / weights": memory("masks", options.millions),
        "memory of global pruning, beside the weights / weights": memory("model", options.millions) - 1,
        **times(options.millions, options.repeats),
    }
    if (found := slider()) is not None:
        figures["slider on MiniLM-L6 (22.7 M), each layer's sparsity [ms]"] = found
    cores = len(os.sched_getaffinity(0))
    print(f"{cpu_name()}, {cores} cores, Python {platform.python_version()}, {options.millions:g} M weights")
    for name, value in figures.items():
        aim = AIMS.get(name)
        said = "" if aim is None else f"   aim ≤ {aim:g} {'' if value <= aim else '  MISSED'}"
        print(f"{name:58} {value:9.3f}{said}")
    if options.json:
        record = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": cpu_name(),
            "cores": cores,
            "millions": options.millions,
            "versions": versions(),
            "figures": figures,
            "aims": AIMS,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
