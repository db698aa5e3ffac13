"""``csbviz prune``: prune a model and save it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csbviz.commands.output import emit, table, wrapped
from csbviz.commands.sources import Source, open_source
from csbviz.errors import FileFormatError, InputError, OptionError
from csbviz.figures.text import percent, size

if TYPE_CHECKING:
    from csbviz.models import Model
    from csbviz.pruning.evidence import Evidence

__all__ = ["run"]

_ENDINGS = (".safetensors", ".npz", ".onnx")


def run(args: argparse.Namespace) -> int:
    """Prune, save, and print each layer's sparsity."""
    from csbviz.pruning import prune_model

    output = _checked_output(args.output, args.file)
    granularity, options = _granularity(args)
    source = open_source(args.file)
    if not source.is_model:
        raise InputError(f"{source.name} is a matrix; prune needs a model file or a sample.")
    model = source.opened.model
    pruned = prune_model(
        model,
        method=args.method,
        scope=args.scope,
        sparsity=args.sparsity,
        layers=_layers(source, args.layer, args.lock),
        seed=args.seed,
        granularity=granularity,
        options=options,
        evidence=_evidence(model, args.method, args.seed),
    )
    _save(pruned.model, output, args.file)
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
        "skipped": pruned.skipped,
        "nnz": nnz,
        "values": values,
        "sparsity": 1.0 - nnz / values if values else 0.0,
        "layers": rows,
    }
    emit(args.json, result, _lines(result))
    return 0


def _granularity(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The granularity and its options; an option alone says the granularity too."""
    given = {name: value for name in ("nm", "block", "heads") if (value := getattr(args, name)) is not None}
    implied = {"nm": "nm", "block": "block", "heads": "head"}.get(next(iter(given), ""), "weight")
    return args.granularity or implied, given


def _layers(source: Source, chosen: Sequence[str] | None, locked: Sequence[str] | None) -> list[str] | None:
    """Names of the layers to prune; None for those that are pruned when none are named."""
    if not chosen and not locked:
        return None
    if chosen:
        names = [layer.name for layer in source.layers(chosen)]
    else:
        names = [layer.name for layer in source.opened.layers if layer.name not in source.opened.spared]
    spared = {layer.name for layer in source.layers(locked)} if locked else set()
    free = [name for name in names if name not in spared]
    if not free:
        raise OptionError("every chosen layer is locked; leave at least one to prune.")
    return free


def _evidence(model: Model, method: str, seed: int) -> Evidence | None:
    """What the method must know of the data, collected on the task's training data; None when nothing."""
    from csbviz.pruning import METHODS

    if method not in METHODS or not METHODS[method].needs:
        return None
    from csbviz.pruning.evidence import collect
    from csbviz.tasks import task_of

    task = task_of(model)
    if task is None:
        raise InputError(
            f"the method {method} measures the model on data, and there is no data for {model.name}; use a "
            "sample model, or magnitude, l2 or random."
        )
    if reason := task.available():
        raise InputError(reason)
    return collect(task, task.network(task.weights_of(model)), METHODS[method].needs, seed=seed)


def _checked_output(output: str, file: str) -> Path:
    """The path to write, before any work is done for it."""
    path = Path(output)
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise FileFormatError(
            f"{output} does not end in .safetensors, .npz or .onnx, the formats of pruned models."
        )
    if ending == ".onnx" and not file.lower().endswith(".onnx"):
        raise FileFormatError(
            f"{output} is to be an ONNX file, but {file} is none: an ONNX file holds a graph, which only "
            "another ONNX file can give; write .safetensors or .npz."
        )
    if not path.parent.is_dir():
        raise FileFormatError(f"{path.parent} is no folder; {path.name} cannot be written there.")
    if path.exists() and Path(file).exists() and path.samefile(file):
        raise InputError(
            f"{output} is the model itself; name another file, so that its weights are not lost."
        )
    return path


def _save(model: Model, output: Path, file: str) -> None:
    ending = output.suffix.lower()
    if ending == ".npz":
        from csbviz.models import write_npz

        write_npz.save(output, [layer.tensor for layer in model.layers])
    elif ending == ".onnx":
        _save_onnx(model, output, file)
    else:
        model.save(output)


def _save_onnx(model: Model, output: Path, file: str) -> None:
    from csbviz.models import write_onnx

    write_onnx.save(output, file, model)


def _lines(result: dict) -> Iterator[str]:
    yield from table(
        ("layer", "shape", "nonzeros", "sparsity"),
        [
            (row["name"], f"{row['rows']} x {row['cols']}", f"{row['nnz']:,}", percent(row["sparsity"], 2))
            for row in result["layers"]
        ],
    )
    for why in dict.fromkeys(result["skipped"].values()):
        names = [name for name, reason in result["skipped"].items() if reason == why]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield from wrapped("As before:", f"{', '.join(names[:3])}{more}, because {why}", indent=11)
    yield f"{result['nnz']:,} of {result['values']:,} weights kept, sparsity {percent(result['sparsity'], 2)}"
    yield f"Saved {result['output']} ({size(result['bytes'])})"
