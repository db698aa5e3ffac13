"""``csbviz layout``: the block grid of a matrix, its bytes in each format, and its balance per strategy."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from csbviz.commands.output import emit, table, wrapped
from csbviz.commands.sources import open_source
from csbviz.figures.text import percent, size

__all__ = ["lay_out", "run"]

BETAS = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Square block sizes of the curve of index bytes per nonzero."""


def run(args: argparse.Namespace) -> int:
    """Lay out the matrix, or each chosen layer, and print one in full or several in a table."""
    source = open_source(args.file)
    layouts = []
    for layer in source.layers(args.layer):
        csr = source.opened.csr(layer.name)
        layouts.append({"name": layer.name} | lay_out(csr, args.block_size, args.order, args.workers))
    result = {"name": source.name, "layouts": layouts}
    lines = _in_full(layouts[0]) if len(layouts) == 1 else _in_short(layouts)
    emit(args.json, result, lines)
    return 0


def lay_out(csr, block_shape: tuple[int, int] | None, order: str = "row", workers: int | None = None) -> dict:
    """Numbers of a matrix in CSB, as plain values.

    Parameters
    ----------
    csr : scipy.sparse.csr_matrix
        The matrix.
    block_shape : pair of int or None
        Rows and columns of a block; None lets `choose_block_shape` choose for this machine's processors.
    order : str
        Order of the entries inside a block.
    workers : int, optional
        Workers that share the products; by default the processors of this machine.

    Raises
    ------
    OptionError
        If the block shape or the number of workers is out of range.
    """
    from csbviz.balance import STRATEGIES, make_plan
    from csbviz.formats import CSBMatrix
    from csbviz.formats.sizes import format_bytes, index_bytes_per_nonzero
    from csbviz.ops.threads import cpu_count

    workers = workers or cpu_count()
    A = CSBMatrix.from_scipy(csr, block_shape=block_shape, order=order)
    sizes = format_bytes(csr, A.block_shape, value_bytes=csr.dtype.itemsize)
    return {
        "shape": list(A.shape),
        "nnz": A.nnz,
        "sparsity": A.sparsity,
        "dtype": A.dtype,
        "block_shape": list(A.block_shape),
        "order": A.order,
        "grid": list(A.grid),
        "block_nnz": _spread(A.block_nnz()),
        "bytes": {name: None if stored is None else _size_dict(stored) for name, stored in sizes.items()},
        "index_bytes_per_nonzero": index_bytes_per_nonzero(csr, BETAS),
        "workers": workers,
        "imbalance": {
            op: {
                name: make_plan(A, name, transpose=transpose, workers=workers).imbalance
                for name in STRATEGIES
            }
            for op, transpose in (("A@B", False), ("A.T@B", True))
        },
    }


def _spread(counts) -> dict:
    """How the nonzeros spread over the blocks."""
    import numpy as np

    if counts.size == 0:
        return {"blocks": 0, "empty": 0, "min": 0, "median": 0.0, "mean": 0.0, "std": 0.0, "max": 0}
    return {
        "blocks": int(counts.size),
        "empty": int((counts == 0).sum()),
        "min": int(counts.min()),
        "median": float(np.median(counts)),
        "mean": float(counts.mean()),
        "std": float(counts.std()),
        "max": int(counts.max()),
    }


def _size_dict(stored) -> dict:
    return {
        "values": stored.values,
        "indices": stored.indices,
        "pointers": stored.pointers,
        "total": stored.total,
        "note": stored.note,
    }


def _pair(values: list[int]) -> str:
    return f"{values[0]} x {values[1]}"


def _size(number: int | None) -> str:
    return "-" if number is None else size(number)


def _in_full(layout: dict) -> Iterator[str]:
    yield (
        f"{layout['name']}: {_pair(layout['shape'])}, {layout['nnz']:,} nonzeros, "
        f"sparsity {percent(layout['sparsity'], 2)}, {layout['dtype']}"
    )
    blocks = layout["block_nnz"]
    yield (
        f"Blocks of {_pair(layout['block_shape'])}, {layout['order']} order: grid {_pair(layout['grid'])}, "
        f"{blocks['empty']} of {blocks['blocks']} blocks empty"
    )
    yield (
        f"Nonzeros per block: least {blocks['min']}, median {blocks['median']:g}, mean {blocks['mean']:.1f} "
        f"± {blocks['std']:.1f}, most {blocks['max']}"
    )
    yield ""
    yield from _bytes_table(layout)
    yield ""
    curve = layout["index_bytes_per_nonzero"]
    yield from table(
        ("index bytes per nonzero", *(f"β={beta}" for beta in curve)),
        [("CSB", *(f"{value:.2f}" for value in curve.values()))],
    )
    yield "square blocks, one packed byte an entry up to β=16; CSR takes " + _csr_index_bytes(layout)
    yield ""
    yield from table(
        (f"λ, {layout['workers']} workers", "A@B", "A.T@B"),
        [
            (name, f"{forward:.3f}", f"{layout['imbalance']['A.T@B'][name]:.3f}")
            for name, forward in layout["imbalance"]["A@B"].items()
        ],
    )
    yield "λ: most nonzeros of a worker over the mean; 1 is perfect balance"


def _csr_index_bytes(layout: dict) -> str:
    csr = layout["bytes"]["csr"]
    return f"{(csr['indices'] + csr['pointers']) / layout['nnz']:.2f}" if layout["nnz"] else "-"


def _bytes_table(layout: dict) -> Iterator[str]:
    dense = layout["bytes"]["dense"]["total"]
    rows, notes = [], []
    for name, stored in layout["bytes"].items():
        if stored is None:
            rows.append((name, "-", "-", "-", "-", "-"))
            continue
        if stored["note"]:
            notes += wrapped("", f"{name}: {stored['note']}", 2)
        parts = (stored["values"], stored["indices"], stored["pointers"], stored["total"])
        total = stored["total"]
        share = f"{100 * total / dense:.1f} %" if dense and total is not None else "-"
        rows.append((name, *(_size(part) for part in parts), share))
    yield from table(("format", "values", "indices", "pointers", "total", "of dense"), rows)
    yield from notes


def _in_short(layouts: list[dict]) -> Iterator[str]:
    rows = []
    for layout in layouts:
        forward = layout["imbalance"]["A@B"]
        best = min(forward, key=forward.get)
        csr, csb = (layout["bytes"][name]["total"] for name in ("csr", "csb"))
        rows.append(
            (
                layout["name"],
                _pair(layout["shape"]),
                percent(layout["sparsity"], 2),
                "x".join(map(str, layout["block_shape"])),
                _pair(layout["grid"]),
                f"{layout['block_nnz']['mean']:.1f}",
                size(csb),
                f"{csb / csr:.2f}" if csr else "-",
                f"{forward['in_order']:.2f}",
                f"{forward[best]:.2f}",
            )
        )
    header = ("layer", "shape", "sparsity", "block", "grid", "nnz/block", "CSB", "of CSR", "λ", "best λ")
    yield from table(header, rows)
    yield f"λ of A@B on {layouts[0]['workers']} workers: block rows in order, and the best strategy"
    yield "--layer NAME shows one layer in full"
