"""Magnitude: a weight is worth its absolute value, a unit the mean of its weights' (L1)."""

__all__ = ["scores"]


def scores(weight, rng, evidence=None):
    """Give the weights themselves: scores are compared by their absolute values.

    Parameters
    ----------
    weight : numpy.ndarray
        Floating point, finite, any shape.
    rng : numpy.random.Generator
        Not used.
    evidence : mapping
        Not used.

    Returns
    -------
    numpy.ndarray
        `weight`, not copied.
    """
    return weight
