"""Plans of the Hopper tensor-core kernels, and the index arithmetic of the source, checked without a GPU."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.errors import OptionError
from csbviz.formats import CSBMatrix
from csbviz.ops.cuda import wgmma, wgmma_plan
from csbviz.ops.cuda.module import read_source
from csbviz.ops.cuda.wgmma_plan import (
    TUNABLES,
    Shape,
    block_threads,
    candidates,
    choose_shape,
    instantiations,
    position_of,
    scale_exponent,
    shared_bytes,
    stages,
)

SIZES = ((2048, 512, 2048), (512, 2048, 128), (512, 512, 512), (128, 512, 196), (1, 1, 1), (64, 100000, 3))


def matrix(values, block_shape=64) -> CSBMatrix:
    return CSBMatrix.from_scipy(sp.csr_array(np.array([values], np.float32)), block_shape=block_shape)


# ---- the order inside a tile -------------------------------------------------------------------------------


def test_positions_are_a_permutation_that_gives_threads_neighbours():
    positions = position_of(np.arange(64))
    assert np.array_equal(np.sort(positions), np.arange(64))
    assert np.array_equal(positions // 16, np.arange(64) // 16)
    # wgmma gives thread q of four the positions 2q, 2q + 1, 2q + 8 and 2q + 9 of each 16.
    index_at = np.argsort(positions)
    for q in range(4):
        mine = index_at[[2 * q, 2 * q + 1, 2 * q + 8, 2 * q + 9]]
        assert mine.tolist() == [4 * q, 4 * q + 1, 4 * q + 2, 4 * q + 3]


def place(out, inner, transpose):
    """Byte of a cell in its tile, as in the source: packed bytes, of which a row's is the upper one."""
    if transpose:
        row = (inner & 0x31) | (inner & 0x02) << 2 | (inner & 0x0C) >> 1
        twice = (out << 2) ^ (row & 7) << 5
    else:
        row = out
        twice = ((inner & 0x31) << 2 | (inner & 0x02) << 4 | (inner & 0x0C) << 1) ^ (out & 7) << 5
    assert twice.max() < 256
    return (row << 24 | twice << 16) >> 17


@pytest.mark.parametrize("transpose", [False, True])
def test_cells_lie_where_wgmma_reads_them(transpose):
    out, inner = np.divmod(np.arange(64 * 64), 64)
    row, column = (position_of(inner), out) if transpose else (out, position_of(inner))
    # Rows of 128 bytes; the 16-byte chunk c of row r lies at chunk c ^ (r & 7).
    expected = row * 128 + ((column // 8) ^ (row & 7)) * 16 + column % 8 * 2
    offsets = place(out, inner, transpose)
    assert np.array_equal(offsets, expected)
    assert np.array_equal(np.sort(offsets), 2 * np.arange(64 * 64))


@pytest.mark.parametrize("transpose", [False, True])
def test_entries_of_a_stored_row_fall_into_all_banks(transpose):
    line = np.arange(64)
    for fixed in (0, 5, 63):
        # Entries of a stored row follow one another in "in" for A·B, in "out" for the transposed product.
        offsets = (
            place(line, np.full(64, fixed), True) if transpose else place(np.full(64, fixed), line, False)
        )
        assert np.array_equal(np.bincount(offsets // 4 % 32, minlength=32), np.full(32, 2))
        assert len(set(offsets // 4)) == 32  # two entries of a bank share its word


# ---- launches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_candidates_exist_fit_and_have_kernels(size):
    functions = set(instantiations())
    found = candidates(*size)
    assert found
    for shape in found:
        assert shape.fault is None
        for kind in wgmma_plan.KINDS.values():
            a_stages, b_stages = stages(shape, kind)
            assert a_stages >= 2
            assert b_stages >= 3
            assert shared_bytes(shape, kind, a_stages, b_stages) <= 232448
            if shape.prepass:  # a place for a tile of A belongs to one group of producers
                assert a_stages * shape.tile_m // 64 % (2 if shape.tile_n == 128 else 3) == 0
            if (
                shape.prepass and shape.tile_m == 64
            ):  # and to one warpgroup that multiplies; so does a place for one of B
                assert a_stages % 2 == 0
                assert b_stages % 2 == 0
            assert all(shape.function(kind, transpose) in functions for transpose in (False, True))


@pytest.mark.parametrize("size", SIZES)
def test_a_wish_is_granted_or_refused(size):
    assert choose_shape(*size, 132) in candidates(*size)
    for name, values in TUNABLES.items():
        for value in values:
            if name == "split" and value > -(-size[1] // 64):
                with pytest.raises(OptionError, match="blocks"):
                    choose_shape(*size, 132, split=value)
            else:
                assert getattr(choose_shape(*size, 132, **{name: value}), name) == value


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ({"tile_m": 32}, "tile_m is 32; it must be one of 64, 128"),
        ({"cluster": 2}, "cluster is 2; it must be one of 1"),
        ({"prepass": 0, "tile_n": 128}, "prepass is 0"),
        ({"split": 8}, "split is 8 but the sum has 2 blocks"),
    ],
)
def test_a_wrong_wish_is_one_sentence(wanted, complaint):
    with pytest.raises(OptionError, match=complaint):
        choose_shape(256, 128, 256, 132, **wanted)


@pytest.mark.parametrize("tiles", [1, 63, 132, 133, 256, 1000, 4096])
def test_a_grid_fills_the_device_evenly(tiles):
    ctas = wgmma._ctas(Shape(64, 64), tiles, 132)
    assert ctas <= min(132, tiles)
    assert -(-tiles // ctas) == -(-tiles // 132)


# ---- range -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [1e-38, 1e-3, 1.0, 1.99, 2.0, 3e4, 3e38])
def test_the_scale_leaves_room_below_the_end_of_float16(largest):
    scaled = np.float64(np.float32(largest)) * 2.0 ** scale_exponent(matrix([largest, largest / 3]))
    assert 2**14 <= scaled < 2**15


def test_pairs_of_float16_keep_22_bits():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(10000) * 2**13).astype(np.float32)
    hi = x.astype(np.float16).astype(np.float32)
    lo = (x - hi).astype(np.float16).astype(np.float32)
    assert (np.abs(x.astype(np.float64) - hi - lo) <= np.abs(x) * 2.0**-22 + 2.0**-25).all()


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([1.0, np.inf], "Inf or NaN"),
        ([1.0, np.nan], "Inf or NaN"),
        ([1.0, 1e-9], "a range of 2"),
        ([1e-45, 2e-45], "to scale it"),
    ],
)
def test_values_out_of_range_are_refused(values, complaint):
    assert complaint in wgmma.accepts(matrix(values), "A@B", 64)


def test_what_is_accepted():
    assert wgmma.accepts(matrix([1.0, 1e-7]), "A@B", 64) is None
    assert wgmma.accepts(matrix([0.0, 0.0]), "A@B", 64) is None
    assert "32 x 64" in wgmma.accepts(matrix([1.0], (32, 64)), "A@B", 64)
    assert wgmma.accepts(matrix([1.0, 1e-4]).astype("float16"), "A@B", 64) is None


def test_the_source_says_what_the_plan_assumes():
    source = read_source(wgmma_plan.SOURCE)
    constants = dict(re.findall(r"constexpr int (\w+) = (\d+);", source))
    assert int(constants["EDGE"]) == wgmma_plan.EDGE
    assert int(constants["MAX_STAGES"]) == wgmma_plan._MAX_STAGES
    assert "consumer_groups(int rows, bool fused) { return rows == 2 || !fused ? 2 : 1; }" in source
    assert "return fused ? 4 - consumer_groups(rows, fused) : cols == 128 ? 2 : 3;" in source
    for shape, groups in (
        (Shape(64, 64), 2 + 3 + 1),
        (Shape(128, 64), 2 + 3 + 1),
        (Shape(64, 128), 2 + 2 + 1),
        (Shape(128, 128), 2 + 2 + 1),
        (Shape(64, 64, prepass=0), 1 + 3),
        (Shape(128, 64, prepass=0), 2 + 2),
    ):
        assert block_threads(shape) == 128 * groups
    assert f"0x1p-{wgmma_plan._SPAN - wgmma_plan._TOP}f" in source
