"""Columns of a layer's matrix: one input for all outputs; of a convolution one position of its kernels."""

from csbviz.pruning.units import Units

__all__ = ["units"]


def units(views, options):
    """Make every column of every matrix a unit."""
    return Units.of_each(views, lambda view: (view.rows, 1))
