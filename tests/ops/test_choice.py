"""The choice among the CSB kernels of a GPU, without a GPU: who is asked, in which order, by what."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.errors import UnavailableError
from csbviz.formats import CSBMatrix
from csbviz.ops import choice, choice_model, registry
from csbviz.ops.choice import choose
from csbviz.ops.choice_model import TERMS, Shape, Structure, structure_of, terms
from csbviz.ops.cuda.module import DeviceLimits
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


def costs(launch=0.0, **by_term):
    values = (
        dict.fromkeys(TERMS, 0.0) | {"launch": launch} | {k.replace("_", " "): v for k, v in by_term.items()}
    )
    return (1, *values.values())


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


def test_the_structure_is_counted_in_both_directions():
    A = matrix(0.1, rows=150, columns=70)
    dense = A.to_dense() != 0
    for op, cells in (("A@B", dense), ("A.T@B", dense.T)):
        found = structure_of(A, op)
        assert (found.rows, found.inner, found.nnz) == (*cells.shape, cells.sum())
        assert found.longest == cells.sum(axis=1).max()
        for tile in (16, 64, 128):
            tiles = [cells[begin : begin + tile].sum() for begin in range(0, len(cells), tile)]
            assert found.heaviest(tile) == max(tiles)


def test_terms_count_what_a_launch_does():
    structure = Structure(200, 130, np.full(200, 10))
    counted = dict(zip(TERMS, terms(structure, Shape(64, 64, 2, ""), 100, 4, 1), strict=True))
    ctas = 4 * 2 * 2
    assert counted["rounds"] == ctas / 4
    assert counted["steps of a round"] == counted["rounds"] * 3 / 2
    assert counted["entries of the heaviest tile in a round"] == pytest.approx(4 * 640 / 2 * 1e-3)
    assert counted["entries of a multiprocessor"] == pytest.approx(2000 * 2 / 4 * 1e-3)
    assert counted["partial sums"] == pytest.approx(200 * 100 * 1e-6)
    assert counted["elements of B that tiles read"] == pytest.approx(4 * 130 * 128 * 1e-6)


def test_a_shape_is_read_from_the_names_of_parameters(families):
    families({"csb_wgmma": None, "csb_mma": None})
    params = {"tile_m": 64, "tile_n": 128, "split": 2, "cluster": 1, "workspace_bytes": 9}
    shape = choice_model.shape_of("csb_wgmma", params)
    assert shape == Shape(64, 128, 2, "tile_m=64 tile_n=128 cluster=1")
    assert choice_model.shape_of("csb_wgmma", {"lanes": 8}) is None
    mma = dataclasses.replace(
        registry.get_kernel("csb_mma"), tunables={"tile": ("64x128",), "stages": (1,), "splits": (1, 2)}
    )
    registry._KERNELS["csb_mma"] = mma
    shape = choice_model.shape_of("csb_mma", {"tile": "64x128/32", "stages": 2, "splits": 3})
    assert shape == Shape(64, 128, 3, "tile=64x128/32 stages=2")


def test_an_empty_matrix_has_terms_too():
    structure = Structure(0, 5, np.zeros(0, np.int64))
    assert np.isfinite(terms(structure, Shape(64, 64, 1, ""), 8, 132, 1)).all()


def test_a_choice_takes_less_than_a_millisecond(families, monkeypatch):
    def candidates(name, A, op, n):
        return [
            {"tile_m": m, "tile_n": tile, "split": split, "cluster": 1}
            for m in (64, 128)
            for tile in (64, 128)
            for split in (1, 2, 3, 4, 6, 8, 12)
        ]

    families(dict.fromkeys(("csb_wgmma",)), candidates=candidates)
    known = {f"tile_m={m} tile_n={n} cluster=1": costs(5.0) for m in (64, 128) for n in (64, 128)}
    monkeypatch.setattr(choice_model, "COSTS", {"csb_wgmma": known})
    A = matrix(0.2, 2048, 512)
    choose(A, "A@B", 512)
    taken = []
    for _ in range(20):
        start = time.perf_counter()
        choose(A, "A@B", 512)
        taken.append(time.perf_counter() - start)
    assert min(taken) < 1e-3


def test_kernels_without_costs_leave_the_choice_to_the_rule(families, monkeypatch):
    families(dict.fromkeys(("csb_rows", "csb_gather")))
    monkeypatch.setattr(choice_model, "COSTS", {"csb_wgmma": {"tile_m=64 tile_n=64 cluster=1": costs(1.0)}})
    assert choose(matrix(0.2), "A@B", 8).source == "rule"


def test_both_automatic_kernels_are_registered_with_their_classes():
    for name, precision in (("csb_cuda", "fp32"), ("csb_cuda_tf32", "tf32")):
        kernel = registry.get_kernel(name)
        assert kernel.precision["float32"] == precision
        assert dataclasses.asdict(kernel)["format"] == "csb"
