"""`study`: accuracy over sparsity for several methods and granularities, with controls that keep it honest.

The rules are those of Blalock et al. (2020): at least five operating points, mean and standard deviation over
seeds, compression and theoretical speed-up told apart, and always the dense control and a random baseline.
"""

from __future__ import annotations

import datetime
import math
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.errors import UnavailableError
from csbviz.pruning.flops import cost_of
from csbviz.pruning.registry import METHODS
from csbviz.pruning.study_points import DENSE, Point, digest_of, layers_of, plan, pruned_weights
from csbviz.tasks.registry import task_named
from csbviz.tasks.task import Task

if TYPE_CHECKING:
    from csbviz.pruning.evidence import Evidence

__all__ = ["SPARSITIES", "pruned_weights", "study", "summary"]

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
"""What is asked for when nothing else is."""

_SAME = ("task", "method", "granularity", "options", "scope", "layers", "retrained", "sparsity")


class _GiveWay(Exception):
    """Another job waits."""


def study(
    task: str | Task,
    weights: Mapping[str, np.ndarray],
    methods: Sequence[str] = ("magnitude",),
    granularities: Sequence[str | Mapping[str, Any]] = ("weight",),
    sparsities: Sequence[float] = SPARSITIES,
    seeds: Sequence[int] = (0, 1, 2),
    limit: int | None = None,
    scope: str = "global",
    layers: Sequence[str] | None = None,
    retrain: Mapping[str, Any] | None = None,
    calibration: int = 512,
    turned: Collection[str] = (),
    done: Iterable[Mapping[str, Any]] = (),
    progress: Callable[..., None] | None = None,
) -> dict[str, Any] | Any:
    """Prune a model in many ways, and measure each.

    Parameters
    ----------
    task : str or Task
    weights : mapping of str to numpy.ndarray
        What `Task.weights_of` gives.
    methods : sequence of str
        Names in `METHODS`; "random" is added when it is not there.
    granularities : sequence of str or mapping
        Names in `GRANULARITIES`, or options such as ``{"block": (8, 8)}``. N:M has one point each, whatever
        the sparsities.
    sparsities : sequence of float
        At least five.
    seeds : sequence of int
        Of methods that draw, of the calibration data, and of the training.
    limit : int, optional
        As in `Task.evaluate`; None for the accuracy to report.
    scope, layers
        As in `prune_model`.
    retrain : mapping, optional
        Settings of the training method "finetune" (epochs, learning_rate, …): every point and the dense
        control are trained alike after pruning, and what is zero stays zero.
    calibration : int
        Training examples that methods learn from that need any.
    turned : collection of str
        Names of weights that are kept as (inputs, outputs).
    done : iterable of mapping
        Records of this study that are there already.
    progress : callable, optional
        ``progress(fraction, message)``; the service's own also takes partial results and tells whether
        another job waits, which this one then lets pass.

    Returns
    -------
    dict
        "task", "metric" (its name), "chance", "limit", "points" (how many in all) and "records": a dict of
        plain values for each point. Or what ``progress.paused(…)`` gives, when another job waits.

    Raises
    ------
    OptionError, InputError
        What is asked for cannot be; see `plan` and `prune_model`.
    UnavailableError
        The task's data is not on this machine.

    References
    ----------
    Blalock, Gonzalez Ortiz, Frankle, Guttag: What is the State of Neural Network Pruning?, MLSys 2020.
    """
    task = task if isinstance(task, Task) else task_named(task)
    points = plan(methods, granularities, sparsities, seeds, scope, retrain is not None)
    layers_of(weights, layers)
    if missing := task.available():
        raise UnavailableError(missing)
    work = _Study(task, weights, points, limit, scope, layers, retrain, calibration, turned, progress)
    work.records = [dict(record) for record in done]
    try:
        work.go()
    except _GiveWay:
        given = (
            ("task", task),
            ("weights", weights),
            ("methods", methods),
            ("granularities", granularities),
            ("sparsities", sparsities),
            ("seeds", seeds),
            ("limit", limit),
            ("scope", scope),
            ("layers", layers),
            ("retrain", retrain),
            ("calibration", calibration),
            ("turned", turned),
            ("done", work.records),
        )
        return progress.paused(dict(given))
    return work.result()


class _Study:
    """The work on one study; `records` grows with it."""

    def __init__(
        self, task, weights, points, limit, scope, layers, retrain, calibration, turned, progress
    ) -> None:
        self._task, self._weights, self._points, self._limit = task, weights, points, limit
        self._scope, self._layers = scope, None if layers is None else list(layers)
        self._retrain, self._calibration, self._turned = retrain, calibration, turned
        self._progress, self._live = progress, hasattr(progress, "wanted")
        self.records: list[dict[str, Any]] = []
        self._evidence: tuple[Any, Evidence | None] = (None, None)
        self._products = task.network(weights).products

    def go(self) -> None:
        """Measure what is not there yet, point after point."""
        known = {_identity(record) for record in self.records}
        measured = {record["digest"]: record for record in self.records}
        for index, point in enumerate(self._points):
            if _identity(vars(point)) in known:
                continue
            self._say(index, 0.0, f"{_words(point)}: pruning")
            record = self._measure(index, point, measured)
            measured.setdefault(record["digest"], record)
            self.records.append(record)
        self._say(len(self._points), 0.0, f"{len(self._points)} points measured")

    def result(self) -> dict[str, Any]:
        """Give what is known so far."""
        return {
            "task": self._task.name,
            "metric": self._task.metric.name,
            "chance": self._task.metric.chance,
            "limit": self._limit,
            "points": len(self._points),
            "records": list(self.records),
        }

    def _measure(self, index: int, point: Point, measured: Mapping[str, Mapping]) -> dict[str, Any]:
        from csbviz.pruning.training.versions import versions

        begun = time.monotonic()
        pruned, skipped = pruned_weights(
            self._weights,
            point,
            self._scope,
            self._layers,
            self._evidence_for(index, point),
            self._turned,
        )
        epochs, metrics = 0.0, None
        if self._retrain is not None:
            pruned, metrics, epochs = self._trained(index, point, pruned)
        digest = digest_of(pruned)
        if metrics is None and digest in measured:  # other seeds need not give other weights
            metrics = measured[digest]["metrics"]
        if metrics is None:
            metrics = self._task.evaluate(
                self._task.network(pruned), self._step(index, point, "measuring"), self._limit
            )
        chosen = layers_of(self._weights, self._layers)
        size = sum(self._weights[name].size for name in chosen)
        cost = cost_of(pruned, self._products)
        return {
            "task": self._task.name,
            "method": point.method,
            "granularity": point.granularity,
            "options": _plain(point.options),
            "scope": self._scope,
            "layers": self._layers,
            "seed": int(point.seed),
            "sparsity": float(point.sparsity),
            "sparsity_reached": 1 - sum(int(np.count_nonzero(pruned[name])) for name in chosen) / size,
            "compression": _finite(cost.compression),
            "speedup": _finite(cost.speedup),
            "metrics": dict(metrics),
            "retrained": "" if self._retrain is None else "finetune",
            "epochs": epochs,
            "seconds": round(time.monotonic() - begun, 3),
            "digest": digest,
            "skipped": list(skipped),
            "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": versions(),
        }

    def _evidence_for(self, index: int, point: Point) -> Evidence | None:
        needs = METHODS[point.method].needs if point.method != DENSE else ()
        if not needs:
            return None
        key = (tuple(needs), point.seed)
        if self._evidence[0] != key:
            from csbviz.pruning.evidence import collect

            self._evidence = (None, None)  # let go of the one before: second moments are large
            network = self._task.network(self._weights)
            step = self._step(index, point, "calibrating")
            found = collect(self._task, network, needs, self._calibration, int(point.seed), step)
            self._evidence = (key, found)
        return self._evidence[1]

    def _trained(self, index: int, point: Point, pruned: Mapping[str, np.ndarray]):
        from csbviz.pruning.training import checkpoint_folder, train

        chosen = tuple(layers_of(self._weights, self._layers))
        settings = {**self._retrain, "sparsity": None, "seed": int(point.seed), "layers": chosen}
        folder = checkpoint_folder(self._task.name, pruned, "finetune", settings) if self._live else None
        guard = _Guard(self._step(index, point, "training"), self._progress) if self._live else None
        trained = train(self._task, pruned, "finetune", settings, folder, guard)
        if trained is None:
            raise _GiveWay
        metrics = trained.after
        if self._limit is not None:
            metrics = self._task.evaluate(self._task.network(trained.weights), limit=self._limit)
        return trained.weights, metrics, trained.epochs

    def _step(self, index: int, point: Point, what: str) -> Callable[[float, str], None]:
        def step(fraction: float, message: str = "") -> None:
            self._say(index, fraction, f"{_words(point)}: {what}, {message}")

        return step

    def _say(self, index: int, fraction: float, message: str) -> None:
        if self._progress is None:
            return
        part = (index + fraction) / len(self._points)
        if not self._live:
            self._progress(part, message)
            return
        self._progress(part, message, partial=self.result())
        if index < len(self._points) and self._progress.wanted():
            raise _GiveWay


class _Guard:
    """The progress of a training inside of a study: it saves and stops when another job waits."""

    def __init__(self, step: Callable[[float, str], None], progress: Any) -> None:
        self._step, self._progress = step, progress

    def __call__(self, fraction: float, message: str = "", partial: Any = None) -> None:
        if not self._progress.wanted():  # else the training saves first
            self._step(fraction, message)

    def wanted(self) -> bool:
        return self._progress.wanted()

    def paused(self, kwargs: Any = None) -> None:
        return None


def summary(records: Iterable[Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    """Put the seeds of each operating point together.

    Parameters
    ----------
    records : iterable of mapping
        Of `study`.
    metric : str
        A key of the records' "metrics".

    Returns
    -------
    list of dict
        For each task, method, granularity, options, scope, layers, way of training and sparsity: these, and
        "mean" and "std" (the sample's standard deviation; 0 for one run) of the metric, "runs" (records),
        "distinct" (different weights among them: a method that draws nothing has one), and the means of
        "sparsity_reached", "compression" and "speedup". "series" are method, granularity and options: what
        a line of a figure connects, with all N:M in one. Sorted by sparsity within each series.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(repr([record[name] for name in _SAME]), []).append(record)
    rows = []
    for group in groups.values():
        first = group[0]
        values = [record["metrics"][metric] for record in group]
        options = {} if first["granularity"] == "nm" else first["options"]
        row = {name: first[name] for name in _SAME}
        row["series"] = (first["method"], first["granularity"], repr(options))
        row["mean"] = statistics.fmean(values)
        row["std"] = statistics.stdev(values) if len(values) > 1 else 0.0
        row["runs"], row["distinct"] = len(group), len({record["digest"] for record in group})
        for name in ("sparsity_reached", "compression", "speedup"):
            known = [record[name] for record in group if record[name] is not None]
            row[name] = statistics.fmean(known) if known else None
        rows.append(row)
    order = {row["series"]: index for index, row in reversed(list(enumerate(rows)))}
    return sorted(rows, key=lambda row: (order[row["series"]], row["sparsity"]))


def _identity(facts: Mapping[str, Any]) -> str:
    names = ("method", "granularity", "options", "sparsity", "seed")
    return repr([_plain(facts[name]) if name == "options" else facts[name] for name in names])


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, (tuple, list)) else value for name, value in options.items()
    }


def _finite(ratio: float) -> float | None:
    return ratio if math.isfinite(ratio) else None


def _words(point: Point) -> str:
    if point.method == DENSE:
        return "Dense control"
    kind = point.granularity
    for value in point.options.values():
        if isinstance(value, (tuple, list)):
            kind += " " + (":" if kind == "nm" else "x").join(map(str, value))
    return f"{point.method}, {kind}, {100 * point.sparsity:g} %, seed {point.seed}"
