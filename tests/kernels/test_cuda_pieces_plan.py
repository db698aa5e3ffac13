"""The arrays of csb_rows_pieces, by doing on the CPU what the kernel does."""

from __future__ import annotations

import numpy as np
import pytest

from csbviz.errors import OptionError
from csbviz.formats import CSBMatrix
from csbviz.ops.cuda.module import DeviceLimits, read_source
from csbviz.ops.cuda.panel_costs import choose_launch
from csbviz.ops.cuda.panel_launch import Launch, refusal, structure_of
from csbviz.ops.cuda.pieces_plan import (
    COUNT_BITS,
    MOST_GROUPS,
    PIECES_BITS,
    build_pieces_plan,
    count_pieces,
    cut_rows,
)
from tests.kernels.cuda_cases import CASES, NAMES, product

H100 = DeviceLimits(0, 132, 232448, (9, 0), 50 << 20, 233472, 2048)


def bits_of(number: int, width: int) -> int:
    return number & ((1 << width) - 1)


def run_pieces(A, transpose, length, slots, plan, B):
    """What csb_rows_pieces does, piece by piece; how often each entry was multiplied."""
    view = A.T if transpose else A
    (out_block, in_block), (units, blocks) = view.block_shape, view.grid
    out_bits = out_block.bit_length() - 1
    unit_stride, block_stride = (1, units) if view.transposed else (blocks, 1)
    codes = plan.codes.reshape(plan.groups, slots, length).tolist()
    words = plan.pieces.reshape(plan.groups, slots).tolist()
    C, visited = np.full((view.shape[0], B.shape[1]), np.nan), np.zeros(A.nnz, int)
    for group in range(plan.groups):
        unit, sums = int(plan.units[group]), np.zeros((slots, B.shape[1]))
        for slot, word in enumerate(words[group]):
            in_row = word >> (COUNT_BITS + PIECES_BITS) >> out_bits
            for i, code in enumerate(codes[group][slot]):
                in_row += code >> plan.place_bits
                count = bits_of(word, COUNT_BITS)
                if count == 0:  # the lanes read entry 0 and row 0
                    assert in_row == 0
                    continue
                number = unit * unit_stride + in_row // in_block * block_stride
                e = int(A.blk_ptr[number]) + bits_of(code, plan.place_bits)
                assert e < A.blk_ptr[number + 1]  # past the end of a piece too
                if i < count:
                    visited[e] += 1
                    sums[slot] += A.values[e] * B[in_row]
        for slot, word in enumerate(words[group]):
            of_row = bits_of(word >> COUNT_BITS, PIECES_BITS)
            if of_row:
                row = unit * out_block + bits_of(word >> (COUNT_BITS + PIECES_BITS), out_bits)
                assert np.isnan(C[row]).all()
                C[row] = sums[slot : slot + of_row].sum(axis=0)
    return C, visited


@pytest.mark.parametrize("op", ["A@B", "A.T@B"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_a_plan_describes_the_product(case, op):
    A, transpose = case.matrix("float64"), op == "A.T@B"
    view = A.T if transpose else A
    B = np.random.default_rng(7).standard_normal((view.shape[1], 2))
    for length, slots in ((4, 64), (8, 32), (16, 16)):
        reason = count_pieces(A, transpose, length).refusal(slots)
        if reason:
            with pytest.raises(OptionError) as caught:
                build_pieces_plan(A, transpose, length, slots)
            assert str(caught.value) == reason
            continue
        plan = build_pieces_plan(A, transpose, length, slots)
        C, visited = run_pieces(A, transpose, length, slots, plan, B)
        assert (visited == 1).all()
        np.testing.assert_allclose(C, product(A, op, B), rtol=1e-12, atol=1e-12)


def test_what_is_refused():
    def reason(name, length, slots):
        return count_pieces(CASES[NAMES.index(name)].matrix(), False, length).refusal(slots)

    assert reason("usual", 8, 32) is None
    assert reason("no entry", 8, 32) == "A matrix without entries has no pieces."
    assert "too full for the 16-bit codes" in reason("dense: several batches a window", 8, 32)
    assert reason("heavy row and column", 8, 32) == (
        "The longest row has 33 pieces; a CTA of this launch sums up at most 32."
    )
    assert reason("heavy row and column", 8, 64) is None
    many = CSBMatrix.from_dense(np.ones((4096, 16), np.float32), block_shape=(8, 16))
    assert str(MOST_GROUPS) in count_pieces(many, False, 8).refusal(8)
    assert count_pieces(many, False, 16).refusal(32) is None


def test_a_piece_ends_with_its_row_after_its_length_and_before_a_wide_gap():
    row = np.array([0, 0, 0, 0, 0, 1, 1, 3])
    inner = np.array([2, 3, 5, 7, 90, 91, 92, 93])
    assert cut_rows(row, inner, 3, 40).tolist() == [0, 0, 0, 1, 2, 3, 3, 4]


def test_the_source_has_the_same_numbers():
    text = read_source("csb_spmm_pieces.cu")
    assert f"COUNT_BITS = {COUNT_BITS}, PIECES_BITS = {PIECES_BITS}, MOST_GROUPS = {MOST_GROUPS}" in text


def test_groups_are_well_filled():
    rng = np.random.default_rng(5)
    share = rng.gamma(4.0, 0.0125, (512, 1))
    A = CSBMatrix.from_dense((rng.random((512, 512)) < share).astype(np.float32), block_shape=64)
    plan = build_pieces_plan(A, False, 8, 32)
    assert (plan.pieces != 0).mean() > 0.85
    assert plan.nbytes < 6 * A.nnz


@pytest.mark.parametrize("op", ["A@B", "A.T@B"])
def test_a_launch_with_pieces_is_refused_or_fits(op):
    for case in CASES:
        for dtype in ("float32", "float64"):
            structure = structure_of(case.matrix(dtype), op == "A.T@B")
            launch = Launch("pieces", 128 // structure.item, 8, length=8)
            if refusal(structure, launch, H100) is None:
                wanted = {"form": "pieces", "tile_n": launch.tile_n, "warps": 8, "length": 8}
                assert choose_launch(structure, 128, H100, **wanted) == launch
            else:
                with pytest.raises(OptionError, match=r"[^.]\.$"):
                    choose_launch(
                        structure, 128, H100, form="pieces", tile_n=launch.tile_n, warps=8, length=8
                    )
