"""The arrays of the CUDA-core family, by doing on the CPU what its kernels do; its choice of a launch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from csbviz.errors import OptionError
from csbviz.formats import CSBMatrix
from csbviz.ops.cuda.direct_plan import build_direct_plan
from csbviz.ops.cuda.module import DeviceLimits
from csbviz.ops.cuda.panel_costs import choose_launch, predict_us
from csbviz.ops.cuda.panel_launch import (
    TUNABLES,
    Launch,
    function_of,
    instantiations,
    refusal,
    shared_bytes,
    structure_of,
    worth_trying,
)
from csbviz.ops.cuda.panel_plan import MAX_PLACES, TOGETHER, build_panel_plan, slots_of_rows
from tests.kernels.cuda_cases import CASES, NAMES, product

H100 = DeviceLimits(0, 132, 232448, (9, 0), 50 << 20, 233472, 2048)
TURING = DeviceLimits(0, 68, 65536, (7, 5), 5 << 20, 65536, 1024)
SPARSE = [case for case in CASES if not case.name.startswith("dense")]


def strides(view):
    units, blocks = view.grid
    return (1, units) if view.transposed else (blocks, 1)


def run_panel(A, transpose, tile_m, chunk_k, plan, resident, B):
    """What csb_rows_panel does: stage by `place`, multiply by `spans`, write by `rows`."""
    view = A.T if transpose else A
    (out_block, in_block), (units, blocks) = view.block_shape, view.grid
    unit_stride, block_stride = strides(view)
    C = np.full((view.shape[0], B.shape[1]), np.nan)
    visited = np.zeros(A.nnz, int)
    for tile, spans in enumerate(plan.spans):
        sums, staged = np.zeros((tile_m, B.shape[1])), {}
        for chunk, chunk_spans in enumerate(spans):
            if not resident:
                staged = {}
            for unit in range(tile * tile_m // out_block, min(units, (tile + 1) * tile_m // out_block)):
                for block in range(
                    chunk * chunk_k // in_block, min(blocks, (chunk + 1) * chunk_k // in_block)
                ):
                    number = unit * unit_stride + block * block_stride
                    for e in range(A.blk_ptr[number], A.blk_ptr[number + 1]):
                        place = int(plan.place[e])
                        assert place not in staged
                        assert place < plan.capacity
                        staged[place] = A.values[e], block * in_block % chunk_k + int(view.col_ind[e])
                        visited[e] += 1
            for slot, span in enumerate(chunk_spans.tolist()):
                for s in range(span >> 16):
                    value, row = staged[(span & 0xFFFF) + TOGETHER * s]
                    sums[slot] += value * B[chunk * chunk_k + row]
        for slot, row in enumerate(plan.rows[tile].tolist()):
            if tile * tile_m + row < view.shape[0]:
                assert np.isnan(C[tile * tile_m + row]).all()
                C[tile * tile_m + row] = sums[slot]
    return C, visited


@pytest.mark.parametrize("op", ["A@B", "A.T@B"])
@pytest.mark.parametrize("case", SPARSE, ids=lambda case: case.name)
def test_a_panel_plan_describes_the_product(case, op):
    A, transpose = case.matrix("float64"), op == "A.T@B"
    view = A.T if transpose else A
    B = np.random.default_rng(7).standard_normal((view.shape[1], 2))
    for warps, resident in ((4, True), (8, False)):
        tile_m, chunk_k = max(64, view.block_shape[0]), max(64, view.block_shape[1])
        plan = build_panel_plan(A, transpose, warps, tile_m, chunk_k, resident)
        C, visited = run_panel(A, transpose, tile_m, chunk_k, plan, resident, B)
        assert (visited == 1).all()
        np.testing.assert_allclose(C, product(A, op, B), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("op", ["A@B", "A.T@B"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_a_direct_plan_describes_the_product(case, op):
    A, transpose = case.matrix("float64"), op == "A.T@B"
    view = A.T if transpose else A
    B = np.random.default_rng(7).standard_normal((view.shape[1], 2))
    plan = build_direct_plan(A, transpose)
    unit_stride, block_stride = strides(view)
    job = np.searchsorted(plan.jobs[1:, 0], np.arange(A.nnz), side="right")
    row, code = plan.jobs[job, 1].astype(int), plan.codes.astype(int)
    block, place = code >> plan.offset_bits, code & ((1 << plan.offset_bits) - 1)
    entry = A.blk_ptr[row // view.block_shape[0] * unit_stride + block * block_stride] + place
    assert np.array_equal(np.sort(entry), np.arange(A.nnz))
    C = np.zeros((view.shape[0], 2))
    np.add.at(
        C, row, A.values[entry][:, None] * B[block * view.block_shape[1] + view.col_ind[entry].astype(int)]
    )
    np.testing.assert_allclose(C, product(A, op, B), rtol=1e-12, atol=1e-12)
    assert np.array_equal(np.sort(plan.jobs[:-1, 1]), np.arange(view.shape[0]))
    assert (np.diff(np.diff(plan.jobs[:, 0].astype(int))) <= 0).all()  # long rows first


def test_codes_are_wide_only_where_they_must_be():
    assert build_direct_plan(CASES[0].matrix(), False).codes.dtype == np.uint16
    dense = CASES[NAMES.index("dense: several batches a window")].matrix()
    assert build_direct_plan(dense, False).codes.dtype == np.uint32


def test_the_rows_of_a_warp_are_of_like_length():
    """And the warps get like shares of the tile."""
    lengths = np.random.default_rng(0).negative_binomial(6, 0.2, (3, 256))
    slot_of_row, row_of_slot = slots_of_rows(lengths, 16)
    for tile in range(3):
        assert np.array_equal(slot_of_row[tile][row_of_slot[tile]], np.arange(256))
    dealt = np.take_along_axis(lengths, row_of_slot, axis=1).reshape(3, 4, 16, TOGETHER)
    in_order = lengths.reshape(dealt.shape)

    def lost(rows):
        return (rows.max(axis=3) * TOGETHER - rows.sum(axis=3)).sum()

    def heaviest(rows):
        return rows.sum(axis=(1, 3)).max(axis=1) / rows.sum(axis=(1, 3)).mean(axis=1)

    assert lost(dealt) < 0.1 * lost(in_order)
    assert (heaviest(dealt) < heaviest(in_order)).all()


def test_a_plan_takes_two_bytes_an_entry_and_a_word_a_row():
    A = CASES[0].matrix()
    plan = build_panel_plan(A, False, 8, 64, 256, True)
    assert plan.place.nbytes == 2 * A.nnz
    assert plan.nbytes - plan.place.nbytes == (4 + 2) * 256
    direct = build_direct_plan(A, False)
    assert direct.nbytes == 2 * A.nnz + 8 * 257


def test_too_many_places_are_refused():
    A = CASES[NAMES.index("dense: several batches a window")].matrix()
    with pytest.raises(OptionError, match=rf"numbered by 16 bits, so {MAX_PLACES} is the most\."):
        build_panel_plan(A, False, 16, 256, 1024, True)


# ---- the choice of a launch --------------------------------------------------------------------------------


@pytest.mark.parametrize("device", [H100, TURING], ids=["H100", "Turing"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
@pytest.mark.parametrize("n", [1, 3, 32, 196, 4096])
def test_a_launch_is_one_that_exists_and_fits(case, n, device):
    known = set(instantiations())
    for dtype in ("float32", "float64"):
        A = case.matrix(dtype)
        for transpose in (False, True):
            structure = structure_of(A, transpose)
            launch = choose_launch(structure, n, device)
            assert refusal(structure, launch, device) is None
            assert shared_bytes(structure, launch) <= device.shared_bytes
            assert function_of(launch, dtype, "uint8", "int32", True) in known
            assert predict_us(structure, launch, n, device) > 0


@pytest.mark.parametrize("skewed", [False, True], ids=["even rows", "a few long rows"])
@pytest.mark.parametrize("transpose", [False, True])
def test_what_is_chosen_fits_when_it_is_built(skewed, transpose):
    """The places are known before the plan is: at this density many launches are near the limit."""
    rng = np.random.default_rng(2)
    share = np.where(np.arange(512) % 32 < 3, 0.9, 0.1)[:, None] if skewed else 0.3
    A = CSBMatrix.from_dense((rng.random((512, 640)) < share).astype(np.float32), block_shape=64)
    structure, near = structure_of(A, transpose), 0
    for launch in worth_trying(structure, 2048, H100, form="panel"):
        arguments = launch.warps, launch.tile_m, launch.chunk_k, launch.resident
        plan = build_panel_plan(A, transpose, *arguments)
        assert plan.capacity == structure.count(launch.tile_m, launch.chunk_k)[not launch.resident]
        needed = shared_bytes(structure, launch, plan.capacity)
        assert needed <= H100.shared_bytes
        near += needed > 0.9 * H100.shared_bytes
    assert near


def test_the_estimate_of_shared_memory_is_close():
    A = CASES[NAMES.index("usual")].matrix()
    structure = structure_of(A, False)
    for launch in worth_trying(structure, 512, H100, form="panel"):
        arguments = launch.warps, launch.tile_m, launch.chunk_k, launch.resident
        plan = build_panel_plan(A, False, *arguments)
        needed = shared_bytes(structure, launch, plan.capacity)
        assert needed == pytest.approx(shared_bytes(structure, launch), rel=0.15)


OTHERS = {"panel": ("tile_m", "chunk_k", "buffers"), "direct": ("split",), "pieces": ("length",)}


@pytest.mark.parametrize("form", TUNABLES["form"])
def test_every_combination_runs_or_is_refused_in_one_sentence(form):
    structure, runs = structure_of(CASES[0].matrix(), False), 0
    names = ("tile_n", "warps", *OTHERS[form])
    for values in itertools.product(*(TUNABLES[name] for name in names)):
        wanted = dict(zip(names, values, strict=True))
        if worth_trying(structure, 200, H100, form=form, **wanted):
            runs += 1
            launch = choose_launch(structure, 200, H100, form=form, **wanted)
            assert {name: getattr(launch, name) for name in names} == wanted
        else:
            with pytest.raises(OptionError, match=r"[^.]\.$"):
                choose_launch(structure, 200, H100, form=form, **wanted)
    assert runs >= 10


def test_what_the_caller_sets_is_kept():
    structure = structure_of(CASES[0].matrix(), False)
    wanted = {"form": "panel", "tile_m": 128, "tile_n": 64, "warps": 16, "chunk_k": 64, "column_tiles": 2}
    launch = choose_launch(structure, 512, H100, **wanted, buffers=2, resident=True)
    assert launch == Launch("panel", 64, 16, 128, 64, 2, 2, True)
    assert launch.params == wanted | {"buffers": 2, "resident": True}
    assert choose_launch(structure, 512, H100, form="direct", split=2, tile_n=64, warps=4) == Launch(
        "direct", 64, 4, split=2
    )


def test_an_unknown_parameter_value_is_one_sentence():
    structure = structure_of(CASES[0].matrix(), False)
    with pytest.raises(OptionError, match=r"split is 3; it must be one of 1, 2, 4\."):
        choose_launch(structure, 128, H100, split=3)
    with pytest.raises(OptionError, match=r"4 warps compute tiles of \[16, 32, 64\] rows\."):
        choose_launch(structure, 128, H100, form="panel", warps=4, tile_m=512)


def test_blocks_beyond_a_panel_go_direct():
    A = CASES[NAMES.index("dense: several batches a window")].matrix()
    assert choose_launch(structure_of(A, False), 128, H100).form == "direct"
    with pytest.raises(OptionError, match="Blocks of 256 x 1024 do not fit a panel launch"):
        choose_launch(structure_of(A, False), 128, H100, form="panel")


def test_the_cost_model_knows_what_matters():
    """Small products go in pieces, large ones take panels; more work takes longer."""
    rng = np.random.default_rng(1)
    small = CSBMatrix.from_dense((rng.random((512, 512)) < 0.03).astype(np.float32), block_shape=64)
    large = CSBMatrix.from_dense((rng.random((2048, 512)) < 0.05).astype(np.float32), block_shape=64)
    assert choose_launch(structure_of(small, False), 128, H100).form == "pieces"
    launch = choose_launch(structure_of(large, False), 2048, H100)
    assert launch.form == "panel"
    times = [predict_us(structure_of(large, False), launch, n, H100) for n in (512, 2048, 8192)]
    assert times == sorted(times)
