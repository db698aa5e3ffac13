"""Time whole layers, forward and backward: CSB from one copy, CSR with two, dense.

    python -m benchmarks.layer --device cuda --output docs/data/layer_cuda.json

takes a layer of the Deep Learning Matrix Collection under ``$DLMC_DIR`` at 70 to 98 % sparsity with 128, 512
and 2048 tokens, in both layouts of the activations, and prints tables for the docs. Every output and every
gradient is compared with float64 before anything is timed. ``--sparsities 0.9 --tokens 128`` takes fewer
cases; without ``$DLMC_DIR`` random matrices of the same size are taken.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from csbviz.bench.layer import bench_layer
from csbviz.bench.names import LAYER_OPS
from csbviz.bench.record import Record

SHAPE = (2048, 512)
NAME = "body_encoder_layer_0_ffn_conv1_fully_connected.smtx.gz"
LAYOUTS = ("tokens_first", "features_first")
_TITLES = {"layer.forward": "forward", "layer.backward": "backward", "layer": "both"}
_KERNELS = ("csb_layer", "csr_layer", "dense_layer")


def weights(sparsity: str):
    """The layer of the collection, or a random matrix of its size, with its name."""
    from csbviz.formats import load_matrix

    folder = os.environ.get("DLMC_DIR")
    if folder:
        path = Path(folder) / "transformer" / "magnitude_pruning" / sparsity / NAME
        return load_matrix(path), f"ffn_conv1, {sparsity}"
    import numpy as np
    import scipy.sparse as sp

    rng = np.random.default_rng(0)
    return sp.random(*SHAPE, 1 - float(sparsity), "csr", np.float32, rng), f"random, {sparsity}"


def measure(args: argparse.Namespace) -> list[Record]:
    """Records of all cases."""
    records = []
    for sparsity in args.sparsities:
        csr, name = weights(sparsity)
        for layout in LAYOUTS:
            options = {"tokens": args.tokens, "device": args.device, "min_time": args.min_time}
            records += bench_layer(csr, name=name, layout=layout, **options)
    return records


def tables(records: list[Record]) -> Iterator[str]:
    """Lines of Markdown: a table for each layout, microseconds and CSB's speed over the others."""
    for layout in LAYOUTS:
        chosen = [record for record in records if record.params.get("layout") == layout]
        cases = {(r.matrix, r.n): r for r in chosen}
        columns = "tokens | pass | CSB µs | CSR + copy µs | dense µs | over CSR | over dense"
        yield f"| {layout.replace('_', ' ')} | {columns} |"
        yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
        for matrix, n in cases:
            times = {(r.op, r.kernel): r.median_us for r in chosen if (r.matrix, r.n) == (matrix, n) and r.ok}
            for op in sorted(LAYER_OPS, key=list(_TITLES).index):
                us = [times.get((op, kernel)) for kernel in _KERNELS]
                shown = ["-" if value is None else f"{value:.1f}" for value in us]
                ratios = ["-" if None in (us[0], value) else f"{value / us[0]:.2f}" for value in us[1:]]
                yield f"| {' | '.join((matrix, str(n), _TITLES[op], *shown, *ratios))} |"
        yield ""


def problems(records: list[Record]) -> list[str]:
    """One line for each contender without a time."""
    return [f"{r.matrix}, {r.n} tokens, {r.op}, {r.kernel}: {r.message}" for r in records if not r.ok]


def main() -> int:
    """Measure, print, write; 1 if a contender was wrong or failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--sparsities", nargs="+", default=["0.7", "0.8", "0.9", "0.95", "0.98"])
    parser.add_argument("--tokens", nargs="+", type=int, default=[128, 512, 2048])
    parser.add_argument("--min-time", type=float, default=0.2, help="seconds a contender and pass")
    parser.add_argument("--output", type=Path, help="JSON file for the records")
    args = parser.parse_args()
    records = measure(args)
    print("\n".join(tables(records)))
    failed = problems(records)
    print("\n".join(failed), file=sys.stderr)
    if args.output:
        rows = [record.to_dict() | {"samples": []} for record in records]
        args.output.write_text(json.dumps({"records": rows}, indent=1), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
