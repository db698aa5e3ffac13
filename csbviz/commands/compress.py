"""``csbviz compress``: prune, share values, Huffman-code, and save what is left as a .csbz file."""

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
    """Compress, save, and print the size after each stage, with the accuracy where it is asked for."""
    from csbviz.pruning.compression import compress_stages, save
    from csbviz.tasks import task_of

    output = _checked_output(args.output, args.file)
    source = open_source(args.file)
    if not source.is_model:
        raise InputError(f"{source.name} is a matrix; compress needs a model file or a sample.")
    model = source.opened.model
    if args.evaluate:
        task = task_of(model)
        if task is None:
            raise InputError(f"there is no data to evaluate {source.name} on; leave --evaluate out.")
        if reason := task.available():
            raise InputError(reason)
    found = compress_stages(
        model,
        sparsity=args.sparsity,
        conv_bits=args.conv_bits,
        linear_bits=args.linear_bits,
        evaluate=args.evaluate,
    )
    save(output, found.pop("file"))
    result = {"source": source.name, "output": str(output), "bytes": output.stat().st_size, **found}
    emit(args.json, result, _lines(result))
    return 0


def _checked_output(output: str, file: str) -> Path:
    """The path to write, before any work is done for it."""
    from csbviz.pruning.compression import SUFFIX

    path = Path(output)
    if path.suffix.lower() != SUFFIX:
        raise FileFormatError(f"{output} does not end in {SUFFIX}, the format of compressed models.")
    if not path.parent.is_dir():
        raise FileFormatError(f"{path.parent} is no folder; {path.name} cannot be written there.")
    if path.exists() and Path(file).exists() and path.samefile(file):
        raise InputError(
            f"{output} is the model itself; name another file, so that its weights are not lost."
        )
    return path


def _lines(result: dict) -> Iterator[str]:
    metric = result["metric"] if any(stage["metrics"] for stage in result["stages"]) else None
    yield from table(
        ("stage", "bytes", "smaller by", *([metric] if metric else [])),
        [
            (
                stage["title"],
                f"{stage['bytes']:,}",
                f"{stage['ratio']:.1f}x",
                *([percent(stage["metrics"][metric], 2)] if metric else []),
            )
            for stage in result["stages"]
        ],
    )
    yield ""
    yield from table(
        ("layer", "kind", "kept as", "weights", "nonzeros", "values", "bits each", "bytes"),
        [
            (
                layer["name"],
                layer["kind"],
                layer["coding"],
                f"{layer['size']:,}",
                f"{layer['nnz']:,}",
                layer["centroids"] or "-",
                f"{layer['code_bits'] + layer['gap_bits']:.1f}",
                f"{layer['bytes']:,}",
            )
            for layer in result["layers"]
        ],
        left=3,
    )
    yield "Decoded again: every weight as it was quantised, bit for bit"
    yield f"Saved {result['output']} ({size(result['bytes'])})"
