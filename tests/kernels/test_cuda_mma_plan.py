"""What the tensor-core kernels rest on, checked without a GPU: plan arrays, fragments, range and rounding."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.errors import OptionError
from csbviz.formats import CSBMatrix
from csbviz.ops.cuda.mma import accepts
from csbviz.ops.cuda.mma_launch import (
    TILES,
    TUNABLES,
    Launch,
    choose_launch,
    instantiations,
    shared_bytes,
    worth_trying,
)
from csbviz.ops.cuda.mma_plan import LEAST_A, build_steps, entry_places, list_tiny, value_range
from csbviz.ops.cuda.module import DeviceLimits, read_source

OPS = ("A@B", "A.T@B")
SOURCE = read_source("csb_spmm_mma.cu")
H100 = DeviceLimits(0, 132, 232448, (9, 0), 50 << 20, 233472, 2048)
TURING = DeviceLimits(0, 46, 65536, (7, 5), 4 << 20, 65536, 1024)


def matrix(shape, density=0.2, block_shape=(64, 64), seed=0, values=None) -> CSBMatrix:
    rng = np.random.default_rng(seed)
    D = np.where(rng.random(shape) < density, rng.standard_normal(shape), 0).astype(np.float32)
    D[shape[0] // 3 : shape[0] // 2] = 0  # blocks without entries
    if values is not None:
        places = np.argwhere(D)[rng.permutation(np.count_nonzero(D))[: len(values)]]
        D[tuple(places.T)] = values
    return CSBMatrix.from_dense(D, block_shape=block_shape)


# ---- the plan ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tile_m", "warps"), [(64, 4), (64, 8), (128, 8), (128, 16)])
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("block_shape", [(64, 64), (16, 32), (64, 16), (32, 32)])
@pytest.mark.parametrize("shape", [(400, 130), (70, 333), (1, 1), (64, 128)])
def test_the_steps_hold_every_entry_once_where_it_belongs(shape, block_shape, transpose, tile_m, warps):
    """Rebuild the matrix as the kernel does: from each piece's entries and its block's corner in the tile."""
    A = matrix(shape, block_shape=block_shape)
    lists = build_steps(A, transpose, tile_m, warps)
    assert lists.by_rows == (block_shape == (64, 64))
    out_rows, inner = shape[::-1] if transpose else shape
    rebuilt = np.zeros((-(-out_rows // tile_m) * tile_m, -(-inner // 64) * 64), np.float32)
    for m_tile, (begin, end) in enumerate(zip(lists.step_ptr[:-1], lists.step_ptr[1:], strict=True)):
        assert np.all(np.diff(lists.steps[begin:end]) > 0)
        for step in range(begin, end):
            for warp in range(warps):
                first, last = lists.pieces[step, warp]
                unit, part = divmod(warp, warps // (tile_m // 64))
                place = entry_places(A)[first:last].astype(int)
                row, column = place // 128, (place // 16 % 8 ^ place // 128 % 8) * 8 + place // 2 % 8
                if lists.by_rows:  # in an image, the rows that this warp zeroes
                    assert np.all(row // (64 * (tile_m // 64) // warps) == part)
                if transpose:
                    row, column = column, row
                places = m_tile * tile_m + unit * 64 + row, lists.steps[step] * 64 + column
                assert not rebuilt[places].any()
                rebuilt[places] = A.values[first:last]
    D = A.to_dense().T if transpose else A.to_dense()
    assert np.array_equal(rebuilt[:out_rows, :inner], D)
    assert len(lists.steps) == sum(
        D[i : i + tile_m, k : k + 64].any() for i in range(0, out_rows, tile_m) for k in range(0, inner, 64)
    )


def test_blocks_in_another_order_are_cut_evenly():
    D = matrix((150, 100)).to_dense()
    for order in ("col", "morton"):
        A = CSBMatrix.from_dense(D, block_shape=64, order=order)
        lists = build_steps(A, False, 64, 8)
        assert not lists.by_rows
        sizes = np.diff(lists.pieces, axis=2)
        assert np.ptp(sizes, axis=1).max() <= 1


def test_a_matrix_without_entries_has_no_steps():
    lists = build_steps(CSBMatrix.from_dense(np.zeros((100, 70), np.float32), block_shape=64), False, 64, 4)
    assert lists.step_ptr.tolist() == [0, 0, 0]
    assert lists.steps.size == lists.pieces.size == 0


@pytest.mark.parametrize("block_shape", [(64, 64), (16, 32), (64, 16)])
def test_each_entry_has_a_place_of_its_own_in_its_tile(block_shape):
    A = matrix((150, 100), density=1.0, block_shape=block_shape)
    tiles = np.zeros((3, 2, 4096), int)
    row, column = A.coordinates()
    np.add.at(tiles, (row // 64, column // 64, entry_places(A) // 2), 1)
    assert tiles.max() == 1
    # As the source finds its way back.
    place = entry_places(A).astype(int)
    assert "row = place / 128" in SOURCE
    assert "col = (place / 16 % 8 ^ row % 8) * 8 + place / 2 % 8" in SOURCE
    assert np.array_equal(place // 128, row % 64)
    assert np.array_equal((place // 16 % 8 ^ place // 128 % 8) * 8 + place // 2 % 8, column % 64)


# ---- the lanes ---------------------------------------------------------------------------------------------
# The expressions are taken from the source, so that a change there is a change here.


def expression(pattern: str) -> str:
    """The right side of the only assignment that begins with the pattern, as Python."""
    found = re.findall(pattern + r"\s*([^;]+);", SOURCE)
    assert len(found) == 1, (pattern, found)
    return found[0].replace("/", "//").replace("u32(", "(").replace("S::", "")


def image_of(tile: np.ndarray) -> np.ndarray:
    """A 64 x 64 tile of numbers above 0 as the image in shared memory: int64[4096]."""
    A = CSBMatrix.from_dense(tile.astype(np.float32), block_shape=64)
    image = np.zeros(4096, np.int64)
    image[entry_places(A) // 2] = A.values
    return image


def ldmatrix(image: np.ndarray, at: np.ndarray, trans: bool) -> np.ndarray:
    """What each lane gets of four 8 x 8 matrices: [matrix, lane, 2], from 32 row addresses in bytes."""
    assert np.all(at % 16 == 0)
    rows = image[(at // 2)[:, None] + np.arange(8)].reshape(4, 8, 8)
    banks = (at // 4 % 32).reshape(4, 8)
    assert all(len(set(b)) == 8 for b in banks.tolist()), "bank conflict"
    if trans:
        rows = rows.transpose(0, 2, 1)
    return rows.reshape(4, 32, 2)


def lanes_of(trans: bool, warp_m: int, warp_n: int, parts: int, a_bytes: int) -> dict:
    """The values of a_lane, a_turn, b_lane, b_turn in each lane of a warp."""
    lane = np.arange(32)
    names = {"q": lane // 8, "r": lane % 8, "m": warp_m % 64, "column": warp_n}
    names |= {"PARTS": parts, "IMAGE_BYTES": 8192, "A_BYTES": a_bytes}
    branch = r"if constexpr \(TRANSPOSED\) {[^}]*?" if trans else r"} else {[^}]*?"
    names["a_lane"] = warp_m // 64 * parts * 8192 + eval(
        expression(branch + r"inner (?:rows|columns)[^;]*?a_lane \+="), {}, names
    )
    names["a_turn"] = eval(expression(branch + r"inner (?:rows|columns)[^}]*?a_turn ="), {}, names)
    for name in ("b_lane", "b_turn"):
        names[name] = eval(expression(rf"\b{name} ="), {}, names)
    return names


def fragment_addresses(trans: bool):
    """Functions (lanes, k, mi) and (lanes, k, pair) that give the addresses of ldmatrix for A and for B."""
    a = expression(r"const u32 at = stage \+ a_lane\s*\+")
    yes, no = re.fullmatch(r"\(TRANSPOSED \? (.*) : (.*)\)", a, re.S).groups()
    b = expression(r"const u32 at = stage \+ b_lane \+")
    return (
        lambda lanes, k, mi: lanes["a_lane"] + eval(yes if trans else no, {}, {**lanes, "k": k, "mi": mi}),
        lambda lanes, k, pair: lanes["b_lane"] + eval(b, {}, {**lanes, "k": k, "pair": pair}),
    )


@pytest.mark.parametrize("trans", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("tile", TILES)
def test_every_lane_multiplies_what_it_should(tile, parts, trans):
    """Play each warp's ldmatrix and mma on integers; the sum over all of them is the product of the tiles."""
    tile_m, tile_n, warp_n = TILES[tile]
    rng = np.random.default_rng(0)
    A, B = rng.integers(1, 9, (tile_m, 64)), rng.integers(1, 9, (64, tile_n))
    stored = [A[u : u + 64].T if trans else A[u : u + 64] for u in range(0, tile_m, 64)]
    pieces = []
    for image in (*map(image_of, stored), *(image_of(B[:, c : c + 64]) for c in range(0, tile_n, 64))):
        pieces += [image, np.full(4096, 10**6)][:parts]  # what lies behind, the low half, must not be read
    memory = np.concatenate(pieces)
    a_bytes = tile_m // 64 * parts * 8192
    address_a, address_b = fragment_addresses(trans)
    lane = np.arange(32)
    C = np.zeros((tile_m, tile_n), np.int64)
    for warp_row in range(0, tile_m, 32):
        for warp_column in range(0, tile_n, warp_n):
            lanes = lanes_of(trans, warp_row, warp_column, parts, a_bytes)
            for k in range(4):
                for mi in range(2):
                    a = ldmatrix(memory, address_a(lanes, k, mi), trans)
                    for pair in range(warp_n // 16):
                        b = ldmatrix(memory, address_b(lanes, k, pair), True)
                        for h in range(2):
                            d = mma_16816(a, b[2 * h : 2 * h + 2])
                            for i in range(4):  # the places that `sums` is said to have
                                row = warp_row + 16 * mi + 8 * (i // 2) + lane // 4
                                column = warp_column + 8 * (2 * pair + h) + 2 * (lane % 4) + i % 2
                                C[row, column] += d[:, i]
    assert np.array_equal(C, A @ B)


def mma_16816(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """mma.m16n8k16 by PTX's tables: fragments [register, lane, 2] to [lane, 4]."""
    group, member = np.arange(32) // 4, np.arange(32) % 4
    left, right = np.zeros((16, 16), np.int64), np.zeros((16, 8), np.int64)
    for j in range(2):
        for i in range(4):
            left[group + 8 * (i % 2), 2 * member + j + 8 * (i // 2)] = a[i, :, j]
        for i in range(2):
            right[2 * member + j + 8 * i, group] = b[i, :, j]
    d = left @ right
    return np.stack([d[group + 8 * (i // 2), 2 * member + i % 2] for i in range(4)], axis=1)


def test_the_factors_and_results_lie_where_the_sums_do():
    """`promote` and `each_pair` use the places that the test above proved."""
    assert "factors + warp_column() + threadIdx.x % 4 * 2" in SOURCE
    assert "own + 8 * ni" in SOURCE
    assert "f(warp_row() + 16 * mi + 8 * h + lane / 4, warp_column() + 8 * ni + lane % 4 * 2," in SOURCE


# ---- range and rounding ------------------------------------------------------------------------------------


def split_a(x, exponent, least):
    x = (x * np.float32(2.0**exponent)).astype(np.float32)
    x[np.abs(x) < least] = 0
    high = x.astype(np.float16)
    return high, (x - high.astype(np.float32)).astype(np.float16)


def split_b(x, up):
    x = (x * np.float32(2.0**up)).astype(np.float32)
    high = x.astype(np.float16)
    return high, ((x - high.astype(np.float32)) * np.float32(4096)).astype(np.float16)


@pytest.mark.parametrize("binades", [0, 10, 18])
@pytest.mark.parametrize("binades_b", [0, 14, 29])
def test_three_products_of_halves_are_as_accurate_as_float32(binades, binades_b):
    """Each single product in range has a relative error below 2e-6, whatever else is in its image."""
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(1, 1.999, 20000).astype(np.float32) for _ in range(2))
    a *= np.exp2(-rng.integers(0, binades + 1, a.size)).astype(np.float32)
    b *= np.exp2(-rng.integers(0, binades_b + 1, b.size)).astype(np.float32)
    a[0], b[0] = 1.9, 1.9
    high, low = split_a(a, 15, LEAST_A["fp32"])
    assert np.count_nonzero(high) == a.size
    b_high, b_low = split_b(b, 14)
    less = high * np.float16(2.0**-12)
    terms = ((low, b_high), (less, b_low), (high, b_high))
    found = sum(x.astype(np.float64) * y.astype(np.float64) for x, y in terms) * 2.0**-29
    exact = a.astype(np.float64) * b.astype(np.float64)
    assert np.max(np.abs(found - exact) / exact) < 2e-6


def test_the_source_and_the_plan_agree_on_what_is_tiny():
    found = re.search(r"least_a = CLASS == 0 \? 0x1p(-\d+)f : 0x1p(-\d+)f;", SOURCE).groups()
    assert [2.0 ** int(power) for power in found] == [LEAST_A["fp32"], LEAST_A["tf32"]]


@pytest.mark.parametrize("largest", [3.0, 1.0, 1.9999999, 65504.0, 3.4e38, 1e-29, 2.0**-100])
def test_the_largest_value_is_scaled_close_to_fp16s_largest(largest):
    A = CSBMatrix.from_dense(np.array([[largest, -largest / 3]], np.float32), block_shape=16)
    found = value_range(A)
    scaled = np.float32(found.largest) * np.float64(2.0**found.exponent)
    assert 2.0**15 * 0.999 < scaled <= 65504
    assert np.isfinite(np.float32(2.0**found.exponent))


@pytest.mark.parametrize("transpose", [False, True])
def test_tiny_entries_are_listed_by_unit(transpose):
    tiny = np.float32([1e-9, 2e-9, -3e-30, 1e-42, 5e-8])
    A = matrix((300, 200), values=tiny)
    pointers, entries = list_tiny(A, transpose, "fp32")
    D = A.to_dense().T if transpose else A.to_dense()
    row = np.repeat(np.arange(len(pointers) - 1), np.diff(pointers)) * 64 + entries[:, 0]
    values = entries[:, 2].copy().view(np.float32)
    assert np.array_equal(D[row, entries[:, 1]], values)
    assert set(tiny.tolist()) <= set(values.tolist())
    assert len(values) == value_range(A).tiny["fp32"]
    limit = LEAST_A["fp32"] * 2.0 ** -value_range(A).exponent
    assert np.count_nonzero((D != 0) & (np.abs(D.astype(np.float64)) < limit)) == len(values)


def test_zeros_that_are_stored_are_not_tiny():
    S = sp.csr_array((np.float32([0.0, 1.0]), ([0, 0], [0, 1])), shape=(1, 2))
    A = CSBMatrix.from_scipy(S, block_shape=16)
    assert A.nnz == 2
    assert value_range(A).tiny == {"fp32": 0, "tf32": 0}


# ---- what is taken and what is not -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("A", "words"),
    [
        (matrix((100, 100)), None),
        (matrix((100, 100), block_shape=(16, 64)), None),
        (matrix((100, 100), block_shape=(8, 64)), "blocks are 8 x 64"),
        (matrix((100, 100), block_shape=128), "blocks are 128 x 128"),
        (matrix((100, 100), values=np.float32([np.inf])), "not all finite"),
        (matrix((100, 100), values=np.float32([np.nan])), "not all finite"),
        (matrix((100, 100), values=np.float32([1e-44, 1e-3])), None),
        (matrix((100, 100), values=np.full(100, 1e-9, np.float32)), "too small beside the largest"),
        (CSBMatrix.from_dense(np.full((4, 4), 1e-40, np.float32), block_shape=16), "largest magnitude"),
    ],
)
def test_what_the_kernels_take(A, words):
    for op in OPS:
        reason = accepts(A, op, 64)
        assert (reason is None) == (words is None), reason
        if words:
            assert words in reason
            assert reason.endswith(".")


def test_16_bit_values_may_be_anything():
    A = matrix((100, 100), values=np.float32([np.inf, 1e-7])).astype("float16")
    assert accepts(A, "A@B", 8) is None


# ---- the launch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", [H100, TURING])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize("n", [1, 64, 100, 2048])
@pytest.mark.parametrize("rows", [1, 64, 512, 4096])
def test_the_chosen_launch_fits_the_device(rows, n, precision, device):
    launch = choose_launch(rows, 16.0, n, precision, device)
    assert shared_bytes(precision, launch, device.capability) <= device.shared_bytes
    assert launch.tile in TILES
    assert launch.splits <= 16


def test_a_small_grid_is_split():
    assert choose_launch(64, 64.0, 64, "fp32", H100).splits > 1
    assert choose_launch(8192, 64.0, 8192, "fp32", H100).splits == 1


def test_the_shared_memory_is_that_of_the_source():
    """64 x 128 in fp32: two images for each 64 rows or columns, 8 KiB each, and 128 factors."""
    assert shared_bytes("fp32", Launch("64x128", 2, 1), (8, 0)) == 2 * ((2 + 4) * 8192 + 512)
    assert "FACTOR_BYTES = Numbers<CLASS>::scaled && FACTORS_IN_SHARED ? 4 * TILE_N : 0;" in SOURCE
    assert "STAGE_BYTES = A_BYTES + B_BYTES + FACTOR_BYTES;" in SOURCE
    assert "PITCH = TILE_N + 8" in SOURCE


def test_turing_holds_two_ctas():
    """It has 64 KiB, and CTAs of one stage wait for each other's memory."""
    shape = Launch("64x64", 1, 1)
    assert 2 * shared_bytes("fp32", shape, TURING.capability) <= TURING.shared_per_multiprocessor


@pytest.mark.parametrize("wanted", [{"tile": "32x32"}, {"stages": 3}, {"splits": 5}])
def test_values_that_are_not_offered(wanted):
    with pytest.raises(OptionError, match="must be one of"):
        choose_launch(64, 1.0, 64, "fp32", H100, **wanted)


def test_a_launch_that_does_not_fit_is_one_sentence():
    with pytest.raises(OptionError, match="128x128 with 2 stages fits"):
        choose_launch(64, 1.0, 64, "fp32", TURING, tile="128x128", stages=2)


def test_instantiations_cover_every_choice():
    names = {function.expression for function in instantiations()}
    assert len(names) == 4 + 4 * 2 * len(TILES) * len(TUNABLES["stages"])


@pytest.mark.parametrize(
    ("architecture", "has", "lacks"),
    [
        ("compute_75", "m16n8k8.row", "m16n8k16"),
        ("compute_80", "m16n8k16.row", "m16n8k8."),
        ("compute_80", "cp.async", "griddepcontrol"),
        ("compute_90", "griddepcontrol.wait", "m16n8k8."),
    ],
)
def test_each_architecture_gets_its_instructions(architecture, has, lacks):
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    _, program = nvrtc.nvrtcCreateProgram(SOURCE.encode(), b"mma.cu", 0, [], [])
    nvrtc.nvrtcAddNameExpression(program, b"csb_mma<0, false, 64, 64, 32, 1>")
    options = [b"-std=c++17", f"-arch={architecture}".encode()]
    (result,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    assert result == nvrtc.nvrtcResult.NVRTC_SUCCESS
    _, size = nvrtc.nvrtcGetPTXSize(program)
    ptx = bytes(size + 1)
    nvrtc.nvrtcGetPTX(program, ptx)
    nvrtc.nvrtcDestroyProgram(program)
    assert has in ptx.decode()
    assert lacks not in ptx.decode()
    assert "ldmatrix" in ptx.decode()


@pytest.mark.parametrize("device", [H100, TURING])
@pytest.mark.parametrize("n", [8, 128, 2048])
@pytest.mark.parametrize("rows", [64, 512, 4096])
def test_what_is_worth_trying_includes_what_is_chosen(rows, n, device):
    settings = worth_trying(rows, 16.0, n, "fp32", device)
    chosen = choose_launch(rows, 16.0, n, "fp32", device)
    assert chosen._asdict() in settings
    assert len(settings) <= 100
    for setting in settings:
        choose_launch(rows, 16.0, n, "fp32", device, **setting)
