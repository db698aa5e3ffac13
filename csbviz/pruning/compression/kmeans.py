"""Code books: 1-D k-means over the weights of a layer that are left, from evenly spaced first centroids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["CodeBook", "code_book"]

_MOST_ROUNDS = 300  # far more than a layer of real weights takes


@dataclass(frozen=True)
class CodeBook:
    """Shared values, ascending.

    Attributes
    ----------
    centroids : numpy.ndarray
        float64, (k,).
    rounds : int
        How often the centroids were moved.
    errors : tuple of float
        Sum of the squared distances to the nearest centroid, before each round and at the end; never rises.
    """

    centroids: np.ndarray
    rounds: int = 0
    errors: tuple[float, ...] = ()

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """Give the index of the centroid that each value is nearest to.

        Returns
        -------
        numpy.ndarray
            int64, the shape of `values`; halfway between two, the lower one.
        """
        return np.searchsorted(_bounds(self.centroids), values, side="left")


def code_book(values: np.ndarray, count: int) -> CodeBook:
    """Find at most `count` values that stand for many.

    Lloyd's rounds from centroids that are spaced evenly between the least and the greatest value: Han et al.
    found this start best, since the few large weights, which matter most, get centroids of their own. When
    there are no more than `count` different values, they are the code book and nothing is lost. No chance is
    in it: equal values give an equal book, in whatever order.

    Parameters
    ----------
    values : numpy.ndarray
        Finite, any shape.
    count : int
        At least 1.

    Returns
    -------
    CodeBook
        Without centroids that no value is nearest to.

    References
    ----------
    Han, Mao and Dally, Deep Compression, ICLR 2016, section 3.2.
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=None)
    different = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if ordered.size else ordered
    if different.size <= count:
        return CodeBook(different, 0, (0.0,))
    centre = ordered.mean()  # sums around it lose fewer digits
    shifted = ordered - centre
    sums = np.concatenate([[0.0], np.cumsum(shifted)])
    squares = np.concatenate([[0.0], np.cumsum(shifted * shifted)])
    centroids = np.linspace(shifted[0], shifted[-1], count)
    ends, errors = None, []
    for rounds in range(_MOST_ROUNDS + 1):
        new = np.concatenate(
            [[0], np.searchsorted(shifted, _bounds(centroids), side="right"), [shifted.size]]
        )
        errors.append(_error(new, centroids, sums, squares))
        if rounds == _MOST_ROUNDS or (ends is not None and np.array_equal(new, ends)):
            break
        ends = new
        members = np.diff(ends)
        means = np.diff(sums[ends]) / np.maximum(members, 1)
        centroids = np.where(members > 0, means, centroids)
    return CodeBook(centroids[np.diff(ends) > 0] + centre, rounds, tuple(errors))


def _bounds(centroids: np.ndarray) -> np.ndarray:
    """Halfway between neighbours."""
    return (centroids[1:] + centroids[:-1]) / 2


def _error(ends, centroids, sums, squares) -> float:
    members, total, square = np.diff(ends), np.diff(sums[ends]), np.diff(squares[ends])
    return float((square - 2 * centroids * total + members * centroids**2).sum())
