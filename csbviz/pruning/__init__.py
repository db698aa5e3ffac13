"""Pruning: which weights of a model go, by which criterion, in which units, in one layer or all together."""

from csbviz.pruning.masks import masks_for
from csbviz.pruning.options import SCOPES
from csbviz.pruning.prune import LayerSparsity, Pruned, default_layers, prune_array, prune_model
from csbviz.pruning.registry import GRANULARITIES, METHODS, Granularity, Method

__all__ = [
    "GRANULARITIES",
    "METHODS",
    "SCOPES",
    "Granularity",
    "LayerSparsity",
    "Method",
    "Pruned",
    "default_layers",
    "masks_for",
    "prune_array",
    "prune_model",
]
