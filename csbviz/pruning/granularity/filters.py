"""Filters: an output channel with all its weights, which makes a feature map; of a linear layer a row."""

from csbviz.pruning.units import Units

__all__ = ["units"]


def units(views, options):
    """Make every output channel of every layer a unit; look-up tables have none."""
    return Units.of_each(views, _channel)


def _channel(view):
    if view.kind == "embedding":
        return "a look-up table has no output channels; prune its rows instead."
    return 1, view.cols
