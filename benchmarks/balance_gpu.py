"""Verify and time every balance strategy on a GPU, on evenly and unevenly pruned layers of the DLMC.

    python -m benchmarks.balance_gpu --dlmc FOLDER --json docs/data/balance_gpu.json
    python -m benchmarks.balance_gpu --dlmc FOLDER --json FILE --append --sparsity 0.8
    python -m benchmarks.balance_gpu --dlmc FOLDER --record sample_models/recordings
    python -m benchmarks.balance_gpu --write        puts the tables between the markers of docs/balance.md

All strategies are executed by one kernel, csb_gather, so that only the strategy differs. Each is timed with
several heights of an item and takes the best. A wrong result is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.balance_gpu_tables import write_tables
from csbviz.bench.gpu_timing import device_info
from csbviz.bench.strategy_runs import HEIGHTS, StrategyCase, record_strategies, save_strategies, variants
from csbviz.formats import CSBMatrix, load_matrix

_LAYERS = (
    "body_encoder_layer_0_ffn_conv1",
    "body_encoder_layer_0_ffn_conv2",
    "body_decoder_layer_1_self_attention_multihead_attention_q",
)
SETS = {
    "few": (
        "rn50/magnitude_pruning",
        ("bottleneck_2_block_group3_2_1", "bottleneck_1_block_group2_1_1"),
    ),
    "uneven": ("transformer/variational_dropout", _LAYERS),
    "even": ("transformer/magnitude_pruning", _LAYERS),
}
"""Kinds of layers, where they lie, and beginnings of their names: magnitude pruning leaves block rows alike,
variational dropout does not, and some convolutions have two or four block rows only."""

SPARSITIES = ("0.9", "0.8", "0.98", "0.7", "0.95")
COLUMNS = (128, 512, 2048)
BLOCK_SHAPE = (64, 64)

RECORDED = ("body_encoder_layer_0_ffn_conv1", "0.9", 512)


def load(path: Path):
    """The matrix in blocks, and its float64 cells on the device."""
    import cupy

    csr = load_matrix(path).astype("float32")
    return CSBMatrix.from_scipy(csr, block_shape=BLOCK_SHAPE), cupy.asarray(csr.toarray(), cupy.float64)


def find(folder: Path, kind: str, layer: str, sparsity: str) -> Path | None:
    """The file of a layer, or None."""
    return next((folder / SETS[kind][0] / sparsity).glob(f"{layer}*.smtx*"), None)


def layers(args) -> Iterator[tuple[str, str, str, Path]]:
    """Kind, name, sparsity and file of every layer; a layer of each kind comes before the next of any."""
    for sparsity in args.sparsity:
        for position in range(max(len(names) for _, names in SETS.values())):
            for kind, (_, names) in SETS.items():
                path = find(args.dlmc, kind, names[position], sparsity) if position < len(names) else None
                if path is not None:
                    yield kind, names[position], sparsity, path


def measure_all(args) -> dict:
    """Every strategy on every case; what is there is written after each layer."""
    start, device = time.perf_counter(), device_info()
    data = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "device": device}
    data |= {"heights": HEIGHTS, "block_shape": BLOCK_SHAPE, "records": []}
    if args.append:
        data["records"] = json.loads(args.json.read_text(encoding="utf-8"))["records"]
    for kind, layer, sparsity, path in layers(args):
        if time.perf_counter() - start > args.most_seconds:
            print("stopped: no time left", flush=True)
            break
        A, dense64 = load(path)
        if not A.nnz:
            continue
        facts = {"kind": kind, "matrix": layer, "target": sparsity, "m": A.shape[0]}
        facts |= {"k": A.shape[1], "nnz": A.nnz, "sparsity": round(A.sparsity, 5)}
        for n in args.n:
            case = StrategyCase(A, args.op, n, dense64)
            for strategy, execution in variants():
                named = {"op": args.op, "n": n, "strategy": strategy, "execution": execution}
                found = case.measure(strategy, execution, args.min_time)
                found.pop("run", None)
                data["records"].append(facts | named | found)
        if args.json:
            args.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return data


def record_all(args, folder: Path) -> None:
    """Write a recording for the app: every strategy on one even and one uneven layer."""
    layer, sparsity, n = RECORDED
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("even", "uneven"):
        A, _ = load(find(args.dlmc, kind, layer, sparsity))
        model, method = SETS[kind][0].split("/")
        method = method.replace("_", " ")
        matrix = {"set": model, "method": method, "sparsity": sparsity, "name": layer}
        title = f"{kind.capitalize()}: {model}, {method}, {sparsity}"
        recording, problems = record_strategies(A, args.op, n, title, matrix, min_time=args.min_time)
        for problem in problems:
            print(f"{kind}: {problem}", flush=True)
        save_strategies(recording, folder / f"balance_{kind}.json")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dlmc", type=Path, default=os.environ.get("DLMC_DIR"), help="folder of .smtx files")
    parser.add_argument("--json", type=Path, help="where the measurements go")
    parser.add_argument("--append", action="store_true", help="keep the measurements that are there")
    parser.add_argument("--record", type=Path, help="folder for the recordings of the app")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/balance.md")
    parser.add_argument("--op", choices=("A@B", "A.T@B"), default="A@B")
    parser.add_argument("--n", type=int, nargs="+", default=COLUMNS)
    parser.add_argument("--sparsity", nargs="+", default=SPARSITIES)
    parser.add_argument("--min-time", type=float, default=0.004, help="seconds of timing a variant")
    parser.add_argument("--most-seconds", type=float, default=1e9, help="take no further matrix after these")
    args = parser.parse_args()
    if args.dlmc is None and not args.write:
        parser.error("name the folder of matrices with --dlmc or DLMC_DIR")
    args.dlmc = args.dlmc and Path(args.dlmc)
    return args


def main() -> int:
    """Measure, record, or write the tables."""
    args = parse_arguments()
    if args.write:
        write_tables()
        return 0
    if args.record:
        record_all(args, args.record)
        return 0
    data = measure_all(args)
    wrong = [r for r in data["records"] if r["status"] != "ok"]
    print(f"{len(data['records'])} measurements, {len(wrong)} wrong", *wrong[:5], sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
