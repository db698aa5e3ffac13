"""`prune_model` and `prune_array`: scores by a method, units by a granularity, exact counts, new arrays."""

import math
import zlib
from dataclasses import dataclass
from numbers import Real

import numpy as np

from csbviz.errors import InputError, MatrixError, OptionError
from csbviz.models import Model
from csbviz.pruning.registry import GRANULARITIES, METHODS
from csbviz.pruning.select import kept_masks, units_to_prune

__all__ = ["SCOPES", "LayerSparsity", "Pruned", "default_layers", "prune_array", "prune_model"]

SCOPES = {
    "global": "one threshold over all chosen layers, so that layers end with different sparsities",
    "layer": "a threshold for each chosen layer, so that all end with the same sparsity",
}
_BY_DEFAULT = ("linear", "conv", "recurrent")


@dataclass(frozen=True)
class LayerSparsity:
    """What is left of one prunable layer.

    Attributes
    ----------
    name, kind : str
    rows, cols, size, nnz : int
        Of the layer's matrix.
    sparsity : float
        Share of zeros, 0 to 1.
    locked : bool
        The layer was not among those chosen; its weights are as before.
    """

    name: str
    kind: str
    rows: int
    cols: int
    size: int
    nnz: int
    sparsity: float
    locked: bool


@dataclass(frozen=True)
class Pruned:
    """A pruned model and how it came about.

    Attributes
    ----------
    model : Model
    per_layer : list of LayerSparsity
        Every prunable layer in the model's order, locked ones too.
    settings : dict
        JSON-safe; ``prune_model(original, **settings)`` gives the same model.
    """

    model: Model
    per_layer: list[LayerSparsity]
    settings: dict

    @property
    def sparsity(self):
        """Share of zeros over the layers that were pruned, 0 to 1."""
        return _share_of_zeros([layer for layer in self.per_layer if not layer.locked])

    @property
    def total_sparsity(self):
        """Share of zeros over all prunable layers, locked ones too, 0 to 1."""
        return _share_of_zeros(self.per_layer)


def default_layers(model):
    """Give the names of the layers that are pruned when none are named.

    Linear, convolutional and recurrent weights. Embeddings can be pruned, but are left out unless they are
    named (or the model has nothing else): they are look-up tables, no matrix product is made faster by
    their zeros, and in a global ranking their small values would take most of the cut from the layers that
    do the work.

    Returns
    -------
    tuple of str
    """
    prunable = model.prunable_layers()
    chosen = tuple(layer.name for layer in prunable if layer.kind in _BY_DEFAULT)
    return chosen or tuple(layer.name for layer in prunable)


def prune_model(
    model, method="magnitude", scope="global", sparsity=0.9, layers=None, seed=0, granularity="weight"
):
    """Set the least important weights of a model to zero.

    Parameters
    ----------
    model : Model
    method : str
        A name in `METHODS`.
    scope : {"global", "layer"}
        Rank all chosen layers together, or each by itself.
    sparsity : float
        Share of the chosen weights that are zero afterwards, 0 ≤ sparsity < 1. Zeros that are there already
        count; when there are more, nothing is done.
    layers : sequence of str, optional
        Names of the layers to prune; `default_layers` otherwise.
    seed : int
        Of methods that draw. A layer's draw depends on the seed and its name alone.
    granularity : str
        A name in `GRANULARITIES`.

    Returns
    -------
    Pruned

    Raises
    ------
    OptionError
        An unknown method, scope or granularity, a sparsity outside of [0, 1), a seed that is no whole
        number ≥ 0.
    InputError
        A layer is unknown or cannot be pruned.
    MatrixError
        A weight holds NaN or infinity.
    """
    _check_options(method, scope, sparsity, seed, granularity)
    names = _checked_layers(model, layers)
    settings = {
        "method": method,
        "scope": scope,
        "sparsity": float(sparsity),
        "layers": None if layers is None else list(names),
        "seed": int(seed),
        "granularity": granularity,
    }
    groups = [names] if scope == "global" else [(name,) for name in names]
    weights = {}
    for group in groups:
        weights.update(
            _prune_group(model, group, METHODS[method], GRANULARITIES[granularity], sparsity, seed)
        )
    pruned = model.with_weights(weights, made_by={"step": "prune", **settings})
    chosen = set(names)
    per_layer = [
        LayerSparsity(x.name, x.kind, x.rows, x.cols, x.size, x.nnz, x.sparsity, x.name not in chosen)
        for x in pruned.prunable_layers()
    ]
    return Pruned(pruned, per_layer, settings)


def prune_array(weight, method="magnitude", sparsity=0.9, seed=0, granularity="weight"):
    """Set the least important elements of one array to zero.

    Parameters
    ----------
    weight : numpy.ndarray
        float16, float32 or float64 (or a bfloat16 array of ml_dtypes), any shape; it is not changed.
    method, sparsity, seed, granularity
        As in `prune_model`.

    Returns
    -------
    pruned : numpy.ndarray
        Of the same type; kept values are bit for bit those of `weight`.
    mask : numpy.ndarray
        Boolean; True where a value was kept. An element that was zero already may be on either side.

    Raises
    ------
    OptionError, MatrixError
        As in `prune_model`; also when the array is not of floating point.
    """
    _check_options(method, "layer", sparsity, seed, granularity)
    weight = np.asarray(weight)
    if weight.dtype.kind != "f" and weight.dtype.name != "bfloat16":
        raise MatrixError(
            f"the array to prune has the type {weight.dtype}; floating-point values are needed."
        )
    if not np.isfinite(weight).all():
        raise MatrixError("the array to prune holds NaN or infinite values; finite numbers are needed.")
    wide = weight.astype(np.float32) if weight.dtype.name == "bfloat16" else weight
    unit = GRANULARITIES[granularity]
    scores = [unit.unit_scores(METHODS[method].scores(wide, np.random.default_rng(seed), {}))]
    (kept,) = kept_masks(scores, units_to_prune(scores[0].size, sparsity))
    mask = unit.expand(kept, weight.shape)
    return _masked(weight, mask), mask


def _prune_group(model, names, method, granularity, sparsity, seed):
    """Prune layers that are ranked together: {name: new read-only weight}."""
    scores = []
    for name in names:
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        scores.append(granularity.unit_scores(method.scores(model.layer(name).weight(), rng, {})))
    count = units_to_prune(sum(score.size for score in scores), sparsity)
    masks = kept_masks(scores, count)
    weights = {}
    for name, kept in zip(names, masks, strict=True):
        weight = model.layer(name).weight()
        weights[name] = _masked(weight, granularity.expand(kept, weight.shape))
        weights[name].flags.writeable = False
    return weights


def _masked(weight, mask):
    """Copy of the weight with +0 where the mask is False; what is zero already keeps its sign."""
    pruned = weight.copy()
    gone = weight != 0
    np.greater(gone, mask, out=gone)  # not zero yet, and not kept
    np.copyto(pruned, 0, where=gone)
    return pruned


def _check_options(method, scope, sparsity, seed, granularity):
    for what, value, known in (
        ("method", method, METHODS),
        ("scope", scope, SCOPES),
        ("granularity", granularity, GRANULARITIES),
    ):
        if not isinstance(value, str) or value not in known:
            raise OptionError(f"the {what} {value!r} is not known; there is {', '.join(known)}.")
    number = isinstance(sparsity, Real) and not isinstance(sparsity, (bool, np.bool_))
    if not number or not math.isfinite(sparsity) or not 0 <= sparsity < 1:
        raise OptionError(f"the sparsity {sparsity!r} is outside of what is possible; give 0 ≤ sparsity < 1.")
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise OptionError(f"the seed {seed!r} is no whole number ≥ 0.")


def _checked_layers(model, layers):
    if layers is None:
        return default_layers(model)
    if isinstance(layers, str):
        layers = (layers,)
    chosen = [model.layer(name) for name in layers]
    for layer in chosen:
        if not layer.prunable:
            raise InputError(
                f"layer {layer.name!r} ({layer.kind}, shape {layer.shape}, {layer.dtype}) cannot be pruned; "
                "a floating-point weight of two or more dimensions is needed."
            )
    if not chosen:
        raise OptionError("no layer is chosen; name at least one layer to prune.")
    wanted = {layer.name for layer in chosen}  # in the model's order, so that ties fall the same way
    return tuple(layer.name for layer in model.prunable_layers() if layer.name in wanted)


def _share_of_zeros(layers):
    size = sum(layer.size for layer in layers)
    return 1 - sum(layer.nnz for layer in layers) / size if size else 0.0
