"""Choose exactly the `count` lowest of many scores, the same ones every time.

The threshold is the count-th smallest score, found by selection (linear time; NumPy's is vectorised), not
by sorting. Everything below it goes; of the scores equal to it, the first ones in order go, until the count
is met.
"""

import numpy as np

__all__ = ["kept_masks", "units_to_prune"]

_SCAN = 1 << 18  # scores per step of a count, so that it takes no memory of its own


def units_to_prune(size, sparsity):
    """How many of `size` units go at this sparsity.

    Parameters
    ----------
    size : int
    sparsity : float
        0 ≤ sparsity < 1.

    Returns
    -------
    int
        The nearest whole number (ties to even), but never all: a layer without any weight is no layer.
    """
    return min(round(sparsity * size), max(size - 1, 0))


def kept_masks(scores, count):
    """Mark what stays when the `count` lowest of all scores go.

    Parameters
    ----------
    scores : list of numpy.ndarray
        Non-negative, without NaN; consumed: each array is dropped as soon as its mask is made.
    count : int
        0 ≤ count ≤ number of all scores.

    Returns
    -------
    list of numpy.ndarray
        Boolean, of the same shapes; False where a score is among the `count` lowest. Among equal scores, the
        earlier array and the earlier position go first.
    """
    if count <= 0:
        return [np.ones(score.shape, bool) for score in scores]
    threshold, equal = _threshold(scores, count)
    masks = []
    while scores:
        score = scores.pop(0)
        mask = score >= threshold
        if equal:
            equal -= _drop_first_equal(mask, score, threshold, equal)
        masks.append(mask)
    return masks


def _threshold(scores, count):
    """The count-th smallest score, and how many of those equal to it are among the `count` lowest."""
    dtype = np.result_type(*scores)
    pool = np.empty(sum(score.size for score in scores), np.float32 if dtype == np.float16 else dtype)
    end = 0
    for score in scores:
        begin, end = end, end + score.size
        pool[begin:end] = score.reshape(-1)
    pool.partition(count - 1)
    threshold = pool[count - 1]
    below = 0
    for begin in range(0, count, _SCAN):
        below += int(np.count_nonzero(pool[begin : min(begin + _SCAN, count)] < threshold))
    return threshold, count - below


def _drop_first_equal(mask, score, threshold, wanted):
    """Clear the first `wanted` positions whose score equals the threshold; give how many there were."""
    positions = np.flatnonzero(score == threshold)[:wanted]
    mask.reshape(-1)[positions] = False
    return positions.size
