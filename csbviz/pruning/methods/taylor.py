"""Taylor: how much the loss would change, to first order, if a weight were zero: gradient times weight.

A unit is worth the absolute sum over its weights, so that changes which cancel each other cost nothing.

References
----------
Molchanov, Tyree, Karras, Aila, Kautz: Pruning Convolutional Neural Networks for Resource Efficient
Inference, ICLR 2017. Molchanov, Mallya, Tyree, Frosio, Kautz: Importance Estimation for Neural Network
Pruning, CVPR 2019.
"""

import numpy as np

__all__ = ["scores"]


def scores(weight, rng, evidence):
    """Give gradient · weight, with its sign.

    Parameters
    ----------
    weight : numpy.ndarray
        Floating point, finite, (rows, cols).
    rng : numpy.random.Generator
        Not used.
    evidence : mapping
        "gradients", (rows, cols): of the mean loss.

    Returns
    -------
    numpy.ndarray
        float32 or float64, finite, (rows, cols); zero only where the weight is. A weight that the loss does
        not feel gets the smallest number there is.
    """
    wide = np.result_type(weight.dtype, np.float32)
    limits = np.finfo(wide)
    with np.errstate(over="ignore", under="ignore"):
        score = np.multiply(weight, evidence["gradients"], dtype=wide)
    np.clip(score, limits.min, limits.max, out=score)
    score[(np.abs(score) < limits.tiny) & (weight != 0)] = limits.tiny
    return score
