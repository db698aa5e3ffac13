"""The choice among the CSB kernels of a GPU, without a GPU: who is asked, in which order, by what."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.errors import UnavailableError
from csbviz.formats import CSBMatrix
from csbviz.ops import choice, choice_candidates, choice_model, registry
from csbviz.ops.choice import choose
from csbviz.ops.choice_terms import (
    TERMS,
    Structure,
    Variant,
    structure_of,
    tensor_slowdown,
    terms,
    variant_of,
)
from csbviz.ops.cuda import mma
from csbviz.ops.cuda.module import DeviceLimits
from csbviz.ops.cuda.pieces_plan import count_pieces
from csbviz.ops.registry import Kernel, Prepared
from csbviz.ops.tuned import remember


def matrix(density, rows=256, columns=192, seed=5):
    csr = sp.random(rows, columns, density, "csr", dtype=np.float32, random_state=seed)
    return CSBMatrix.from_scipy(csr, block_shape=64)


@pytest.fixture
def families(monkeypatch):
    """Only these kernels exist: {name: reason to refuse, or None}; each says what it was asked for."""

    def use(reasons, **options):
        def entry(name):
            def prepare(A, op, n, *, threads=0, balance="auto", **params):
                return Prepared(lambda B, out: out, 0, params={"asked": params, "balance": balance})

            return Kernel(
                name=name,
                title=name,
                format="csb",
                device="cuda",
                ops=("A@B", "A.T@B"),
                dtypes=("float32",),
                precision={"float32": "tf32" if name.endswith("tf32") else "fp32"},
                prepare=prepare,
                summary="For a test.",
                requires=lambda: options.get("requires"),
                accepts=lambda A, op, n: reasons[name],
                tunables={"tile_m": (64,), "tile_n": (64, 128), "split": (1, 2), "cluster": (1,)},
            )

        registry.kernels()
        kept = {name: registry._KERNELS[name] for name in choice.AUTOMATIC}
        monkeypatch.setattr(registry, "_KERNELS", kept | {name: entry(name) for name in reasons})
        choice._families.cache_clear()
        offered = options.get("candidates", lambda name, A, op, n: ())
        monkeypatch.setattr(choice_model, "choice_candidates", offered)

    monkeypatch.setattr(choice_model, "COSTS", {})
    limits = DeviceLimits(0, 132, 232448, (9, 0))
    monkeypatch.setattr(choice_model, "current_device", lambda: limits)
    yield use
    choice._families.cache_clear()


def test_by_rule_tensor_cores_take_dense_matrices_and_cuda_cores_sparse_ones(families):
    families(dict.fromkeys(("csb_rows", "csb_mma", "csb_wgmma", "csb_gather")))
    assert choose(matrix(0.2), "A@B", 128)[:2] == ("csb_wgmma", {})
    assert choose(matrix(0.02), "A@B", 128)[:2] == ("csb_rows", {})


def test_a_kernel_that_refuses_is_passed_over(families):
    families({"csb_wgmma": "It takes no Inf.", "csb_mma": "It takes no Inf.", "csb_rows": None})
    assert choose(matrix(0.2), "A.T@B", 128).kernel == "csb_rows"


def test_where_nobody_takes_it_the_first_reason_is_told(families):
    families({"csb_wgmma": "It takes no Inf.", "csb_rows": "It takes no such blocks."})
    with pytest.raises(UnavailableError, match="on this GPU can compute A@B: It takes no Inf"):
        choose(matrix(0.2), "A@B", 128)
    automatic = registry.get_kernel("csb_cuda")
    assert automatic.accepts(matrix(0.2), "A@B", 128) == "It takes no Inf."


def test_float32_products_never_take_a_rougher_class_by_themselves(families):
    families(dict.fromkeys(("csb_wgmma_tf32", "csb_rows")))
    A = matrix(0.2)
    assert choose(A, "A@B", 128).kernel == "csb_rows"
    assert registry.get_kernel("csb_cuda").prepare(A, "A@B", 128).params["kernel"] == "csb_rows"
    rougher = registry.get_kernel("csb_cuda_tf32").prepare(A, "A@B", 128)
    assert rougher.params["kernel"] == "csb_wgmma_tf32"


def test_a_measured_variant_comes_first(families):
    families(dict.fromkeys(("csb_wgmma", "csb_rows")))
    A = matrix(0.2)
    remember(A, "A@B", 128, "cuda", "csb_rows", {"warps": 4})
    assert choose(A, "A@B", 128) == ("csb_rows", {"warps": 4}, None, "measured")
    assert choose(A, "A.T@B", 128).source == "rule"
    assert choose(A, "A@B", 64).source == "rule"


def test_a_measured_variant_that_cannot_run_any_more_is_passed_over(families):
    families({"csb_wgmma": None, "csb_rows": "Too large."})
    A = matrix(0.2)
    remember(A, "A@B", 128, "cuda", "csb_rows", {})
    assert choose(A, "A@B", 128).kernel == "csb_wgmma"


def test_a_named_balance_strategy_goes_to_the_kernel_that_executes_plans(families):
    families(dict.fromkeys(("csb_wgmma", "csb_gather")))
    prepared = registry.get_kernel("csb_cuda").prepare(matrix(0.2), "A@B", 128, balance="swizzle")
    assert prepared.params["kernel"] == "csb_gather"
    assert prepared.params["balance"] == "swizzle"


def costs(launch=0.0, split=0.0):
    """Costs of a group of launches on blocks: a launch, and one whose sums are split."""
    values = [0.0] * TERMS["blocks"]
    values[0], values[11] = launch, split
    return (1, *values)


def test_the_model_takes_the_least_predicted_time(families, monkeypatch):
    def candidates(name, A, op, n):
        return [
            {"tile_m": 64, "tile_n": tile, "split": split, "cluster": 1}
            for tile in (64, 128)
            for split in (1, 2)
        ]

    families(dict.fromkeys(("csb_wgmma", "csb_rows")), candidates=candidates)
    known = {
        "tile_m=64 tile_n=64 cluster=1": costs(5.0),
        "tile_m=64 tile_n=128 cluster=1": costs(4.0, split=0.5),
    }
    monkeypatch.setattr(choice_model, "COSTS", {"csb_wgmma": known})
    found = choose(matrix(0.2), "A@B", 128)
    assert found == ("csb_wgmma", {"tile_m": 64, "tile_n": 128, "split": 1, "cluster": 1}, 4.0, "model")
    prepared = registry.get_kernel("csb_cuda").prepare(matrix(0.2), "A@B", 128)
    assert prepared.params["asked"] == found.params
    assert prepared.params["choice"] == "model"


def test_a_launch_that_turns_out_too_large_gives_way_to_the_next(families, monkeypatch):
    def candidates(name, A, op, n):
        return [{"tile_m": 64, "tile_n": tile, "split": 1, "cluster": 1} for tile in (64, 128)]

    families(dict.fromkeys(("csb_wgmma", "csb_rows")), candidates=candidates)
    known = {"tile_m=64 tile_n=64 cluster=1": costs(4.0), "tile_m=64 tile_n=128 cluster=1": costs(5.0)}
    monkeypatch.setattr(choice_model, "COSTS", {"csb_wgmma": known})
    kernel = registry.get_kernel("csb_wgmma")

    def prepare(A, op, n, **params):
        if refused(params.get("tile_n")):
            raise UnavailableError("The launch needs too much shared memory.")
        return kernel.prepare(A, op, n, **params)

    monkeypatch.setitem(registry._KERNELS, "csb_wgmma", dataclasses.replace(kernel, prepare=prepare))
    automatic, A = registry.get_kernel("csb_cuda"), matrix(0.2)

    refused = {64}.__contains__
    assert automatic.prepare(A, "A@B", 128).params["asked"]["tile_n"] == 128

    refused = {64, 128}.__contains__  # the kernel's own choice is left
    assert automatic.prepare(A, "A@B", 128).params == {
        "kernel": "csb_wgmma",
        "choice": "rule",
        "asked": {},
        "balance": "auto",
    }

    refused = {64, 128, None}.__contains__
    assert automatic.prepare(A, "A@B", 128).params["kernel"] == "csb_rows"
    rows = registry.get_kernel("csb_rows")
    monkeypatch.setitem(registry._KERNELS, "csb_rows", dataclasses.replace(rows, prepare=prepare))
    with pytest.raises(UnavailableError, match="too much shared memory"):
        automatic.prepare(A, "A@B", 128)


def test_the_structure_is_counted_in_both_directions():
    A = matrix(0.1, rows=150, columns=70)
    dense = A.to_dense() != 0
    for op, cells in (("A@B", dense), ("A.T@B", dense.T)):
        found = structure_of(A, op)
        assert (found.rows, found.inner, found.nnz) == (*cells.shape, cells.sum())
        assert found.longest == cells.sum(axis=1).max()
        assert found.turned == (op == "A.T@B")
        for tile in (16, 64, 128):
            tiles = [cells[begin : begin + tile].sum() for begin in range(0, len(cells), tile)]
            assert found.heaviest(tile) == max(tiles)


def test_rows_are_cut_as_the_kernel_cuts_them():
    # A row of entries that lie far apart beside a full block: the codes have few bits for steps.
    cells = np.zeros((64, 2048), np.float32)
    cells[0, ::40] = cells[:, :64] = 1.0
    A = CSBMatrix.from_scipy(sp.csr_matrix(cells), block_shape=64)
    structure = structure_of(A, "A@B")
    found = count_pieces(A, False, 8)
    assert structure.pieces(8) == (found.most, found.total)
    assert found.total > Structure(64, 2048, (cells != 0).sum(axis=1)).pieces(8)[1]


H100 = DeviceLimits(0, 132, 232448, (9, 0), 50 << 20, 233472, 2048)
SMALL = DeviceLimits(0, 4, 232448, (9, 0), 50 << 20, 233472, 2048)


def blocks(tile_m, tile_n, split, clustered=False):
    settings = {"tile_m": tile_m, "tile_n": tile_n, "split": split, "clustered": clustered}
    return Variant("blocks", "", "", settings)


def test_terms_of_blocks_count_what_a_launch_does():
    structure = Structure(200, 130, np.full(200, 10))
    counted = terms(structure, blocks(64, 64, 2), 100, SMALL, 1)
    rounds = 4 * 2 * 2 / 4  # tiles of rows, of columns, CTAs a sum, multiprocessors
    assert counted[1] == rounds
    assert counted[2] == rounds * 2  # of 3 steps the first CTA takes 2
    assert counted[3] == pytest.approx(rounds * 640 / 2 * 1e-3)
    assert counted[4] == pytest.approx(2000 * 2 / 4 * 1e-3)
    assert counted[8] == pytest.approx(200 * 100 * 1e-6)
    assert counted[9] == pytest.approx(4 * 130 * 128 * 1e-6)


def test_clusters_do_not_fill_the_device():
    structure = Structure(1024, 512, np.full(1024, 10))
    rounds = {
        (split, clustered): terms(structure, blocks(128, 128, split, clustered), n, H100, 1)[1]
        for split, n in ((4, 512), (2, 1024))
        for clustered in (False, True)
    }  # 128 CTAs each
    assert rounds == {(4, False): 1, (4, True): 2, (2, False): 1, (2, True): 1}


PANEL = {
    "form": "panel",
    "tile_m": 64,
    "tile_n": 32,
    "warps": 16,
    "chunk_k": 256,
    "column_tiles": 1,
    "buffers": 2,
    "resident": True,
}
PIECES = {"form": "pieces", "tile_n": 64, "warps": 8, "length": 8}
DIRECT = {"form": "direct", "tile_n": 64, "warps": 8, "split": 2}


@pytest.mark.parametrize(
    ("kernel", "params", "form"),
    [
        ("csb_rows", PANEL, "panel"),
        ("csb_rows", DIRECT, "direct"),
        ("csb_rows", PIECES, "pieces"),
        ("csb_few", {"tile_m": 64, "depth": 2, "split": 4}, "blocks"),
        ("csb_wgmma", {"tile_m": 64, "tile_n": 64, "split": 1, "cluster": 1, "prepass": 1}, "blocks"),
    ],
)
def test_terms_are_as_many_as_costs_and_grow_with_the_work(kernel, params, form):
    variant = variant_of(kernel, params)
    assert variant.form == form
    small, large = (
        terms(Structure(rows, 512, np.full(rows, 40)), variant, n, H100, 1)
        for rows, n in ((256, 128), (2048, 2048))
    )
    assert len(small) == len(large) == TERMS[form]
    assert all(b >= a for a, b in zip(small, large, strict=True))
    assert sum(large) > sum(small)
    empty = terms(Structure(0, 5, np.zeros(0, np.int64)), variant, 8, H100, 1)
    assert np.isfinite(empty).all()


def test_terms_of_pieces_count_what_rows_are_cut_into():
    structure = Structure(64, 512, np.array([0, 3, 4, 9] * 16))
    assert structure.pieces(4) == (3, 16 * (1 + 1 + 1 + 3))
    assert structure.pieces(64) == (1, 64)
    variant = Variant("pieces", "", "", {"tile_n": 32, "length": 4, "warps": 8})
    small, large = (terms(structure, variant, n, SMALL, 1) for n in (32, 1024))
    assert len(small) == TERMS["pieces"]
    assert all(b >= a for a, b in zip(small, large, strict=True))
    groups = 1 + 1.1 * 96 / 32  # pieces, of which 8 warps take 4 each
    assert small[4] == pytest.approx(groups / 4)
    assert small[3] == pytest.approx(groups / 4 * 8)


@pytest.mark.parametrize("params", [DIRECT, PIECES])
def test_values_that_lie_apart_and_rows_of_b_that_begin_inside_lines_cost_more(params):
    lengths = np.full(256, 40)
    variant = variant_of("csb_rows", params)
    entries = 256 * 40 * 2 * 1e-6  # tiles of 64 columns
    for turned, n, apart, odd in ((False, 128, 0, 0), (True, 128, 1, 0), (False, 100, 0, 1)):
        counted = terms(Structure(256, 512, lengths, turned), variant, n, H100, 1)
        expected = (apart * entries, 10 * apart * entries / params["warps"], odd * entries)
        assert counted[-3:] == pytest.approx(expected)


def test_launches_of_rows_share_costs_by_form_and_columns():
    panel, direct = variant_of("csb_rows", PANEL), variant_of("csb_rows", DIRECT | {"workspace_bytes": 3})
    assert (panel.group, direct.group) == ("panel 32", "direct 64")
    assert sorted(direct.config.split()) == ["form=direct", "split=2", "tile_n=64", "warps=8"]


def test_a_variant_is_read_from_the_names_of_parameters():
    params = {"tile_m": 64, "tile_n": 128, "split": 2, "cluster": 1, "prepass": 0, "workspace_bytes": 9}
    variant = variant_of("csb_wgmma", params)
    assert variant.config == "tile_m=64 tile_n=128 cluster=1 prepass=0"
    blocks = {"tile_m": 64, "tile_n": 128, "tensor_cores": True}
    assert variant.settings == blocks | {"split": 2, "clustered": True}
    variant = variant_of("csb_few", {"tile_m": 128, "depth": 4, "split": 2})
    assert variant.config == "tile_m=128 depth=4"
    assert variant.settings["tile_n"] == 64
    assert variant.settings["clustered"]
    variant = variant_of("csb_mma", {"tile": "64x128/32", "stages": 2, "splits": 3})
    assert variant.config == "tile=64x128/32 stages=2"
    assert variant.settings == blocks | {"split": 3, "clustered": False}
    assert variant_of("csb_gather", {"lanes": 8}) is None


@pytest.mark.parametrize("density", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("n", [1, 100, 2048])
def test_the_fitted_model_answers_for_every_product(monkeypatch, density, n):
    for module in (choice_model, choice_candidates):
        monkeypatch.setattr(module, "current_device", lambda: H100)
    A = matrix(density, 512, 1024)
    names = ["csb_wgmma", "csb_rows", "csb_mma", "csb_gather"]
    for op in ("A@B", "A.T@B"):
        name, params, time_us = choice_model.rank(A, op, n, names)[0]
        assert name in ("csb_wgmma", "csb_rows")
        assert params in list(choice_candidates.choice_candidates(name, A, op, n))
        assert 0.5 < time_us < 500


def ranked(**times):
    """Pairs of (time for a stored transpose, variant with its own time)."""
    return [(plain, choice_model.Ranked(name, {}, own)) for name, (plain, own) in times.items()]


def test_a_transposed_product_takes_the_launch_of_a_stored_transpose_where_it_matters_little():
    near = choice_model.in_order(ranked(other=(5.0, 4.0), alike=(3.0, 4.2), slow=(9.0, 9.0)))
    assert [one.kernel for one in near] == ["alike", "other", "slow"]
    far = choice_model.in_order(ranked(other=(5.0, 3.9), alike=(3.0, 4.2), slow=(9.0, 9.0)))
    assert [one.kernel for one in far] == ["other", "alike", "slow"]
    assert choice_model.in_order([]) == []


@pytest.mark.parametrize("density", [0.02, 0.1])
def test_both_directions_of_equal_products_take_the_same_launch(monkeypatch, density):
    for module in (choice_model, choice_candidates):
        monkeypatch.setattr(module, "current_device", lambda: H100)
    monkeypatch.setattr(choice_model, "CLEARLY_FASTER", 1.0)  # another is never taken
    A = matrix(density, 512, 1024)
    stored = CSBMatrix.from_scipy(A.to_scipy().T.tocsr(), block_shape=A.block_shape[::-1])
    names = ["csb_wgmma", "csb_rows"]
    for n in (100, 512):
        there, here = choice_model.rank(A, "A.T@B", n, names), choice_model.rank(stored, "A@B", n, names)
        assert there[0][:2] == here[0][:2]


def test_half_precision_takes_the_costs_of_one_product_a_step():
    assert choice_model._asked(["csb_wgmma", "csb_mma"], "float16") == [("csb_wgmma", "csb_wgmma_tf32")]
    assert choice_model._asked(["csb_mma"], "float32") == [("csb_mma", "csb_mma")]


GEFORCE = DeviceLimits(0, 128, 101376, (8, 9), 72 << 20, 102400, 1536, "NVIDIA GeForce RTX 4090")
"""By its data sheet."""


def test_geforce_cards_add_float16_products_in_float32_at_half_the_rate():
    professional = GEFORCE._replace(name="NVIDIA RTX 6000 Ada Generation")
    assert tensor_slowdown(H100) == 1.0
    assert tensor_slowdown(GEFORCE) == 2 * tensor_slowdown(professional) > 2.0
    structure = Structure(2048, 2048, np.full(2048, 100))
    for name, slower in (("csb_mma", True), ("csb_other", False)):
        settings = {"tile_m": 64, "tile_n": 64, "split": 1, "clustered": False, "tensor_cores": slower}
        variant = Variant("blocks", name, name, settings)
        half, full = (terms(structure, variant, 512, device, 1) for device in (GEFORCE, professional))
        assert (half[2], half[5]) == ((2 if slower else 1) * full[2], (2 if slower else 1) * full[5])
        assert [h for at, h in enumerate(half) if at not in (2, 5)] == [
            f for at, f in enumerate(full) if at not in (2, 5)
        ]


def test_cuda_cores_take_more_products_where_tensor_cores_are_slow(monkeypatch):
    taken = {}
    for device in (GEFORCE, GEFORCE._replace(name="", capability=(8, 0))):
        for module in (choice_model, choice_candidates, mma):
            monkeypatch.setattr(module, "current_device", lambda device=device: device)
        taken[device.name] = [
            choice_model.rank(matrix(density, 1024, 1024), "A@B", 1024, ["csb_mma", "csb_rows"])[0].kernel
            for density in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.9)
        ]
    assert taken[GEFORCE.name].count("csb_rows") > taken[""].count("csb_rows") > 0
    assert "csb_mma" in taken[""]


def test_a_choice_takes_about_a_millisecond(monkeypatch):
    for module in (choice_model, choice_candidates):
        monkeypatch.setattr(module, "current_device", lambda: H100)
    A = matrix(0.1, 2048, 512)
    taken = []
    for _ in range(20):
        start = time.perf_counter()
        choice_model.rank(A, "A@B", 512, ["csb_wgmma", "csb_rows", "csb_gather"])
        taken.append(time.perf_counter() - start)
    assert min(taken) < 2e-3  # a machine that others use may be slow


def test_kernels_without_costs_leave_the_choice_to_the_rule(families, monkeypatch):
    families(dict.fromkeys(("csb_rows", "csb_gather")))
    monkeypatch.setattr(choice_model, "COSTS", {"csb_wgmma": {"tile_m=64 tile_n=64 cluster=1": costs(1.0)}})
    assert choose(matrix(0.2), "A@B", 8).source == "rule"


def test_both_automatic_kernels_are_registered_with_their_classes():
    for name, precision in (("csb_cuda", "fp32"), ("csb_cuda_tf32", "tf32")):
        kernel = registry.get_kernel(name)
        assert kernel.precision["float32"] == precision
        assert dataclasses.asdict(kernel)["format"] == "csb"
