"""The operating points of a study, and the pruned weights of each one."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.errors import InputError, OptionError
from csbviz.models.kinds import kind_of
from csbviz.pruning.masks import Ranking, matrix_of, tensor_of, view_of
from csbviz.pruning.options import check_options, granularity_and_options
from csbviz.pruning.registry import METHODS
from csbviz.pruning.select import keep_marked

if TYPE_CHECKING:
    from csbviz.pruning.evidence import Evidence

__all__ = [
    "DENSE",
    "LEAST_SPARSITIES",
    "RANDOM",
    "Point",
    "digest_of",
    "layers_of",
    "matrices",
    "plan",
    "pruned_weights",
]

DENSE, RANDOM = "dense", "random"
LEAST_SPARSITIES = 5
_BY_DEFAULT = ("linear", "conv", "recurrent")


@dataclass(frozen=True)
class Point:
    """One way to prune, as `prune_model` takes it; with the method "dense" nothing is pruned."""

    method: str
    granularity: str
    options: Mapping[str, Any]
    sparsity: float
    seed: int


def plan(
    methods: Sequence[str],
    granularities: Sequence[str | Mapping[str, Any]],
    sparsities: Sequence[float],
    seeds: Sequence[int],
    scope: str,
    retrained: bool,
) -> list[Point]:
    """List the points of a study: the dense control first, a random baseline for each granularity.

    Points of one method and seed follow each other, so that what the method must know of the data is
    collected once for all of them.

    Raises
    ------
    OptionError
        An unknown name, fewer than five sparsities where one of the granularities reads them, or no method,
        granularity or seed at all.
    """
    methods, seeds = _distinct("methods", methods), _distinct("seeds", seeds)
    sparsities = sorted(_distinct("sparsities", sparsities))
    pairs = _granularities(granularities)
    for method in methods:
        for sparsity in sparsities:
            for seed in seeds:
                check_options(method, scope, sparsity, seed)
    if any(found.groups is None for found, _ in pairs) and len(sparsities) < LEAST_SPARSITIES:
        raise OptionError(
            f"a study of {len(sparsities)} sparsities says too little; give at least {LEAST_SPARSITIES}."
        )
    if RANDOM not in methods:
        methods = [*methods, RANDOM]
    points = [Point(DENSE, "weight", {}, 0.0, seed) for seed in (seeds if retrained else seeds[:1])]
    for method in methods:
        for seed in seeds:
            for found, options in pairs:
                if found.groups is not None:
                    kept, group = found.groups(options)
                    points.append(Point(method, found.name, options, 1 - kept / group, seed))
                    continue
                points += [Point(method, found.name, options, sparsity, seed) for sparsity in sparsities]
    return points


def layers_of(weights: Mapping[str, np.ndarray], layers: Collection[str] | None = None) -> dict[str, str]:
    """Give name and kind of each weight that a study prunes, in the order of `weights`.

    Parameters
    ----------
    weights : mapping of str to numpy.ndarray
    layers : collection of str, optional
        Names; every linear, convolutional and recurrent weight otherwise.

    Raises
    ------
    InputError
        A name is unknown, or a tensor of fewer than two dimensions.
    """
    kinds = {
        name: kind_of(name, tuple(weight.shape), "float32")
        for name, weight in weights.items()
        if weight.ndim >= 2 and weight.size
    }
    for name in layers or ():
        if name not in kinds:
            raise InputError(
                f"there is no weight {name!r} to prune; there are {', '.join(list(kinds)[:4])}, …"
            )
    if layers is not None:
        return {name: kind for name, kind in kinds.items() if name in set(layers)}
    return {name: kind for name, kind in kinds.items() if kind in _BY_DEFAULT}


def pruned_weights(
    weights: Mapping[str, np.ndarray],
    point: Point,
    scope: str = "global",
    layers: Collection[str] | None = None,
    evidence: Evidence | None = None,
    turned: Collection[str] = (),
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Prune plain arrays as `prune_model` prunes a model.

    Parameters
    ----------
    weights : mapping of str to numpy.ndarray
        All tensors by name; they are not changed.
    point : Point
    scope, evidence
        As in `prune_model`.
    layers : collection of str, optional
        As in `layers_of`.
    turned : collection of str
        Names of weights that are kept as (inputs, outputs).

    Returns
    -------
    weights : dict of str to numpy.ndarray
        All tensors; those that were not pruned are the arrays that were given.
    skipped : dict of str to str
        Chosen weights that stayed as they were, and why.
    """
    found = dict(weights)
    if point.method == DENSE:
        return found, {}
    granularity, options = granularity_and_options(point.granularity, point.options)
    chosen = layers_of(weights, layers)
    ranking = Ranking(
        [view_of(name, weights[name].shape, kind, name in turned) for name, kind in chosen.items()],
        lambda view: weights[view.name],
        METHODS[point.method],
        granularity,
        options,
        scope,
        point.sparsity,
        point.seed,
        evidence,
    )
    for view, mask in ranking.masks():
        weight = weights[view.name]
        updated = ranking.updated(view, mask)
        if updated is None:
            found[view.name] = keep_marked(weight, tensor_of(mask, view))
        else:
            found[view.name] = tensor_of(np.where(mask, updated, 0), view).astype(weight.dtype)
    return found, ranking.skipped


def matrices(
    weights: Mapping[str, np.ndarray], names: Collection[str], turned: Collection[str] = ()
) -> Iterator[tuple[str, np.ndarray]]:
    """Give the matrix (rows, cols) of each named weight, outputs by inputs."""
    for name, kind in layers_of(weights, names).items():
        view = view_of(name, weights[name].shape, kind, name in turned)
        yield name, matrix_of(weights[name], view)


def digest_of(weights: Mapping[str, np.ndarray]) -> str:
    """Name weights by their bits: 16 hexadecimal digits of a SHA-256."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        sha.update(name.encode() + b"\0")
        sha.update(np.ascontiguousarray(weights[name]).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()[:16]


def _distinct(what: str, values: Sequence[Any]) -> list[Any]:
    values = [values] if isinstance(values, (str, int, float)) else list(dict.fromkeys(values))
    if not values:
        raise OptionError(f"a study needs {what}, and none are given.")
    return values


def _granularities(granularities: Sequence[str | Mapping[str, Any]]) -> list[tuple[Any, dict[str, Any]]]:
    if isinstance(granularities, (str, Mapping)):
        granularities = [granularities]
    pairs = [granularity_and_options(granularity) for granularity in granularities]
    if not pairs:
        raise OptionError("a study needs granularities, and none are given.")
    return pairs
