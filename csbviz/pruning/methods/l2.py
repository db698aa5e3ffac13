"""L2: a unit is worth the mean square of its weights; among single weights this is their magnitude."""

from csbviz.pruning.methods.magnitude import scores

__all__ = ["scores"]
