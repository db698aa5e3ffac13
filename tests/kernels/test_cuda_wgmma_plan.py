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


def row_of(thread: np.ndarray) -> np.ndarray:
    """Row of the tile that a thread of a warpgroup reads first, as in the source."""
    lane_row, warp = thread % 32 // 4, thread // 32
    return (lane_row & 1) << 4 | (lane_row & 2) << 2 | (lane_row & 4) | (warp & 1) | (warp & 2) << 4


def test_the_threads_of_a_warpgroup_have_every_row_once():
    rows = row_of(np.arange(0, 128, 4))
    assert np.array_equal(np.sort(np.concatenate((rows, rows + 2))), np.arange(64))


def place(out, inner, halves):
    """Byte of a cell in its tile, as in the source."""
    if halves == 2:
        return out * 256 + ((inner ^ (out & 31)) << 2)
    return out * 128 + ((2 * inner) ^ (4 * (out & 31)))


@pytest.mark.parametrize("halves", [1, 2])
def test_what_producers_scatter_is_what_consumers_read(halves):
    out, inner = np.divmod(np.arange(64 * 64), 64)
    offsets = place(out, inner, halves)
    size = 2 * halves
    assert np.array_equal(np.sort(offsets), size * np.arange(64 * 64))
    cell_at = dict(zip(offsets.tolist(), zip(out.tolist(), inner.tolist(), strict=True), strict=True))
    for thread in range(128):
        row, q = int(row_of(np.array(thread))), thread % 4
        odd = row & 1
        for step in range(4):
            for h in range(2):
                if halves == 2:
                    base = row * 256 + h * 512 + ((q * 16 ^ (row & 28) << 2) ^ step * 64)
                    words = [base + 4 * w for w in ((2, 3, 0, 1) if h else (0, 1, 2, 3))]
                    cells = [words[1], words[0], words[3], words[2]] if odd else words
                else:
                    base = row * 128 + h * 256 + ((step * 32 + q * 8) ^ ((row & 28) << 2 | h << 3))
                    pairs = [base + 4, base] if odd else [base, base + 4]
                    cells = [byte for pair in pairs for byte in (pair, pair + 2)]
                wanted = [(row + 2 * h, 16 * step + 4 * q + i) for i in range(4)]
                assert [cell_at[byte] for byte in cells] == wanted


def test_a_warp_reads_a_tile_without_bank_conflicts():
    for warp in range(4):
        thread = 32 * warp + np.arange(32)
        row, q = row_of(thread), thread % 4
        for step in range(4):
            wide = row * 256 + ((q * 16 ^ (row & 28) << 2) ^ step * 64)
            for eight in wide.reshape(4, 8):  # 16-byte reads go eight lanes at a time
                assert len(set(eight // 16 % 8)) == 8
            narrow = row * 128 + ((step * 32 + q * 8) ^ (row & 28) << 2)
            for sixteen in narrow.reshape(2, 16):
                assert len(set(sixteen // 8 % 16)) == 16


def test_entries_in_a_row_and_in_a_column_fall_into_different_banks():
    line = np.arange(32)
    for fixed in (0, 5, 63):
        assert len(set(place(fixed, line, 2) // 4 % 32)) == 32
        assert len(set(place(line, fixed, 2) // 4 % 32)) == 32
        assert len(set(place(line, fixed, 1) // 4 % 32)) == 32


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
            assert shape.function(kind) in functions


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
        ({"split": 2, "cluster": 2}, "split and cluster are both above 1"),
        ({"prepass": 0, "tile_n": 128}, "prepass is 0"),
        ({"prepass": 0, "cluster": 2}, "prepass is 0"),
        ({"split": 8}, "split is 8 but the sum has 2 blocks"),
    ],
)
def test_a_wrong_wish_is_one_sentence(wanted, complaint):
    with pytest.raises(OptionError, match=complaint):
        choose_shape(256, 128, 256, 132, **wanted)


@pytest.mark.parametrize("tiles", [1, 63, 132, 133, 256, 1000, 4096])
@pytest.mark.parametrize("cluster", [1, 2, 4])
def test_a_grid_fills_the_device_evenly(tiles, cluster):
    tiles = -(-tiles // cluster) * cluster
    ctas = wgmma._ctas(Shape(64, 64, cluster=cluster), tiles, 132)
    assert ctas % cluster == 0
    assert ctas <= min(132, tiles)
    rounds = -(-tiles // ctas)
    assert rounds == -(-tiles // (132 // cluster * cluster))


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
    assert "return rows == 2 ? 2 : fused ? 3 : 4;" in source
    for shape in (Shape(64, 64), Shape(64, 64, prepass=0), Shape(128, 64)):
        groups = 2 if shape.tile_m == 128 else 4 if shape.prepass else 3
        assert block_threads(shape) == shape.tile_m * 2 + 128 * groups
    assert f"0x1p-{wgmma_plan._SPAN - wgmma_plan._TOP}f" in source
