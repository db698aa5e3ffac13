"""Layers of PyTorch on CSB weights: one stored copy serves the forward and the backward product."""

from csbviz.nn.linear import CSBLinear

__all__ = ["CSBLinear"]
