"""`prune_model` and `prune_array`: scores by a method, units by a granularity, exact counts, new arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.errors import InputError, MatrixError, OptionError
from csbviz.models import Model
from csbviz.pruning.masks import Ranking, tensor_of, view_of
from csbviz.pruning.options import check_options, granularity_and_options
from csbviz.pruning.registry import METHODS
from csbviz.pruning.select import keep_marked
from csbviz.pruning.units import View

if TYPE_CHECKING:
    from csbviz.pruning.evidence import Evidence

__all__ = ["LayerSparsity", "Pruned", "chosen_layers", "default_layers", "prune_array", "prune_model"]

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
        The layer was not among those chosen, or could not be pruned in this way; its weights are as before.
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
        JSON-safe; ``prune_model(original, **settings)`` gives the same model (with the same evidence, when
        the method needs any).
    skipped : dict of str to str
        Chosen layers that stayed as they were, and one sentence why: the granularity has no units in them, or
        the method knows too little of them.
    """

    model: Model
    per_layer: list[LayerSparsity]
    settings: dict
    skipped: dict[str, str] = field(default_factory=dict)

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
    model: Model,
    method: str = "magnitude",
    scope: str = "global",
    sparsity: float = 0.9,
    layers: Sequence[str] | None = None,
    seed: int = 0,
    granularity: str | Mapping[str, Any] = "weight",
    options: Mapping[str, Any] | None = None,
    evidence: Evidence | None = None,
) -> Pruned:
    """Set the least important weights of a model to zero.

    Parameters
    ----------
    model : Model
    method : str
        A name in `METHODS`.
    scope : {"global", "layer"}
        Rank the units of all chosen layers together, or those of each by itself (heads: of each attention).
    sparsity : float
        Share of the chosen units that go, 0 ≤ sparsity < 1; with single weights, the share of zeros. Units
        that are zero already count; when there are more, nothing is done. Of all that are ranked together the
        last unit stays. With N:M it is not used: 1 - N/M of the weights go, and `settings` says so.
    layers : sequence of str, optional
        Names of the layers to prune; `default_layers` otherwise.
    seed : int
        Of methods that draw. A layer's draw depends on the seed and its name alone.
    granularity : str or mapping
        A name in `GRANULARITIES`, or an option alone, such as ``{"block": (8, 8)}``.
    options : mapping, optional
        Of the granularity: ``{"nm": (2, 4)}``, ``{"block": (8, 8)}`` or ``{"heads": 12}``.
    evidence : Evidence, optional
        What the method needs to know of the data (`csbviz.pruning.evidence.collect`).

    Returns
    -------
    Pruned

    Raises
    ------
    OptionError
        An unknown method, scope or granularity, an option that cannot be, a sparsity outside of [0, 1), a
        seed that is no whole number ≥ 0, or none of the chosen layers has units of this granularity.
    InputError
        A layer is unknown or cannot be pruned, or evidence is needed and missing.
    MatrixError
        A weight holds NaN or infinity.
    """
    check_options(method, scope, sparsity, seed)
    found, chosen = granularity_and_options(granularity, options)
    names = chosen_layers(model, layers)
    ranking = Ranking(
        [_view(model.layer(name)) for name in names],
        lambda view: model.layer(view.name).weight(),
        METHODS[method],
        found,
        chosen,
        scope,
        sparsity,
        seed,
        evidence,
    )
    settings = {
        "method": method,
        "scope": scope,
        "sparsity": float(ranking.reached),
        "layers": None if layers is None else list(names),
        "seed": int(seed),
        "granularity": found.name,
    }
    if chosen:
        settings["options"] = chosen
    weights = {}
    for view, mask in ranking.masks():
        weights[view.name] = _pruned_weight(model.layer(view.name).weight(), mask, view, ranking)
        weights[view.name].flags.writeable = False
    made_by = {"step": "prune", **settings}
    if METHODS[method].needs:
        made_by["evidence"] = _digest(ranking)
    pruned = model.with_weights(weights, made_by=made_by)
    per_layer = [
        LayerSparsity(x.name, x.kind, x.rows, x.cols, x.size, x.nnz, x.sparsity, x.name not in weights)
        for x in pruned.prunable_layers()
    ]
    return Pruned(pruned, per_layer, settings, ranking.skipped)


def prune_array(
    weight: np.ndarray,
    method: str = "magnitude",
    sparsity: float = 0.9,
    seed: int = 0,
    granularity: str | Mapping[str, Any] = "weight",
    options: Mapping[str, Any] | None = None,
    kind: str | None = None,
    evidence: Mapping[str, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Set the least important elements of one array to zero.

    Parameters
    ----------
    weight : numpy.ndarray
        float16, float32 or float64 (or a bfloat16 array of ml_dtypes), any shape; it is not changed.
    method, sparsity, seed, granularity, options
        As in `prune_model`.
    kind : str, optional
        "linear", "conv", "recurrent" or "embedding", which says what the dimensions are; from three on those
        of a convolution by default.
    evidence : mapping of str to numpy.ndarray, optional
        What the method needs to know of this array, such as ``{"input_norms": …}``.

    Returns
    -------
    pruned : numpy.ndarray
        Of the same type; kept values are bit for bit those of `weight` (unless the method updates them).
    mask : numpy.ndarray
        Boolean; True where a value was kept. An element that was zero already may be on either side.

    Raises
    ------
    OptionError, InputError, MatrixError
        As in `prune_model`; also when the array is not of floating point.
    """
    check_options(method, "layer", sparsity, seed)
    found, chosen = granularity_and_options(granularity, options)
    weight = np.asarray(weight)
    if weight.dtype.kind != "f" and weight.dtype.name != "bfloat16":
        raise MatrixError(
            f"the array to prune has the type {weight.dtype}; floating-point values are needed."
        )
    if not np.isfinite(weight).all():
        raise MatrixError("the array to prune holds NaN or infinite values; finite numbers are needed.")
    wide = weight.astype(np.float32) if weight.dtype.name == "bfloat16" else weight
    view = view_of("the array", weight.shape, kind or ("conv" if weight.ndim > 2 else "linear"))
    known = SimpleNamespace(**{need: {view.name: array} for need, array in (evidence or {}).items()})
    ranking = Ranking([view], lambda _: wide, METHODS[method], found, chosen, "global", sparsity, seed, known)
    ((_, mask),) = ranking.masks()
    return _pruned_weight(weight, mask, view, ranking), tensor_of(mask, view)


def chosen_layers(model: Model, layers: Sequence[str] | None) -> tuple[str, ...]:
    """Give the names of the layers to prune in the model's order, so that ties fall the same way.

    Parameters
    ----------
    model : Model
    layers : sequence of str or None
        Names or labels; None for `default_layers`.

    Raises
    ------
    InputError
        A layer is unknown or cannot be pruned.
    OptionError
        The sequence is empty.
    """
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
    wanted = {layer.name for layer in chosen}
    return tuple(layer.name for layer in model.prunable_layers() if layer.name in wanted)


def _view(layer) -> View:
    return view_of(layer.name, layer.shape, layer.kind, layer.tensor.op == "matmul")


def _pruned_weight(weight, mask, view, ranking) -> np.ndarray:
    """The weight with +0 where the mask is False, in its own type, and updated where the method does so."""
    updated = ranking.updated(view, mask)
    if updated is None:
        return keep_marked(weight, tensor_of(mask, view))
    return tensor_of(np.where(mask, updated, 0), view).astype(weight.dtype)


def _digest(ranking) -> str:
    """A name for the evidence that decided: equal names mean equal numbers."""
    sha = hashlib.sha256()
    for family in ranking.families:
        for part in family.parts:
            for need, array in sorted(ranking.evidence_of(part.view).items()):
                sha.update(f"{part.view.name}\0{need}\0".encode())
                sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return sha.hexdigest()


def _share_of_zeros(layers):
    size = sum(layer.size for layer in layers)
    return 1 - sum(layer.nnz for layer in layers) / size if size else 0.0
