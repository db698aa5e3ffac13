"""The map of blocks."""

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.errors import OptionError
from csbviz.figures import block_nnz, theme
from csbviz.formats import CSBMatrix


def random_csb(rows, cols, density, block_shape, seed=0):
    S = sp.random(rows, cols, density=density, format="csr", dtype=np.float32, random_state=seed)
    return CSBMatrix.from_scipy(S, block_shape=block_shape)


def test_exact_counts_with_ragged_edges():
    D = np.zeros((5, 6), dtype=np.float32)
    D[0, 0] = D[1, 1] = D[4, 5] = D[4, 4] = 1
    info = block_nnz.get_block_nnz_info(CSBMatrix.from_dense(D, block_shape=(2, 4)))
    assert info.grid == (3, 2)
    assert info.counts.tolist() == [[2, 0], [0, 0], [0, 2]]
    assert info.areas.tolist() == [[8, 4], [8, 4], [4, 2]]
    assert info.density.tolist() == [[0.25, 0], [0, 0], [0, 1]]
    assert (info.blocks, info.empty, info.largest, info.fullest) == (6, 4, 2, (0, 0))
    assert info.mean == pytest.approx(4 / 6)


def test_a_transposed_view_has_its_own_map():
    A = random_csb(64, 32, 0.2, (16, 8))
    there, back = block_nnz.get_block_nnz_info(A), block_nnz.get_block_nnz_info(A.T)
    assert np.array_equal(there.counts, back.counts.T)
    assert back.shape == (32, 64)


def test_a_large_grid_is_merged_without_losing_a_nonzero():
    A = random_csb(2100, 1030, 0.02, (2, 1))
    info = block_nnz.get_block_nnz_info(A)
    assert info.grid == (1050, 1030)
    assert info.merged == (3, 3)
    assert max(info.counts.shape) <= block_nnz.MAX_CELLS
    assert info.counts.sum() == A.nnz
    assert info.areas.sum() == 2100 * 1030
    assert info.targets is None
    assert "3 × 3" in block_nnz.caption(info)
    assert len(block_nnz.plot_block_nnz(info).to_json()) < 2**20


@pytest.mark.parametrize("measure", ["nnz", "density"])
@pytest.mark.parametrize("dark", [False, True])
def test_numbers_on_blocks_read_on_their_colors(measure, dark):
    info = block_nnz.get_block_nnz_info(random_csb(64, 64, 0.3, (16, 16)), selected=(3, 2))
    fig = block_nnz.plot_block_nnz(info, dark, measure)
    heat = fig.data[0]
    scale = [list(point) for point in heat.colorscale]
    written = {}
    for trace in (trace for trace in fig.data[1:] if trace.mode == "text"):
        ink = trace.textfont.color
        assert trace.unselected.textfont.color == ink  # a click elsewhere leaves them readable
        written |= {(i, j): (ink, number) for i, j, number in zip(trace.y, trace.x, trace.text, strict=True)}
    assert len(written) == 16
    for (i, j), (ink, number) in written.items():
        assert theme.contrast(ink, theme.scale_color(scale, heat.z[i, j] / heat.zmax)) >= 4.5
        assert number == (
            f"{heat.z[i, j]:.0%}".replace("%", " %") if measure == "density" else str(heat.z[i, j])
        )
    frame = fig.layout.shapes[-1]
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (1.5, 2.5, 2.5, 3.5)


def test_click_targets_lie_on_the_blocks():
    info = block_nnz.get_block_nnz_info(random_csb(40, 24, 0.3, (16, 8)))
    (targets,) = [trace for trace in block_nnz.plot_block_nnz(info).data if trace.name == "blocks"]
    assert [(row[1], row[0]) for row in targets.customdata] == list(zip(targets.x, targets.y, strict=True))
    assert sum(row[2] for row in targets.customdata) == info.counts.sum()


def test_bad_options_say_what_was_found():
    A = random_csb(16, 16, 0.3, (4, 4))
    with pytest.raises(OptionError, match=r"\(4, 0\)"):
        block_nnz.get_block_nnz_info(A, selected=(4, 0))
    with pytest.raises(OptionError, match="'bytes'"):
        block_nnz.plot_block_nnz(block_nnz.get_block_nnz_info(A), measure="bytes")


@pytest.mark.parametrize("shape", [(0, 8), (8, 0), (8, 8)])
def test_nothing_to_show_still_draws(shape):
    info = block_nnz.get_block_nnz_info(
        CSBMatrix.from_scipy(sp.csr_matrix(shape, dtype=np.float32), block_shape=(4, 4))
    )
    assert block_nnz.plot_block_nnz(info).to_json()
    assert "no blocks" in block_nnz.caption(info) or "all empty" in block_nnz.caption(info)


def test_caption_names_the_fullest_block():
    D = np.zeros((8, 8), dtype=np.float32)
    D[4:8, 0:4] = 1
    text = block_nnz.caption(block_nnz.get_block_nnz_info(CSBMatrix.from_dense(D, block_shape=(4, 4))))
    assert "block (1, 0) holds the most, 16 (4.00× the mean)" in text
    assert "3 are empty" in text
