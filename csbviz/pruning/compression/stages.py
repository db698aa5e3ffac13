"""`compress_stages`: a model's size and accuracy after each stage of Deep Compression, and its file."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.errors import InputError
from csbviz.models import load_model
from csbviz.pruning.compression.codec import checked_bits, encode
from csbviz.pruning.compression.quantise import quantise
from csbviz.pruning.prune import prune_model
from csbviz.pruning.registry import METHODS
from csbviz.pruning.training.versions import versions
from csbviz.tasks import Task, task_of

if TYPE_CHECKING:
    from csbviz.models import Model

__all__ = ["compress_stages"]

_TITLES = {
    "dense": "Dense",
    "pruned": "Pruned, with gaps as indices",
    "quantised": "Quantised, with a code book",
    "huffman": "Huffman-coded",
}


def compress_stages(
    model: Model,
    sparsity: float | None = 0.9,
    dense: Model | None = None,
    method: str = "magnitude",
    scope: str = "global",
    granularity: str | Mapping[str, Any] = "weight",
    options: Mapping[str, Any] | None = None,
    layers: Sequence[str] | None = None,
    seed: int = 0,
    conv_bits: int = 8,
    linear_bits: int = 5,
    conv_gap_bits: int = 8,
    linear_gap_bits: int = 5,
    evaluate: bool = True,
    limit: int | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> dict[str, Any]:
    """Prune, quantise and encode a model, and measure it after each stage.

    Sizes are those of real files, headers and checksums with them, against the bare bytes of dense tensors.
    The last stage is decoded again by `csbviz.models.load_model` and compared bit for bit.

    Parameters
    ----------
    model : Model
    sparsity : float or None
        As in `prune_model`; None takes the model as it is, pruned already.
    dense : Model, optional
        The model before it was pruned, for the first stage; `model` otherwise.
    method, scope, granularity, options, layers, seed
        As in `prune_model`.
    conv_bits, linear_bits, conv_gap_bits, linear_gap_bits : int
        As in `quantise` and `encode`.
    evaluate : bool
        Measure the accuracy too, where there is a task for the model.
    limit : int, optional
        Only the first so many test examples.
    progress : callable, optional
        progress(fraction, message).

    Returns
    -------
    dict
        JSON-safe but for "file", the bytes of the .csbz file: model, task, metric, settings, stages (stage,
        title, bytes, ratio, nnz, metrics), layers (as in `Encoded`), exact, seconds, versions.

    Raises
    ------
    OptionError, InputError, MatrixError
        As in `prune_model`, `quantise` and `encode`.
    """
    begun = time.monotonic()
    tell = progress or (lambda fraction, message: None)
    bits = {"conv_bits": conv_bits, "linear_bits": linear_bits}
    gap_bits = {"conv_gap_bits": conv_gap_bits, "linear_gap_bits": linear_gap_bits}
    for name, value in (bits | gap_bits).items():
        checked_bits(name, value)
    task = task_of(model)
    measure = _Measure(task if evaluate and task and not task.available() else None, limit, tell)
    tell(0.0, "Pruning")
    pruning = None
    pruned = model
    if sparsity is not None:
        cut = _prune(model, task, method, scope, sparsity, layers, seed, granularity, options)
        pruned, pruning = cut.model, cut.settings
    tell(0.15, "Finding the shared values")
    shared = quantise(pruned, **bits)
    tell(0.3, "Encoding")
    files = {
        "pruned": encode(pruned, **gap_bits, coding="sparse").data,
        "quantised": encode(shared, **gap_bits, coding="codes").data,
    }
    encoded = encode(shared, **gap_bits)
    files["huffman"] = encoded.data
    tell(0.4, "Decoding")
    decoded = load_model(io.BytesIO(encoded.data), name=f"{model.name}.csbz")
    _check_equal(shared, decoded)
    first = dense or model
    stages = []
    for number, (stage, one) in enumerate(
        {"dense": first, "pruned": pruned, "quantised": shared, "huffman": decoded}.items()
    ):
        size = len(files[stage]) if stage in files else first.nbytes
        stages.append(
            {
                "stage": stage,
                "title": _TITLES[stage],
                "bytes": size,
                "ratio": first.nbytes / size,
                "nnz": sum(layer.nnz for layer in one.prunable_layers()),
                "metrics": measure(one, 0.45 + 0.13 * number, _TITLES[stage]),
            }
        )
    tell(1.0, "Done")
    return {
        "model": model.name,
        "task": task.name if task else None,
        "metric": task.metric.name if task else None,
        "settings": {"pruning": pruning, **bits, **gap_bits, "limit": limit},
        "stages": stages,
        "layers": [dict(layer) for layer in encoded.layers],
        "exact": True,
        "seconds": round(time.monotonic() - begun, 3),
        "versions": versions(),
        "file": encoded.data,
    }


def _prune(model, task, method, scope, sparsity, layers, seed, granularity, options):
    evidence = None
    if method in METHODS and METHODS[method].needs:
        if task is None:
            raise InputError(
                f"the method {method} measures the model on data, and there is no data for {model.name}; use "
                "a sample model, or magnitude, l2 or random."
            )
        if reason := task.available():
            raise InputError(reason)
        from csbviz.pruning.evidence import collect

        evidence = collect(task, task.network(task.weights_of(model)), METHODS[method].needs, seed=seed)
    return prune_model(model, method, scope, sparsity, layers, seed, granularity, options, evidence)


class _Measure:
    """The accuracy of a model; that of equal weights is measured once."""

    def __init__(self, task: Task | None, limit: int | None, tell: Callable[[float, str], None]) -> None:
        self._task, self._limit, self._tell = task, limit, tell
        self._known: list[tuple[Model, dict[str, float]]] = []

    def __call__(self, model: Model, begin: float, title: str) -> dict[str, float]:
        if self._task is None:
            return {}
        for known, found in self._known:
            if _equal(known, model):
                return dict(found)

        def tell(fraction: float, message: str) -> None:
            self._tell(begin + 0.13 * fraction, f"{title}: {message}")

        network = self._task.network(self._task.weights_of(model))
        found = self._task.evaluate(network, tell, self._limit)
        self._known.append((model, found))
        return dict(found)


def _equal(first: Model, second: Model) -> bool:
    """Whether two models have the same tensors, bit for bit."""
    return len(first.layers) == len(second.layers) and all(
        (a.name, a.dtype, a.shape) == (b.name, b.dtype, b.shape)
        and np.array_equal(_bits(a.tensor.data), _bits(b.tensor.data))
        for a, b in zip(first.layers, second.layers, strict=True)
    )


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _check_equal(shared: Model, decoded: Model) -> None:
    if not _equal(shared, decoded):
        raise RuntimeError("the decoder did not give back the weights that were encoded")
