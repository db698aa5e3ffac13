"""Bytes per format, and index bytes over the block side."""

import itertools
import math

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.figures import format_bytes, index_bytes, theme
from csbviz.formats import format_bytes as count_bytes
from csbviz.formats import index_bytes_per_nonzero


@pytest.fixture(scope="module")
def matrix():
    return sp.random(200, 300, density=0.1, format="csr", dtype=np.float32, random_state=3)


def test_parts_add_up_and_the_smallest_comes_first(matrix):
    sizes = count_bytes(matrix, (16, 16))
    info = format_bytes.get_format_bytes_info(sizes)
    assert {bar.name for bar in info.bars} == set(sizes)
    totals = [bar.total for bar in info.bars]
    assert totals == sorted(totals)
    for bar in info.bars:
        assert bar.total == sizes[bar.name].total
        assert sum(getattr(bar, part) for part in format_bytes.PARTS) == bar.total
        assert bar.ratio == pytest.approx(bar.total / (200 * 300 * 4))
        assert bar.values == 4 * matrix.nnz  # what is padding is counted apart, to the byte


def test_padding_of_an_exact_example():
    S = sp.csr_matrix(np.array([[1, 1, 1, 0], [0, 0, 0, 1]], dtype=np.float32))
    bars = {bar.name: bar for bar in format_bytes.get_format_bytes_info(count_bytes(S, (2, 2))).bars}
    assert (bars["dense"].values, bars["dense"].padding) == (16, 16)
    assert (bars["ell"].values, bars["ell"].indices, bars["ell"].padding) == (16, 16, 16)
    assert (bars["bsr"].values, bars["bsr"].indices, bars["bsr"].padding) == (16, 8, 16)
    assert bars["csr"].padding == bars["csb"].padding == 0


def test_formats_that_cannot_hold_the_matrix_are_named(matrix):
    info = format_bytes.get_format_bytes_info(count_bytes(matrix, (64, 64)) | {"csr16": None})
    assert {title for title, _ in info.left_out} == {"CSB, packed index", "CSR, 16-bit columns"}
    assert "Left out: " in format_bytes.caption(info)
    assert "at most 256 cells" in format_bytes.caption(info)


@pytest.mark.parametrize("dark", [False, True])
def test_bars_have_their_formats_color(matrix, dark):
    info = format_bytes.get_format_bytes_info(count_bytes(matrix, (16, 16)))
    fig = format_bytes.plot_format_bytes(info, dark)
    values = fig.data[0]
    by_title = dict(zip(values.y, values.marker.color, strict=True))
    for name, color in theme.FORMAT_COLORS.items():
        assert by_title[theme.FORMAT_TITLES[name]] == color
    (labels,) = [trace for trace in fig.data if getattr(trace, "mode", None) == "text"]
    assert all(
        "× dense" in text for text, title in zip(labels.text, labels.y, strict=True) if title != "Dense"
    )


def test_caption_compares_csb_with_csr(matrix):
    text = format_bytes.caption(format_bytes.get_format_bytes_info(count_bytes(matrix, (64, 64))))
    assert "less than CSR" in text
    worse = format_bytes.caption(format_bytes.get_format_bytes_info(count_bytes(matrix, (2, 2))))
    assert "more than CSR" in worse
    assert "pointers weigh more than its indices" in worse
    assert format_bytes.caption(format_bytes.get_format_bytes_info({})).startswith("No format")


@pytest.mark.parametrize("shape", [(0, 4), (4, 4)])
def test_no_nonzeros_still_draw(shape):
    S = sp.csr_matrix(shape, dtype=np.float32)
    info = format_bytes.get_format_bytes_info(count_bytes(S, (2, 2)))
    assert format_bytes.plot_format_bytes(info).to_json()
    assert format_bytes.caption(info)
    curve = index_bytes.get_index_bytes_info(S, index_bytes_per_nonzero(S, (4, 8)))
    assert index_bytes.plot_index_bytes(curve).to_json()
    assert "Without nonzeros" in index_bytes.caption(curve)
    assert "nan" not in str(index_bytes.plot_index_bytes(curve).layout.annotations).lower()


def test_curve_and_references_agree_with_the_sizes(matrix):
    info = index_bytes.get_index_bytes_info(
        matrix, index_bytes_per_nonzero(matrix, (64, 16, 256)), selected=64
    )
    sizes = count_bytes(matrix, (64, 64))
    assert info.betas == (16, 64, 256)
    per_nonzero = {
        name: (size.indices + size.pointers) / matrix.nnz for name, size in sizes.items() if size.total
    }
    assert info.values[1] == pytest.approx(per_nonzero["csb"])
    for reference in info.references:
        assert reference.value == pytest.approx(per_nonzero[reference.name])
    assert [r.name for r in info.references] == ["csr", "csr16", "bitmap"]
    assert info.values[info.betas.index(info.best)] == min(info.values)
    assert "β = 64 (ringed)" in index_bytes.caption(info)


def test_wide_matrices_have_no_16_bit_line():
    S = sp.csr_matrix((np.ones(1, np.float32), ([0], [65536])), shape=(1, 65537))
    names = [r.name for r in index_bytes.get_index_bytes_info(S, {64: 2.0}).references]
    assert names == ["csr", "bitmap"]


@pytest.mark.parametrize("dark", [False, True])
def test_every_line_is_labelled_at_its_end_without_overlap(matrix, dark):
    info = index_bytes.get_index_bytes_info(matrix, index_bytes_per_nonzero(matrix, (16, 32, 64, 128, 256)))
    fig = index_bytes.plot_index_bytes(info, dark)
    labels = [note for note in fig.layout.annotations if note.xanchor == "left"]
    assert len(labels) == 4
    heights = sorted(note.y for note in labels)
    pixels = 260 / info.top
    assert min(b - a for a, b in itertools.pairwise(heights)) * pixels >= 16.9
    assert not fig.layout.showlegend


def test_references_beyond_the_axis_say_so():
    S = sp.csr_matrix((np.ones(2, np.float32), ([0, 50], [3, 900])), shape=(64, 1024))
    info = index_bytes.get_index_bytes_info(S, {64: 34.0})
    bitmap = next(r for r in info.references if r.name == "bitmap")
    assert bitmap.value > info.top
    texts = [note.text for note in index_bytes.plot_index_bytes(info).layout.annotations]
    assert any(text.startswith("Bitmap") and text.endswith("↑") for text in texts)
    assert math.isfinite(info.top)
