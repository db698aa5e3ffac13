"""Measure the recorded runs of `recordings/` on this machine's GPU.

python -m sample_models.record_runs                          # all of them, about a minute
python -m sample_models.record_runs --only cnn,random --out /tmp/recordings

The layers of MiniLM-L6 come from the installed sample, or, where it cannot be installed, from a folder of
files of its pruned layers (``--minilm FOLDER``; ``--write-minilm FOLDER`` writes them elsewhere).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from csbviz.bench import BenchRequest, bench_matrix
from csbviz.bench.jobs import build
from csbviz.bench.recordings import FOLDER, RecordedRun, device_facts, make_recording, save_recording
from csbviz.bench.run import LESS_EXACT
from csbviz.errors import CSBVizError
from csbviz.figures.text import list_of
from csbviz.models.opened import open_sample
from csbviz.ops.devices import gpu_state
from csbviz.ops.registry import kernels
from csbviz.pruning.opened import prune_opened

SPARSITY = 0.9
CNN_LAYERS = ("conv2.weight", "fc1.weight")
MINILM_LAYERS = (
    "encoder.layer.0.attention.self.query.weight",
    "encoder.layer.0.intermediate.dense.weight",
)
RANDOM_SHAPE, RANDOM_SPARSITIES = (2048, 512), (0.7, 0.8, 0.9, 0.95)
LEFT_OUT = (
    "csb_simple",
    "csb_gather",
    "csb_mma_tf32",
    "cusparse_csr_default",
    "cusparse_csr_alg1",
    "cusparse_spmv_default",
    "cusparse_spmv_alg2",
    "cublas_bf16",
)
"""Left out to keep recordings short: another kernel of their kind is mostly faster."""


def contenders() -> tuple[str, ...]:
    """The kernels for float32 matrices, dense of less exact classes among them."""
    return tuple(
        kernel.name
        for kernel in kernels(device="cuda")
        if kernel.name not in LEFT_OUT
        and (
            "float32" in kernel.dtypes or (kernel.format == "dense" and set(kernel.dtypes) & set(LESS_EXACT))
        )
    )


def pruned_sample(sample: str, layers: tuple[str, ...]) -> tuple[str, list[tuple[str, sp.csr_matrix]]]:
    """Layers of a sample as the app prunes it at first, and how that is called."""
    opened = open_sample(sample)
    pruned = prune_opened(opened, "magnitude", "global", SPARSITY, locked=opened.spared)
    words = f"magnitude {100 * SPARSITY:g} %, whole model"
    if opened.spared:
        words += f", locked: {list_of(opened.spared)}"
    return words, [(name, pruned.csr(name)) for name in layers]


def random_matrices() -> Iterator[tuple[str, sp.csr_matrix]]:
    """Seeded matrices in which every position is kept with the same chance."""
    for sparsity in RANDOM_SPARSITIES:
        generator = np.random.default_rng(7)
        mask = generator.random(RANDOM_SHAPE) >= sparsity
        values = np.where(mask, generator.standard_normal(RANDOM_SHAPE, dtype=np.float32), np.float32(0))
        yield f"random {100 * sparsity:g} %", sp.csr_matrix(values)


def record(title: str, source: str, words: str, layers, request: BenchRequest, path: Path) -> None:
    """Measure layers one by one; the file is written anew after each, so that a cut run keeps some."""
    settings = {"ops": list(request.ops), "ns": list(request.ns), "mode": request.mode, "seed": request.seed}
    runs = []
    for name, csr in layers:
        start = time.perf_counter()
        A = build(csr, "cuda")
        records = bench_matrix(A, request, name=name.removesuffix(".weight"))
        runs.append(RecordedRun(name, tuple(records), source, words))
        save_recording(make_recording(title, runs, settings, device_facts("cuda")), path)
        bad = [f"{r.kernel} {r.op} {r.n}: {r.message}" for r in records if r.status in ("wrong", "failed")]
        took = f"{len(records)} records, {time.perf_counter() - start:.1f} s"
        print(f"{path.name}, {name}: {took}", *bad, sep="\n  ", flush=True)


def minilm(folder: Path | None) -> tuple[str, list[tuple[str, sp.csr_matrix]]]:
    """The layers of MiniLM-L6, from the sample or from a folder."""
    if folder is None:
        return pruned_sample("minilm_l6", MINILM_LAYERS)
    words = (folder / "weights.txt").read_text(encoding="utf-8").strip()
    return words, [(name, sp.load_npz(folder / f"{name}.npz")) for name in MINILM_LAYERS]


def write_minilm(folder: Path) -> None:
    """Write the layers for a machine that has not the sample."""
    words, layers = pruned_sample("minilm_l6", MINILM_LAYERS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.txt").write_text(words + "\n", encoding="utf-8")
    for name, csr in layers:
        sp.save_npz(folder / f"{name}.npz", csr)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    """Read the arguments and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the recordings")
    parser.add_argument("--only", default="cnn,minilm,random", help="which (default: %(default)s)")
    parser.add_argument("--minilm", type=Path, metavar="FOLDER", help="layers of MiniLM-L6 as files")
    parser.add_argument("--write-minilm", type=Path, metavar="FOLDER", help="write these files, and no more")
    parser.add_argument("--n", type=_numbers, default=(128, 512), help="columns of B (default: 128,512)")
    parser.add_argument("--min-time", type=float, default=0.03, help="seconds of timing a kernel")
    options = parser.parse_args()
    if options.write_minilm:
        write_minilm(options.write_minilm)
        return
    _, reason = gpu_state()
    if reason:
        sys.exit(reason)
    options.out.mkdir(parents=True, exist_ok=True)
    names = contenders()
    common = {"device": "cuda", "kernels": names, "min_time": options.min_time}
    every = BenchRequest(ops=("A@B", "A.T@B", "A@x", "A.T@x", "layer"), ns=options.n, **common)
    products = BenchRequest(ops=("A@B", "A.T@B"), ns=(512,), **common)
    wanted = options.only.split(",")
    try:
        if "cnn" in wanted:
            words, layers = pruned_sample("fashion_cnn", CNN_LAYERS)
            title, path = "Fashion-MNIST CNN at 90 %", options.out / "run_fashion_cnn.json"
            record(title, "sample:fashion_cnn", words, layers, every, path)
        if "minilm" in wanted:
            words, layers = minilm(options.minilm)
            title, path = "MiniLM-L6 at 90 %", options.out / "run_minilm_l6.json"
            record(title, "sample:minilm_l6", words, layers, every, path)
        if "random" in wanted:
            title, path = "Random 2048 × 512", options.out / "run_random.json"
            record(title, "", "seeded normals", random_matrices(), products, path)
    except CSBVizError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
