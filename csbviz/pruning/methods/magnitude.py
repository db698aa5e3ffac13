"""Magnitude: a weight is worth its absolute value."""

import numpy as np

__all__ = ["scores"]


def scores(weight, rng, evidence=None):
    """Score weights by their absolute value.

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
        Of the shape and type of `weight`; 0 where it is 0 or -0.
    """
    return np.abs(weight)
