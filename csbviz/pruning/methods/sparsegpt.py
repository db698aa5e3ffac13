"""SparseGPT: second order, after training: what is kept makes up for what goes, so that outputs stay close.

For a layer W with inputs X, H = X Xᵀ says how errors of the weights become errors of the outputs,
‖(W - W')X‖² = Σ over rows of δ H δᵀ. When weight c of a row goes, the best change of those after it is known
from the inverse of H (Optimal Brain Surgeon), and one Cholesky factor of that inverse serves all rows and all
columns, one column after the other.

References
----------
Frantar, Alistarh: SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot, ICML 2023.
Hassibi, Stork: Second Order Derivatives for Network Pruning: Optimal Brain Surgeon, NIPS 1992.
"""

import numpy as np

from csbviz.pruning.select import Cut, kept_in_groups

__all__ = ["choose", "inverse_factor", "scores", "update"]

_DAMPING = 0.01  # of the mean diagonal, as in the paper
_BLOCK = 128  # columns whose mask is chosen together, and whose updates reach the rest at once
_EXACT = 4e9  # operations that the exact solution may take,
_EACH = 3e7  # and what one more system to solve costs beside them


def scores(weight, rng, evidence):
    """Give |w| / √[H⁻¹]_cc: its square is how much the outputs' squared error grows at least.

    It is relative to what all the weights of an output are worth on average, so that layers compare. Relative
    to the outputs themselves they do not: where inputs are few and alike, every weight alone can be made up
    for, and nearly the whole layer went.

    Parameters
    ----------
    weight : numpy.ndarray
        Floating point, finite, (rows, cols).
    rng : numpy.random.Generator
        Not used.
    evidence : mapping
        "second_moments", (cols, cols): X Xᵀ over the calibration data.

    Returns
    -------
    numpy.ndarray
        float32 (float64 for float64 weights), finite, (rows, cols); zero only where the weight is.
    """
    moments = _damped(evidence["second_moments"])
    worth = np.sqrt(np.square(inverse_factor(moments)).sum(axis=0))  # √ of the inverse's diagonal
    score = _scaled(weight)[0]
    score = np.abs(score) / worth
    score[:, _unused(evidence)] = 0.0
    score /= np.sqrt(np.square(score).sum() / max(len(score), 1)) or 1.0
    narrow = np.result_type(weight.dtype, np.float32)
    tiny = np.finfo(narrow).tiny
    score[(score < tiny) & (weight != 0)] = tiny
    return score.astype(narrow)


def choose(weight, evidence, count, group=None):
    """Choose single weights as the paper does: block by block of columns, after the changes so far.

    Parameters
    ----------
    weight : numpy.ndarray
        Floating point, finite, (rows, cols).
    evidence : mapping
        As of `scores`.
    count : int
        How many go of the whole matrix, zeros first; every block of 128 columns loses the same share of its
        nonzeros. Not used with `group`.
    group : (int, int), optional
        N and M: of every M neighbours of a row N stay.

    Returns
    -------
    numpy.ndarray
        Boolean, (rows, cols), True where a weight stays; exactly `count` are False.
    """
    there = (weight != 0).T
    factor = inverse_factor(_damped(evidence["second_moments"]))
    left = weight.size - count  # how many stay
    if group is None and left >= np.count_nonzero(there):
        return Cut([weight], count).kept(weight)  # zeros alone go
    width = _BLOCK if group is None else max(_BLOCK // group[1], 1) * group[1]
    marks = _Block(there, _unused(evidence), left, group)
    _sweep(_scaled(weight)[0].T.copy(), factor, width, marks)
    return np.ascontiguousarray(marks.mask.T)


def update(weight, mask, evidence):
    """Change what is kept, so that the outputs on the calibration data stay as close as they can.

    Where few rows differ in what they keep, or the matrix is small, the least squares are solved exactly;
    otherwise columns go one after the other as in the paper. A row that would not gain keeps its weights. No
    row's squared error of the outputs is ever above that of leaving the kept weights as they are, but for
    rounding.

    Parameters
    ----------
    weight : numpy.ndarray
        Floating point, finite, (rows, cols).
    mask : numpy.ndarray
        Boolean, (rows, cols), True where a weight stays.
    evidence : mapping
        As of `scores`.

    Returns
    -------
    numpy.ndarray
        float64, or float32 where `weight` is narrower than that, (rows, cols). Zero where the mask is False,
        and where the weight was zero already.
    """
    mask = mask & (weight != 0)
    if np.array_equal(mask, weight != 0):
        return np.array(weight)
    moments = _damped(evidence["second_moments"])
    before, scale = _scaled(weight)
    patterns, members = np.unique(np.packbits(mask, axis=1), axis=0, return_inverse=True)
    members = members.reshape(-1)
    kept = mask.sum(axis=1, dtype=np.float64)
    first = np.unique(members, return_index=True)[1]
    if np.sum(_EACH + kept[first] ** 3 / 3) + 2 * np.sum(kept**2) <= _EXACT:
        after = _solved(before, mask, moments, members, len(patterns))
    else:
        after = _sweep(before.T.copy(), inverse_factor(moments), _BLOCK, _Given(mask.T)).T
    plain = np.where(mask, before, 0.0)
    after = np.where(mask, after, 0.0)
    stay = ~(_errors(after - before, evidence) < _errors(plain - before, evidence))
    with np.errstate(over="ignore"):
        after *= scale
        stay |= ~np.isfinite(after.astype(weight.dtype)).all(axis=1)
    after[stay] = np.where(mask, weight, 0)[stay]
    return after.astype(np.result_type(weight.dtype, np.float32))


def inverse_factor(moments):
    """Give the upper triangular U with U'U = H⁻¹: row c says how column c reaches those after it.

    Parameters
    ----------
    moments : numpy.ndarray
        float64, (cols, cols), symmetric and positive definite.

    Returns
    -------
    numpy.ndarray
        float64, (cols, cols), C-contiguous.
    """
    from scipy.linalg import lapack

    lower = _cholesky(moments[::-1, ::-1])  # of the reversed matrix, so that one factor and its inverse do
    inverse, _ = lapack.dtrtri(lower, lower=1)
    return np.ascontiguousarray(inverse[::-1, ::-1])


def _cholesky(matrix):
    """The lower factor; rounding that leaves the matrix short of positive definite is damped away."""
    from scipy.linalg import lapack

    damping = 0.0
    while True:
        lower, failed = lapack.dpotrf(_plus(matrix, damping), lower=1, clean=1)
        if not failed:
            return lower
        damping = 10 * damping or 1e-6 * float(np.mean(np.diag(matrix)))


def _damped(moments):
    """H relative to its mean diagonal, damped; an input that was never there is nobody's neighbour."""
    moments = np.asarray(moments, np.float64)
    mean = float(np.mean(np.diag(moments)))
    if not mean > 0:
        return np.eye(len(moments))
    return _plus(moments / mean, _DAMPING)


def _unused(evidence):
    """Which inputs were always zero: no output misses what was behind them."""
    return np.diag(evidence["second_moments"]) == 0


def _plus(matrix, damping):
    matrix = np.array(matrix)
    matrix[np.diag_indices_from(matrix)] += damping
    return matrix


def _scaled(weight):
    """The weights in float64 divided by the largest, and that: squares of any weights stay finite."""
    weight = weight.astype(np.float64)
    largest = float(np.abs(weight).max(initial=0.0)) or 1.0
    return weight / largest, largest


def _errors(change, evidence):
    """Squared error of each output on the calibration data, undamped."""
    moments = np.asarray(evidence["second_moments"], np.float64)
    return np.einsum("rc,rc->r", change @ (moments / (np.abs(moments).max(initial=0.0) or 1.0)), change)


class _Given:
    """A mask that is there already, columns by rows."""

    def __init__(self, mask):
        self.mask = mask

    def at(self, column, values, diagonal):
        """Say what stays of a column."""
        return self.mask[column]


class _Block:
    """A mask that is chosen as the sweep goes, at the first column of each block or group."""

    def __init__(self, there, unused, left, group):
        self.mask = np.zeros(there.shape, bool)
        self._unused = unused
        self._there, self._left, self._group = there, left, group
        self._share = left / max(np.count_nonzero(there), 1)
        self._seen = self._taken = 0

    def at(self, column, values, diagonal):
        """Say what stays of a column; `values` are the block's from this column on, as they are now."""
        if self._group is not None and column % self._group[1] == 0:
            self._choose_groups(column, values, diagonal)
        elif self._group is None and column % _BLOCK == 0:
            self._choose_block(column, values, diagonal)
        return self.mask[column]

    def _worth(self, column, values, diagonal):
        worth = np.abs(values) / diagonal[:, None]
        worth[self._unused[column : column + len(values)]] = 0.0
        np.maximum(worth, np.finfo(np.float64).tiny, out=worth)
        worth[~self._there[column : column + len(values)]] = 0.0
        return worth

    def _choose_groups(self, column, values, diagonal):
        kept, group = self._group
        worth = self._worth(column, values[:group], diagonal[:group])
        self.mask[column : column + group] = kept_in_groups(worth.T, kept, group).T

    def _choose_block(self, column, values, diagonal):
        worth = self._worth(column, values, diagonal)
        last = column + len(values) == len(self.mask)
        self._seen += np.count_nonzero(worth)
        stay = (self._left if last else round(self._share * self._seen)) - self._taken
        self._taken += stay
        self.mask[column : column + len(values)] = Cut([worth], worth.size - stay).kept(worth)


def _sweep(weight, factor, width, marks):
    """Let columns go one after the other, and change those after them; blocks of `width` columns lazily.

    Parameters
    ----------
    weight : numpy.ndarray
        float64, (cols, rows), C-contiguous; it is overwritten.
    factor : numpy.ndarray
        Of `inverse_factor`.
    width : int
    marks : object
        marks.at(column, values, diagonal) → boolean, (rows,): what stays.

    Returns
    -------
    numpy.ndarray
        `weight`, with zeros for what went.
    """
    cols, rows = weight.shape
    diagonal = np.diag(factor).copy()
    for begin in range(0, cols, width):
        end = min(begin + width, cols)
        errors = np.zeros((end - begin, rows))
        for column in range(begin, end):
            stays = marks.at(column, weight[column:end], diagonal[column:end])
            gone = np.where(stays, 0.0, weight[column])
            errors[column - begin] = gone / diagonal[column]
            weight[column] -= gone
            weight[column + 1 : end] -= np.outer(factor[column, column + 1 : end], errors[column - begin])
        weight[end:] -= factor[begin:end, end:].T @ errors
    return weight


def _solved(before, mask, moments, members, count):
    """The least squares themselves, for all rows that keep the same columns at once."""
    from scipy.linalg import lapack

    after = np.where(mask, before, 0.0)
    order = np.argsort(members, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(members, minlength=count))[:-1]):
        kept = mask[rows[0]]
        if kept.all() or not kept.any():
            continue
        lower = _cholesky(moments[np.ix_(kept, kept)])
        gone = before[np.ix_(rows, ~kept)] @ moments[np.ix_(~kept, kept)]
        after[np.ix_(rows, kept)] += lapack.dpotrs(lower, gone.T, lower=1)[0].T
    return after
