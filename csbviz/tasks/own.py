"""A task out of a user's own files: an ONNX model, and an .npz of inputs and labels that judge it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from csbviz.errors import InputError
from csbviz.tasks.onnx_runner import Port, Runner, check_memory, ports, working_bytes
from csbviz.tasks.own_data import OwnData, check_data, read_data
from csbviz.tasks.task import Metric, Network, Progress, Task

__all__ = ["OwnData", "check_data", "measure_versions", "own_task", "read_data"]

_BATCH = 64
_BATCH_BYTES = 1 << 30  # of all values between input and output
_FIVE_MEANS_SOMETHING = 10
"""Classes from which on top-5 is measured: of fewer, guessing five is right half of the time."""


@dataclass(frozen=True, eq=False)
class _Module:
    """What stands in a `Network` for the PyTorch module: the model at work."""

    runner: Runner
    output: int

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits, (examples, classes)."""
        found = np.asarray(self.runner.run(feeds)[self.output])
        while found.ndim > 2 and found.shape[-1] == 1:
            found = found[..., 0]
        return found


def own_task(model: bytes, data: OwnData, name: str = "your model", threads: int | None = None) -> Task:
    """Make a task of a user's ONNX model and data.

    Parameters
    ----------
    model : bytes
        Of the .onnx file.
    data : OwnData
        Test data, of `read_data`; no training data comes with it, so methods that need gradients or
        statistics of inputs, and training, cannot use the task.
    name : str
        What to call the model in messages.
    threads : int, optional
        As of `Runner`.

    Returns
    -------
    Task
        `network` takes the prunable weights by the names that `load_model` gives them; those that are left
        out stay as they are in the file. Its `parameters` are empty: the model runs in onnxruntime.

    Raises
    ------
    InputError
        Data and model do not fit each other.
    FileFormatError
        The model cannot be run.
    """
    from csbviz.models import load_model

    inputs, outputs = ports(model, name)
    feeds = check_data(data, inputs, name)
    output = _class_output(outputs, name)
    size = _batch_size(model, feeds, inputs, name)
    layers = load_model(model, "model.onnx").layers
    classes = _count_classes(Runner(model, threads, name), feeds, inputs, output)
    check_labels(data.labels, classes)
    metrics = [Metric("top1", "Top-1 accuracy", 1 / classes)]
    if classes >= _FIVE_MEANS_SOMETHING:
        metrics.append(Metric("top5", "Top-5 accuracy", 5 / classes))
    return Task(
        name="own",
        title=name,
        summary=f"Tell {classes:,} classes apart, on {len(data.labels):,} examples of your own.",
        sample="",
        metrics=tuple(metrics),
        shapes={layer.name: layer.shape for layer in layers},
        network=partial(_network, model, output, name, threads),
        evaluate=partial(_evaluate, feeds, data.labels, inputs, classes, size),
        calibration=_no_training_data,
        data=lambda: f"The accuracy is measured on all {len(data.labels):,} examples of your file.",
    )


def measure_versions(
    model: bytes,
    data: OwnData,
    versions: Mapping[str, Mapping[str, np.ndarray]],
    progress: Progress,
    name: str = "your model",
    threads: int | None = None,
    limit: int | None = None,
) -> dict[str, dict[str, float]]:
    """Measure several versions of a user's model: a job for the measurement service.

    Parameters
    ----------
    model : bytes
        Of the .onnx file.
    data : OwnData
    versions : mapping of str to (mapping of str to numpy.ndarray)
        Name of the version → name of a weight → its values; weights left out stay as in the file.
    progress : callable
        ``progress(fraction, message)``.
    name, threads
        As of `own_task`.
    limit : int, optional
        Take only so many examples, the first ones.

    Returns
    -------
    dict of str to dict
        Name of the version → "top1", "top5" (of 10 classes and more) and "examples".

    Raises
    ------
    InputError, FileFormatError
        As of `own_task`.
    """
    task = own_task(model, data, name, threads)
    found = {}
    for index, (version, weights) in enumerate(versions.items()):

        def step(fraction: float, message: str, index: int = index, version: str = version) -> None:
            progress((index + fraction) / len(versions), f"{version}: {message}")

        found[version] = task.evaluate(task.network(weights), step, limit)
    return found


def check_labels(labels: np.ndarray, classes: int) -> None:
    """Hold labels against the number of classes.

    Raises
    ------
    InputError
        One lies outside.
    """
    if (most := int(labels.max())) >= classes:
        raise InputError(
            f"labels go up to {most:,}, but the model tells {classes:,} classes apart: 0 to {classes - 1:,} "
            "are needed."
        )


def _network(
    model: bytes, output: int, name: str, threads: int | None, weights: Mapping[str, np.ndarray]
) -> Network:
    from csbviz.models import load_model, write_onnx

    loaded = load_model(model, "model.onnx")
    prunable = {layer.name for layer in loaded.prunable_layers()}
    changed = loaded.with_weights({key: value for key, value in weights.items() if key in prunable})
    return Network(_Module(Runner(write_onnx.to_bytes(model, changed), threads, name), output), {}, {}, {})


def _evaluate(
    feeds: Mapping[str, np.ndarray],
    labels: np.ndarray,
    inputs: tuple[Port, ...],
    classes: int,
    size: int,
    network: Network,
    progress: Progress | None = None,
    limit: int | None = None,
) -> dict[str, float]:
    """Count the right answers; the first class comes first of equal ones, NaN is never right."""
    labels = labels[:limit]
    first = five = begin = 0
    while begin < len(labels):
        right = labels[begin : begin + size]
        try:
            logits = _logits(network.module, feeds, inputs, begin, len(right), size)
        except InputError:
            # Exported for one example at a time although the file says otherwise: a fixed shape inside.
            if size == 1 or begin or _fixed_batch(inputs):
                raise
            size = 1
            continue
        if logits.shape[1] != classes:
            raise InputError(f"the model gives {logits.shape[1]:,} classes here and {classes:,} before.")
        ranks = _ranks(logits, right)
        first += int((ranks == 0).sum())
        five += int((ranks < 5).sum())
        begin += len(right)
        if progress is not None:
            progress(begin / len(labels), f"{begin:,} of {len(labels):,} examples")
    found = {"top1": first / len(labels)}
    if classes >= _FIVE_MEANS_SOMETHING:
        found["top5"] = five / len(labels)
    return found | {"examples": len(labels)}


def _logits(
    module: Any,
    feeds: Mapping[str, np.ndarray],
    inputs: tuple[Port, ...],
    begin: int,
    count: int,
    size: int,
) -> np.ndarray:
    """Run `count` examples; a model of a fixed batch gets the last example again until it is full."""
    batch = {name: array[begin : begin + count] for name, array in feeds.items()}
    if missing := (size - count if _fixed_batch(inputs) else 0):
        batch = {
            name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
            for name, array in batch.items()
        }
    logits = module({name: np.ascontiguousarray(array) for name, array in batch.items()})
    if logits.ndim != 2 or len(logits) != count + missing or logits.dtype.kind not in "fiu":
        raise InputError(
            f"the model gives numbers of shape {logits.shape} for {count + missing} examples; a score for "
            "each class, shape (examples, classes), is needed."
        )
    return logits[:count]


def _ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    right = np.take_along_axis(logits, labels[:, None], axis=1)
    behind = (logits < right) | ((logits == right) & (np.arange(logits.shape[1]) >= labels[:, None]))
    return (~behind).sum(axis=1)


def _fixed_batch(inputs: tuple[Port, ...]) -> int:
    """The length of the first axis that the model insists on, 0 for any."""
    return next((port.shape[0] for port in inputs if port.shape and port.shape[0]), 0)


def _batch_size(model: bytes, feeds: Mapping[str, np.ndarray], inputs: tuple[Port, ...], name: str) -> int:
    """Examples at a time: as many as the model insists on, else what keeps its values in bounds."""
    fixed = _fixed_batch(inputs)
    least = fixed or 1
    smallest = working_bytes(model, {key: (least, *array.shape[1:]) for key, array in feeds.items()}, name)
    size = fixed or max(1, min(_BATCH, _BATCH_BYTES // max(1, smallest)))
    check_memory(smallest * size // least, name)
    return size


def _count_classes(
    runner: Runner, feeds: Mapping[str, np.ndarray], inputs: tuple[Port, ...], output: int
) -> int:
    """Classes, by running one example: shapes in a file may be missing."""
    size = _fixed_batch(inputs) or 1
    classes = _logits(_Module(runner, output), feeds, inputs, 0, 1, size).shape[1]
    if classes < 2:
        raise InputError(
            f"{runner.name} gives {classes} number{'s' * (classes != 1)} for an example; a score for each of "
            "two or more classes is needed."
        )
    return classes


def _class_output(outputs: tuple[Port, ...], name: str) -> int:
    """The place of the output with the scores: the first that can hold a number for each class."""
    for place, port in enumerate(outputs):
        if port.dtype.startswith(("float", "bfloat")) and (port.shape is None or len(port.shape) >= 2):
            return place
    said = ", ".join(f"{port.name} ({port.dtype or 'no tensor'})" for port in outputs[:4]) or "none"
    raise InputError(
        f"{name} has no output with a score for each class, a floating-point tensor of shape (examples, "
        f"classes); its outputs: {said}."
    )


def _no_training_data(count: int, seed: int) -> list:
    raise InputError(
        "methods that look at data need training data, and your file is for the test alone; use magnitude, "
        "l2 or random."
    )
