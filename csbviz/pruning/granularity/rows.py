"""Rows of a layer's matrix: all the weights of one output, or one entry of a look-up table."""

from csbviz.pruning.units import Units

__all__ = ["units"]


def units(views, options):
    """Make every row of every matrix a unit."""
    return Units.of_each(views, lambda view: (1, view.cols))
