"""Nonzeros per row and column, and the histogram of weights."""

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.errors import MatrixError
from csbviz.figures import row_col_nnz, weight_histogram


def test_exact_counts_per_row_and_column():
    S = sp.csr_matrix(np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0]], dtype=np.float32))
    rows, cols = row_col_nnz.get_row_col_nnz_info(S)
    assert rows.envelope.low.tolist() == [2, 0, 1, 2]
    assert cols.envelope.low.tolist() == [3, 2, 0]
    assert (rows.mean, rows.minimum, rows.maximum, rows.fullest, rows.empty) == (1.25, 0, 2, 0, 1)
    assert rows.std == pytest.approx(np.std([2, 0, 1, 2]))
    assert rows.imbalance == pytest.approx(1.6)
    assert (rows.length, rows.places, cols.length, cols.places) == (4, 3, 3, 4)
    assert "1 row has no nonzero. 1 column has no nonzero." in row_col_nnz.caption(
        row_col_nnz.get_row_col_nnz_info(S)
    )


def test_many_rows_become_an_envelope_that_keeps_extremes_and_sum():
    S = sp.random(5001, 40, density=0.2, format="csr", dtype=np.float32, random_state=1)
    rows = row_col_nnz.get_row_col_nnz_info(S).rows
    env, counts = rows.envelope, np.diff(S.indptr)
    assert env.group == 6
    assert len(env.begin) <= row_col_nnz.ENVELOPE_POINTS
    sizes = np.diff(np.append(env.begin, 5001))
    assert (env.mean * sizes).sum() == pytest.approx(S.nnz)
    assert env.high.max() == counts.max()
    assert env.low.min() == counts.min()
    assert np.all((env.low <= env.mean) & (env.mean <= env.high))


def test_lines_stay_small_for_a_huge_matrix():
    rng = np.random.default_rng(2)
    where = rng.integers(0, 60000, 600_000), rng.integers(0, 50000, 600_000)
    S = sp.csr_matrix((np.ones(600_000, np.float32), where), shape=(60000, 50000))
    info = row_col_nnz.get_row_col_nnz_info(S)
    assert len(row_col_nnz.plot_row_col_nnz(info).to_json()) < 200_000
    assert "60 rows and 50 columns at a time" in row_col_nnz.caption(info)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1), (3, 3)])
@pytest.mark.parametrize("dark", [False, True])
def test_no_nonzeros_still_draw(shape, dark):
    info = row_col_nnz.get_row_col_nnz_info(sp.csr_matrix(shape, dtype=np.float32))
    assert row_col_nnz.plot_row_col_nnz(info, dark).to_json()
    assert "no " in row_col_nnz.caption(info)


def test_caption_tells_uneven_rows():
    D = np.zeros((64, 64), dtype=np.float32)
    D[:, :2] = 1
    D[5] = 1
    text = row_col_nnz.caption(row_col_nnz.get_row_col_nnz_info(sp.csr_matrix(D)))
    assert "fullest column, 0" in text or "fullest row, 5" in text
    full = row_col_nnz.caption(row_col_nnz.get_row_col_nnz_info(sp.csr_matrix(np.ones((4, 4), np.float32))))
    assert full == "All rows hold as many nonzeros, 4.00: none makes others wait."


def test_exact_histogram_with_zeros_counted_apart():
    values = np.array([[-1.0, -0.5, 0.0], [0.5, 1.0, 0.0]], dtype=np.float32)
    info = weight_histogram.get_weight_histogram_info(values, bins=4)
    assert info.edges.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert info.kept.tolist() == [1, 1, 0, 2]
    assert info.pruned.sum() == 0
    assert (info.size, info.zeros, info.kept_total, info.pruned_total, info.outside) == (6, 2, 4, 0, 0)
    assert info.threshold is None
    assert info.std == pytest.approx(np.std([-1, -0.5, 0.5, 1]))
    assert "2 of 6 weights (33.3 %) are zero as loaded" in weight_histogram.caption(info)


def test_every_weight_is_counted_once():
    rng = np.random.default_rng(0)
    values = rng.normal(size=20000).astype(np.float32)
    values[:500] = 0
    values[500:503] = np.nan, np.inf, -np.inf
    values[600:605] = 1000  # far out: beyond the axis
    after = np.where(np.abs(values) < 1, 0, values)
    info = weight_histogram.get_weight_histogram_info(values, after)
    assert info.zeros == 500
    assert info.not_finite == 3
    assert info.outside == 5
    assert info.kept.sum() + info.pruned.sum() + info.zeros + info.not_finite + info.outside == 20000
    assert info.kept_total + info.pruned_total == 20000 - 503
    text = weight_histogram.caption(info)
    assert "5 weights lie beyond the axis" in text
    assert "3 weights are not finite" in text


def test_magnitude_pruning_has_a_threshold_and_random_has_none():
    values = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    by_size = np.where(np.abs(values) < 0.5, 0, values)
    info = weight_histogram.get_weight_histogram_info(values, by_size)
    assert info.threshold == pytest.approx(np.abs(by_size[by_size != 0]).min())
    assert "in the middle" in weight_histogram.caption(info)
    by_chance = np.where(np.arange(4000) % 3 == 0, 0, values)
    info = weight_histogram.get_weight_histogram_info(values, by_chance)
    assert info.threshold is None
    assert "small magnitudes do not go first" in weight_histogram.caption(info)


@pytest.mark.parametrize("log_counts", [False, True])
@pytest.mark.parametrize("values", [[], [0.0, 0.0], [0.25] * 8, [np.nan], [1e-30, 2e-30]])
def test_odd_layers_still_draw(values, log_counts):
    values = np.array(values, dtype=np.float32)
    info = weight_histogram.get_weight_histogram_info(values, values)
    fig = weight_histogram.plot_weight_histogram(info, dark=True, log_counts=log_counts)
    assert fig.to_json()
    assert fig.layout.yaxis.type == ("log" if log_counts else None)
    assert weight_histogram.caption(info)


def test_shapes_that_differ_are_refused():
    with pytest.raises(MatrixError, match="2 × 3"):
        weight_histogram.get_weight_histogram_info(np.ones((2, 3)), np.ones((3, 2)))
