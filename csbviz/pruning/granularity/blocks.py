"""Blocks: rectangles of a layer's matrix, from its upper left corner on, as CSB cuts it."""

from csbviz.pruning.units import Units

__all__ = ["units"]


def units(views, options):
    """Cut each matrix into blocks of options["block"] rows and columns; those at its edges may be smaller."""
    return Units.of_each(views, lambda view: tuple(options["block"]))
