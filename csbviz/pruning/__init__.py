"""Pruning: which weights of a model go, by which criterion, in which units, in one layer or all together."""

from csbviz.pruning.prune import LayerSparsity, Pruned, default_layers, prune_array, prune_model
from csbviz.pruning.registry import GRANULARITIES, METHODS, Granularity, Method

__all__ = [
    "GRANULARITIES",
    "METHODS",
    "Granularity",
    "LayerSparsity",
    "Method",
    "Pruned",
    "default_layers",
    "prune_array",
    "prune_model",
]
