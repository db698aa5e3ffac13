"""``csbviz info``: the layers of a model, or a matrix, in numbers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from csbviz.commands.output import emit, table
from csbviz.commands.sources import Source, open_source
from csbviz.figures.text import percent, size

__all__ = ["describe", "run"]


def run(args: argparse.Namespace) -> int:
    """Print what `describe` finds."""
    source = open_source(args.file)
    found = describe(source, args.layer)
    emit(args.json, found, _lines(found))
    return 0


def describe(source: Source, patterns: list[str] | None = None) -> dict:
    """Shape, nonzeros, sparsity, and nonzeros per row and column of a source's matrices, as plain values.

    Parameters
    ----------
    source : Source
        A model or a matrix.
    patterns : list of str, optional
        Names of the layers to describe; every prunable layer by default.
    """
    model = source.opened.model
    layers = [
        {"name": layer.name, "kind": layer.kind, "shape": list(layer.shape)}
        | _numbers(source.opened.csr(layer.name))
        for layer in source.layers(patterns)
    ]
    found = {"name": source.name, "kind": "model" if source.is_model else "matrix", "layers": layers}
    if model is not None:
        found["digest"] = model.digest
        found["tensors"] = len(model.layers)
        found["values"] = sum(layer.size for layer in model.layers)
    if source.csb is not None:
        found["csb"] = _csb_numbers(source.csb)
    return found


def _numbers(csr) -> dict:
    """Counts of a CSR matrix; stored zeros do not count."""
    import numpy as np

    rows, cols = csr.shape
    filled = csr.data != 0
    per_row = np.bincount(np.repeat(np.arange(rows), np.diff(csr.indptr))[filled], minlength=rows)
    per_col = np.bincount(csr.indices[filled], minlength=cols)
    nnz = int(per_row.sum())
    return {
        "dtype": str(csr.dtype),
        "rows": rows,
        "cols": cols,
        "nnz": nnz,
        "sparsity": 1.0 - nnz / (rows * cols),
        "row_mean": float(per_row.mean()),
        "row_std": float(per_row.std()),
        "row_max": int(per_row.max()),
        "col_mean": float(per_col.mean()),
        "col_std": float(per_col.std()),
        "col_max": int(per_col.max()),
    }


def _csb_numbers(A) -> dict:
    return {
        "block_shape": list(A.block_shape),
        "grid": list(A.grid),
        "order": A.order,
        "transposed": A.transposed,
        "dtype": A.dtype,
        "bytes": A.nbytes,
        "index_bytes": A.index_bytes,
    }


def _lines(found: dict) -> Iterator[str]:
    layers = found["layers"]
    if found["kind"] == "model":
        yield f"{found['name']}: model of {found['tensors']} tensors, {found['values']:,} values"
    else:
        yield f"{found['name']}: matrix, {layers[0]['dtype']}"
    header = ("layer", "kind", "shape", "nonzeros", "sparsity", "per row", "per column")
    yield from table(header, [_cells(layer) for layer in layers], left=2)
    if len(layers) > 1:
        nnz, values = sum(layer["nnz"] for layer in layers), sum(_weights(layer) for layer in layers)
        sparsity = percent(1.0 - nnz / values, 2)
        yield f"{len(layers)} prunable layers: {nnz:,} nonzeros of {values:,} weights, sparsity {sparsity}"
    yield "per row, per column: mean ± standard deviation of the nonzeros"
    if "csb" in found:
        yield from _csb_lines(found["csb"])


def _csb_lines(csb: dict) -> Iterator[str]:
    blocks, grid = csb["block_shape"], csb["grid"]
    yield (
        f"CSB: blocks of {blocks[0]} x {blocks[1]}, grid {grid[0]} x {grid[1]}, {csb['order']} order"
        f"{', transposed view' if csb['transposed'] else ''}, {csb['dtype']}"
    )
    yield f"{size(csb['bytes'])}, of which indices {size(csb['index_bytes'])}"


def _weights(layer: dict) -> int:
    return layer["rows"] * layer["cols"]


def _cells(layer: dict) -> tuple[str, ...]:
    return (
        layer["name"],
        layer["kind"],
        f"{layer['rows']} x {layer['cols']}",
        f"{layer['nnz']:,}",
        percent(layer["sparsity"], 2),
        f"{layer['row_mean']:.1f} ± {layer['row_std']:.1f}",
        f"{layer['col_mean']:.1f} ± {layer['col_std']:.1f}",
    )
