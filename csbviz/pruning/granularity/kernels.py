"""Kernels: the weights from one input channel of a convolution to one output channel."""

import math

from csbviz.pruning.units import Units

__all__ = ["units"]


def units(views, options):
    """Make every kernel a unit: kh·kw neighbours in a row of the matrix, one weight where it is 1 x 1."""
    return Units.of_each(views, _kernel)


def _kernel(view):
    if view.kind != "conv" or len(view.shape) < 3:
        return f"a layer of the kind {view.kind!r} has no kernels; only a convolution has."
    return 1, math.prod(view.shape[2:])
