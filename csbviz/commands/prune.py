"""``csbviz prune``: prune a model and save it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from csbviz.commands.output import emit, table
from csbviz.commands.sources import open_source
from csbviz.errors import FileFormatError, InputError
from csbviz.figures.text import percent, size

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Prune, save, and print each layer's sparsity."""
    from csbviz.pruning import prune_model

    output = _checked_output(args.output, args.file)
    source = open_source(args.file)
    if not source.is_model:
        raise InputError(f"{source.name} is a matrix; prune needs a model file or a sample.")
    layers = [layer.name for layer in source.layers(args.layer)] if args.layer else None
    pruned = prune_model(
        source.opened.model,
        method=args.method,
        scope=args.scope,
        sparsity=args.sparsity,
        layers=layers,
        seed=args.seed,
        granularity=args.granularity,
    )
    pruned.model.save(output)
    rows = [
        {
            "name": layer.name,
            "rows": layer.rows,
            "cols": layer.cols,
            "nnz": layer.nnz,
            "sparsity": layer.sparsity,
        }
        for layer in pruned.per_layer
    ]
    nnz, values = sum(layer.nnz for layer in pruned.per_layer), sum(layer.size for layer in pruned.per_layer)
    result = {
        "source": source.name,
        "output": str(output),
        "bytes": output.stat().st_size,
        "settings": pruned.settings,
        "nnz": nnz,
        "values": values,
        "sparsity": 1.0 - nnz / values if values else 0.0,
        "layers": rows,
    }
    emit(args.json, result, _lines(result))
    return 0


def _checked_output(output: str, file: str) -> Path:
    """The path to write, before any work is done for it."""
    path = Path(output)
    if path.suffix != ".safetensors":
        raise FileFormatError(
            f"{output} does not end in .safetensors, the format in which pruned models are saved."
        )
    if not path.parent.is_dir():
        raise FileFormatError(f"{path.parent} is no folder; {path.name} cannot be written there.")
    if path.exists() and Path(file).exists() and path.samefile(file):
        raise InputError(
            f"{output} is the model itself; name another file, so that its weights are not lost."
        )
    return path


def _lines(result: dict) -> Iterator[str]:
    yield from table(
        ("layer", "shape", "nonzeros", "sparsity"),
        [
            (row["name"], f"{row['rows']} x {row['cols']}", f"{row['nnz']:,}", percent(row["sparsity"], 2))
            for row in result["layers"]
        ],
    )
    yield f"{result['nnz']:,} of {result['values']:,} weights kept, sparsity {percent(result['sparsity'], 2)}"
    yield f"Saved {result['output']} ({size(result['bytes'])})"
