"""Single weights: every weight is a unit."""

from csbviz.pruning.units import Units

__all__ = ["units"]


def units(views, options):
    """Make every weight a unit."""
    return Units.of_each(views, lambda view: (1, 1))
