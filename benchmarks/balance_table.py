"""Print how evenly each strategy shares the work of real pruned layers: the tables of docs/balance.md.

    DLMC_DIR=… python -m benchmarks.balance_table --sparsity 0.9 0.98

The numbers are counts of nonzeros, not times: they are the same on every machine.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from csbviz.balance import STRATEGIES, make_plan, simulate
from csbviz.balance.plan import imbalance_of
from csbviz.formats import CSBMatrix, load_matrix

OPS = ("A@B", "A.T@B")


class Shares(NamedTuple):
    """How one strategy shares one product."""

    imbalance: float  # λ of the threads of a static plan
    partials: int  # of that plan
    efficiency: float  # 1/λ of the CTA places of a GPU, simulated
    gpu_partials: int


def measure(A: CSBMatrix, strategy: str, op: str, settings: argparse.Namespace) -> Shares:
    """Make the plan for threads and the one for a GPU, and play the latter."""
    transpose = op == "A.T@B"
    threads = make_plan(A, strategy, transpose=transpose, workers=settings.threads)
    ctas = make_plan(
        A,
        strategy,
        transpose=transpose,
        workers=settings.multiprocessors,
        n=settings.n,
        tile_n=settings.tile_n,
        assignment="dynamic",
    )
    return Shares(threads.imbalance, threads.slots, simulate(ctas).efficiency, ctas.slots)


def unevenness(A: CSBMatrix) -> tuple[float, float, float]:
    """Return max/mean of the rows' and of the block rows' nonzeros, and the share of rows without any."""
    rows = np.diff(A.to_scipy().indptr)
    return imbalance_of(rows), imbalance_of(A.block_nnz().sum(axis=1)), float((rows == 0).mean())


def collect(folder: Path, settings: argparse.Namespace) -> dict[tuple[str, str], list[dict]]:
    """Return for each (collection, sparsity) a list of one dict a file.

    A dict holds `Shares` under (strategy, op), and what `unevenness` returns under "rows".
    """
    groups: dict[tuple[str, str], list[dict]] = {}
    side = settings.block_size
    for path in sorted(folder.glob("*/*/*/*.smtx*")):
        network, method, sparsity = path.parts[-4:-1]
        if settings.sparsity and sparsity not in settings.sparsity:
            continue
        A = CSBMatrix.from_scipy(load_matrix(path), block_shape=(side, side))
        shares = {(name, op): measure(A, name, op, settings) for name in STRATEGIES for op in OPS}
        shares["rows"] = unevenness(A)
        groups.setdefault((f"{network} {method.replace('_', ' ')}", sparsity), []).append(shares)
    return groups


def table(groups: dict, op: str, column: str, worst) -> str:
    """Return a Markdown table: median and worst over the files of a group, a column a strategy."""
    lines = [
        "| collection | sparsity | files | " + " | ".join(STRATEGIES) + " |",
        "| --- | --- | --- | " + " | ".join("---" for _ in STRATEGIES) + " |",
    ]
    for (collection, sparsity), files in sorted(groups.items()):
        cells = []
        for name in STRATEGIES:
            values = [getattr(shares[name, op], column) for shares in files]
            cells.append(f"{np.median(values):.2f} ({worst(values):.2f})")
        lines.append(f"| {collection} | {sparsity} | {len(files)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rows_table(groups: dict, side: int) -> str:
    """Return a Markdown table of how uneven single rows and block rows are."""
    lines = [
        f"| collection | sparsity | rows: max/mean | block rows of {side}: max/mean | rows without entries |",
        "| --- | --- | --- | --- | --- |",
    ]
    for (collection, sparsity), files in sorted(groups.items()):
        values = np.array([shares["rows"] for shares in files])
        middle, worst = np.median(values, axis=0), values.max(axis=0)
        cells = [f"{middle[i]:.2f} ({worst[i]:.2f})" for i in range(2)]
        lines.append(
            f"| {collection} | {sparsity} | {' | '.join(cells)} | {middle[2]:.0%} ({worst[2]:.0%}) |"
        )
    return "\n".join(lines)


def partials(groups: dict, op: str) -> str:
    """Return one sentence on the partials that the splitting strategies write."""
    parts = []
    for name in ("chunks", "equal_nnz", "split_k", "stream_k"):
        files = [shares[name, op] for group in groups.values() for shares in group]
        cpu, gpu = (np.mean([getattr(f, c) for f in files]) for c in ("partials", "gpu_partials"))
        parts.append(f"{name} {cpu:.1f} with threads and {gpu:.1f} on the GPU")
    return f"Partials a layer, on average: {'; '.join(parts)}."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--multiprocessors", type=int, default=132, help="places for CTAs")
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--tile-n", type=int, default=64)
    parser.add_argument("--sparsity", nargs="*", help="folders to take, such as 0.9 0.98 (default: all)")
    settings = parser.parse_args()
    folder = os.environ.get("DLMC_DIR")
    if not folder:
        print("Set DLMC_DIR to a folder of the Deep Learning Matrix Collection.", file=sys.stderr)
        return 2
    groups = collect(Path(folder), settings)
    if not groups:
        print(f"{folder} holds no files like NETWORK/METHOD/SPARSITY/NAME.smtx.", file=sys.stderr)
        return 2
    tiles = -(-settings.n // settings.tile_n)
    print("### Rows and block rows\n")
    print(rows_table(groups, settings.block_size), end="\n\n")
    for op in OPS:
        print(
            f"### {op}: λ of {settings.threads} threads, {settings.block_size}x{settings.block_size} blocks\n"
        )
        print(table(groups, op, "imbalance", max), end="\n\n")
        print(
            f"### {op}: simulated efficiency on {settings.multiprocessors} places, {tiles} tiles of columns\n"
        )
        print(table(groups, op, "efficiency", min), end="\n\n")
        print(partials(groups, op), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
