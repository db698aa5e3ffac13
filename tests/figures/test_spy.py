"""The spy picture: every nonzero counts, at any size, in any window."""

import time

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from csbviz.errors import OptionError
from csbviz.figures import raster, spy

MEBIBYTE = 2**20


def random_csr(rows, cols, density, seed=0):
    return sp.random(rows, cols, density=density, format="csr", dtype=np.float32, random_state=seed)


def even_rows_csr(rows, cols, per_row, seed=0):
    """A large matrix, quickly: as many nonzeros in every row (a few of them twice in one place)."""
    indices = np.random.default_rng(seed).integers(0, cols, rows * per_row, dtype=np.int32)
    pointers = np.arange(0, rows * per_row + 1, per_row, dtype=np.int32)
    return sp.csr_matrix((np.ones(rows * per_row, np.float32), indices, pointers), shape=(rows, cols))


@st.composite
def windows(draw):
    """A small matrix and a window in it: edges that no cell divides, single rows, empty matrices of zeros."""
    rows, cols = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    S = random_csr(rows, cols, draw(st.sampled_from([0.0, 0.1, 0.6, 1.0])), draw(st.integers(0, 9)))
    begin = draw(st.integers(0, rows - 1)), draw(st.integers(0, cols - 1))
    end = draw(st.integers(begin[0] + 1, rows)), draw(st.integers(begin[1] + 1, cols))
    return S, (begin[0], end[0]), (begin[1], end[1])


def test_exact_densities_of_a_small_matrix():
    S = sp.csr_matrix(np.array([[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 2, 3]], dtype=np.float32))
    picture = spy.get_spy_info(S, pixels=3).raster
    assert picture.cell == (1, 2)
    assert picture.counts.tolist() == [[2, 0, 0], [2, 0, 0], [0, 1, 1]]
    # The last column of cells is one entry wide.
    assert picture.density.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0.5, 1]]
    assert not picture.uniform


@given(windows(), st.integers(1, 50))
def test_densities_times_areas_add_up_to_the_nonzeros_of_the_window(case, pixels):
    S, rows, cols = case
    picture = spy.get_spy_info(S, rows, cols, pixels=pixels).raster
    inside = S[rows[0] : rows[1], cols[0] : cols[1]]
    areas = raster.cell_areas(rows[1] - rows[0], cols[1] - cols[0], picture.cell)
    assert picture.nnz == inside.nnz
    assert areas.sum() == picture.size
    assert np.isclose((picture.density.astype(np.float64) * areas).sum(), inside.nnz, atol=1e-3)
    assert max(picture.counts.shape) <= pixels
    dense = (inside.toarray() != 0).astype(int)
    down, across = picture.cell
    expected = np.add.reduceat(
        np.add.reduceat(dense, np.arange(0, dense.shape[0], down)),
        np.arange(0, dense.shape[1], across),
        axis=1,
    )
    assert np.array_equal(picture.counts, expected)


@given(windows(), st.sampled_from([1, 2, 4, 8, 64]), st.sampled_from([1, 2, 4, 8, 64]))
def test_targets_count_whole_blocks_also_where_the_window_cuts_them(case, down, across):
    S, rows, cols = case
    targets = spy.get_spy_info(S, rows, cols, block_shape=(down, across)).targets
    seen = {
        (i, j)
        for i in range(rows[0] // down, (rows[1] - 1) // down + 1)
        for j in range(cols[0] // across, (cols[1] - 1) // across + 1)
    }
    assert {(i, j) for i, j, *_ in targets.data.tolist()} == seen
    for (i, j, nnz, top, bottom, left, right), x, y in zip(
        targets.data.tolist(), targets.x, targets.y, strict=True
    ):
        assert (top, left) == (i * down, j * across)
        assert nnz == S[top:bottom, left:right].nnz
        assert max(left, cols[0]) <= x <= min(right, cols[1]) - 1
        assert max(top, rows[0]) <= y <= min(bottom, rows[1]) - 1


def test_too_many_blocks_have_neither_targets_nor_borders():
    info = spy.get_spy_info(random_csr(1024, 1024, 0.01), block_shape=(8, 8))
    assert info.targets is None
    assert not info.grid
    assert "zoom in" in spy.caption(info)
    zoomed = spy.get_spy_info(random_csr(1024, 1024, 0.01), (0, 128), (0, 128), block_shape=(8, 8))
    assert zoomed.targets.data.shape == (256, 7)
    assert zoomed.grid


def test_a_single_nonzero_of_a_large_matrix_shows():
    S = sp.csr_matrix((np.ones(1, np.float32), ([5000], [7000])), shape=(8192, 8192))
    info = spy.get_spy_info(S)
    heat = spy.plot_spy(info).data[0]
    assert heat.z[5000 // 16, 7000 // 16] == 1
    assert np.count_nonzero(heat.z) == 1
    step = heat.colorscale[1][0] * heat.zmax
    assert 0 < step < 1  # the background's colour ends before the first nonzero


def test_a_few_dense_cells_do_not_hide_the_rest():
    densities = np.full((64, 64), 0.05, dtype=np.float32)
    densities[0, :3] = 1
    assert raster.colour_top(densities) == pytest.approx(0.05)
    assert raster.colour_top(np.zeros((2, 2))) == 1
    assert raster.colour_top(np.array([0.2, 0.25])) == 0.25


def test_figure_is_small_and_quick_for_a_large_layer():
    S = even_rows_csr(4096, 4096, 400)
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        info = spy.get_spy_info(S, block_shape=(64, 64))
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) <= 0.3
    assert info.raster.counts.shape == (512, 512)
    assert info.targets is not None
    assert len(spy.plot_spy(info).to_json()) <= 3 * MEBIBYTE


def test_worst_case_stays_under_the_limit():
    S = even_rows_csr(5003, 5003, 100)  # no cell divides it, so densities go out as floats
    info = spy.get_spy_info(S, block_shape=(128, 128))
    assert not info.raster.uniform
    assert len(spy.plot_spy(info).to_json()) <= 3 * MEBIBYTE


def test_selected_block_is_framed_and_cut_at_the_edge():
    fig = spy.plot_spy(spy.get_spy_info(random_csr(10, 10, 0.3), block_shape=(4, 4), selected=(2, 1)))
    frame = fig.layout.shapes[-1]
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (3.5, 7.5, 7.5, 9.5)


def test_click_targets_are_invisible_lists():
    fig = spy.plot_spy(spy.get_spy_info(random_csr(8, 8, 0.5), block_shape=(4, 4)))
    (targets,) = [trace for trace in fig.data if trace.name == "blocks"]
    assert targets.marker.opacity == targets.selected.marker.opacity == targets.unselected.marker.opacity == 0
    spec = fig.to_plotly_json()["data"][-1]
    assert isinstance(spec["customdata"], (list, tuple))
    assert [list(row[:2]) for row in spec["customdata"]] == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert fig.layout.dragmode == "pan"


def test_rows_run_downwards_between_the_matrix_borders():
    fig = spy.plot_spy(spy.get_spy_info(random_csr(20, 30, 0.2), rows=(5, 15)))
    assert tuple(fig.layout.yaxis.range) == (14.5, 4.5)
    assert tuple(fig.layout.xaxis.range) == (-0.5, 29.5)
    heat = fig.data[0]
    assert (heat.y[0], heat.y[-1], len(heat.y)) == (4.5, 14.5, 11)


@pytest.mark.parametrize(
    ("box", "rows", "cols"),
    [
        (((3.5, 7.5), (1.5, 3.5)), (2, 4), (4, 8)),
        (((7.4, 3.6), (3.4, 1.6)), (2, 4), (4, 8)),  # any order; an entry touched is in
        (((-9, 99), (-9, 99)), (0, 20), (0, 30)),
        (((2.1, 2.2), (2.1, 2.2)), (2, 3), (2, 3)),
        (((50, 60), (50, 60)), (19, 20), (29, 30)),
        (((-60, -50), (-60, -50)), (0, 1), (0, 1)),
    ],
)
def test_box_becomes_a_window(box, rows, cols):
    info = spy.get_spy_info(random_csr(20, 30, 0.2))
    assert spy.window_from_box(info, *box) == (rows, cols)
    spy.get_spy_info(random_csr(20, 30, 0.2), rows, cols)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"rows": (0, 0)}, "rows 0 to 0"),
        ({"rows": (-1, 4)}, "rows -1 to 4"),
        ({"cols": (3, 31)}, "columns 3 to 31"),
        ({"block_shape": (0, 4)}, r"\(0, 4\)"),
        ({"block_shape": (4, 4), "selected": (5, 0)}, r"block \(5, 0\)"),
        ({"pixels": 0}, "0 pixels"),
    ],
)
def test_bad_options_say_what_was_found(options, found):
    with pytest.raises(OptionError, match=found):
        spy.get_spy_info(random_csr(20, 30, 0.2), **options)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("dark", [False, True])
def test_a_matrix_without_entries_still_draws(shape, dark):
    info = spy.get_spy_info(sp.csr_matrix(shape, dtype=np.float32), block_shape=(4, 4))
    assert spy.plot_spy(info, dark).to_json()
    assert spy.caption(info) == "The matrix has no entries."


def test_caption_tells_a_pattern_from_a_scatter():
    scatter = random_csr(2048, 2048, 0.1)
    assert "as evenly as a random scatter" in spy.caption(spy.get_spy_info(scatter))
    banded = sp.vstack([random_csr(1024, 2048, 0.02), random_csr(1024, 2048, 0.18)]).tocsr()
    text = spy.caption(spy.get_spy_info(banded))
    assert "bands and clusters" in text
    assert "2,048 × 2,048" in text
    assert "4 × 4" in text


def test_real_matrix_keeps_its_nonzeros(dlmc):
    from csbviz.formats import load_matrix

    path = min(dlmc.glob("transformer/magnitude_pruning/0.9/*encoder*ffn_conv1*"))
    S = load_matrix(path)
    info = spy.get_spy_info(S, block_shape=(64, 64))
    assert info.raster.nnz == info.nnz == S.nnz == info.targets.data[:, 2].sum()
