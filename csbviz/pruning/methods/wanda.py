"""Wanda: a weight is worth its magnitude times the norm of the input that it multiplies.

The paper compares the weights of one output with each other alone. So do single weights here when the scope
is "layer": all outputs lose the same share. When the scope is "global", and for units of several weights,
scores of different outputs and layers meet. Each layer's are divided by the root mean square of its outputs
(as it were if the inputs had nothing to do with each other), so that they say how large a share of an output
a weight carries.

References
----------
Sun, Liu, Bair, Kolter: A Simple and Effective Pruning Approach for Large Language Models, ICLR 2024.
"""

import numpy as np

__all__ = ["scores"]


def scores(weight, rng, evidence):
    """Give |w| · ‖x‖₂, relative to the root mean square of the layer's outputs.

    Parameters
    ----------
    weight : numpy.ndarray
        Floating point, finite, (rows, cols).
    rng : numpy.random.Generator
        Not used.
    evidence : mapping
        "input_norms", (cols,): ‖x_j‖₂ of each input over the calibration data.

    Returns
    -------
    numpy.ndarray
        float32 (float64 for float64 weights), finite, (rows, cols); zero only where the weight is. A weight
        behind an input that is always zero gets the smallest number there is.
    """
    score = np.abs(weight, dtype=np.float64)
    score /= score.max(initial=0.0) or 1.0  # sums of squares stay finite
    norms = np.asarray(evidence["input_norms"], np.float64)
    score *= norms / (norms.max(initial=0.0) or 1.0)
    score /= np.sqrt(np.square(score).sum() / max(len(score), 1)) or 1.0
    narrow = np.result_type(weight.dtype, np.float32)
    tiny = np.finfo(narrow).tiny
    score[(score < tiny) & (weight != 0)] = tiny
    return score.astype(narrow)
