"""Random: every weight that is not zero yet has the same chance to go."""

import numpy as np

__all__ = ["scores"]


def scores(weight, rng, evidence=None):
    """Score weights by independent draws.

    Parameters
    ----------
    weight : numpy.ndarray
        Floating point, finite, any shape.
    rng : numpy.random.Generator
        Its state decides the draws.
    evidence : mapping
        Not used.

    Returns
    -------
    numpy.ndarray
        uint32 of the weight's shape, 1 to 2**32 - 1; 0 where the weight is zero already.
    """
    drawn = rng.integers(1, 1 << 32, size=weight.shape, dtype=np.uint32)
    np.multiply(drawn, weight != 0, out=drawn)
    return drawn
