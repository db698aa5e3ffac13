"""``csbviz evaluate``: accuracy, compression and theoretical speed-up of a model."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from typing import Any

from csbviz.commands.output import emit, table
from csbviz.commands.sources import open_source
from csbviz.errors import InputError, UnavailableError

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Measure a model on its task's test data, and count what its zeros save."""
    from csbviz.pruning.flops import cost_of
    from csbviz.tasks import TASKS, task_named, task_of

    source = open_source(args.file)
    if not source.is_model:
        raise InputError(f"{source.name} is a matrix; evaluate needs a model file or a sample.")
    model = source.opened.model
    task = task_named(args.task) if args.task else task_of(model)
    if task is None:
        titles = ", ".join(f"{name} ({known.title})" for name, known in TASKS.items())
        raise InputError(f"there is no data for {source.name}: its tensors are not those of {titles}.")
    weights = task.weights_of(model)
    if missing := task.available():
        raise UnavailableError(missing)
    network = task.network(weights)
    metrics = task.evaluate(network, limit=args.limit)
    cost = cost_of(weights, network.products)
    result = {
        "source": source.name,
        "task": task.name,
        "title": task.title,
        "metrics": metrics,
        "limit": args.limit,
        "parameters": cost.parameters,
        "kept": cost.kept,
        "compression": cost.compression,
        "dense_flops": cost.dense_flops,
        "flops": cost.flops,
        "speedup": cost.speedup,
        "data": task.data(),
    }
    emit(args.json, result, _lines(result, {metric.name: metric.title for metric in task.metrics}))
    return 0


def _lines(result: dict[str, Any], titles: dict[str, str]) -> Iterator[str]:
    yield f"{result['title']}, {result['metrics']['examples']:,} test examples"
    rows = [(titles[name], f"{100 * result['metrics'][name]:.2f} %") for name in titles]
    kept = f"{result['kept']:,} of {result['parameters']:,} parameters are not zero"
    work = f"{result['flops']:,} of {result['dense_flops']:,} FLOPs an example are left"
    rows.append(("Compression", f"{_times(result['compression'])}  ({kept})"))
    rows.append(("Speed-up in theory", f"{_times(result['speedup'])}  ({work})"))
    yield from table(("measure", "value"), rows, left=2)


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x" if math.isfinite(ratio) else "∞"
