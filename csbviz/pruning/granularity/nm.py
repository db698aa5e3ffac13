"""N:M: of every M neighbouring inputs of an output, N weights stay; 2:4 is what sparse tensor cores read.

References
----------
Mishra et al.: Accelerating Sparse Deep Neural Networks, 2021.
"""

from csbviz.pruning.units import Units

__all__ = ["groups", "units"]


def units(views, options):
    """Make every weight a unit: each competes within its group alone."""
    return Units.of_each(views, lambda view: (1, 1))


def groups(options):
    """Give how many stay of how many neighbours in a row, (N, M)."""
    kept, group = options["nm"]
    return kept, group
