"""The fit behind the choice: costs that made the times are found again, and losses are counted rightly."""

from __future__ import annotations

import json
import types

import numpy as np
import pytest

from benchmarks import fit_choice, fit_data, gpu_data, gpu_sets
from benchmarks.fit_choice import Costs, Point
from csbviz.ops.choice_costs import COSTS, FACTORS, FITTED_ON
from csbviz.ops.choice_terms import TERMS, Structure, Variant, terms
from csbviz.ops.cuda.module import DeviceLimits

H100 = DeviceLimits(0, 132, 232448, (9, 0), 50 << 20, 233472, 2048)
TRUE = {
    "64": (2, {0: 4.0, 2: 0.3, 6: 2.0}),
    "128": (1, {0: 5.0, 2: 0.8, 7: 1.0, 11: 1.5}),
}
"""Tile → CTAs at once, and the cost of some terms."""


def launch(side, split):
    settings = {"tile_m": int(side), "tile_n": int(side), "split": split, "clustered": False}
    return Variant("blocks", side, side, settings)


def true_time(structure, variant, n):
    resident, costs = TRUE[variant.group]
    counted = terms(structure, variant, n, H100, resident)
    return sum(cost * counted[place] for place, cost in costs.items())


@pytest.fixture
def measured():
    generator = np.random.default_rng(1)
    cases = {}
    for number in range(60):
        rows, inner = (int(2 ** generator.uniform(6, 12)) for _ in range(2))
        structure = Structure(rows, inner, generator.binomial(inner, generator.uniform(0.02, 0.3), rows))
        n = int(generator.choice([64, 128, 512, 2048]))
        cases[(f"layer {number}", "", "", ""), "A@B", n] = [
            Point("csb_wgmma", variant, structure, n, true_time(structure, variant, n))
            for variant in (launch(side, split) for side in TRUE for split in (1, 2, 4))
        ]
    return types.SimpleNamespace(cases=cases, limits=H100)


def test_costs_that_made_the_times_are_found_again(measured):
    cases = list(measured.cases)
    costs = fit_choice.fit(measured, cases[:40])
    assert set(costs.costs) == {"csb_wgmma"}
    lost, off = fit_choice.losses(measured, cases[40:], costs)
    np.testing.assert_allclose(off, 1.0, rtol=0.02)
    assert max(lost) < 1.02


def test_a_group_with_few_measurements_is_not_fitted(measured):
    assert fit_choice.fit(measured, list(measured.cases)[:4]).costs == {}


def test_losses_are_the_chosen_time_over_the_least():
    structure = Structure(64, 64, np.full(64, 8))
    found = [
        Point("k", Variant("blocks", name, name, launch("64", 1).settings), structure, 8, time)
        for name, time in (("right", 6.0), ("dear", 5.0), ("unknown", 4.0))
    ]
    measured = types.SimpleNamespace(cases={"case": found}, limits=H100)
    rest = [0.0] * (TERMS["blocks"] - 1)
    costs = Costs({"k": {"right": (1, 5.0, *rest), "dear": (1, 9.0, *rest)}}, {})
    found.append(Point("csb_gather", None, structure, 8, 4.0))  # the model knows nothing of it
    lost, off = fit_choice.losses(measured, ["case"], costs)
    assert lost == [1.5]
    assert off == pytest.approx([5 / 6, 9 / 5])


def test_a_configuration_gets_a_factor_the_less_trusted_the_fewer():
    generator = np.random.default_rng(2)
    points = []
    for config, factor, count in (("plain", 1.0, 200), ("slow", 1.5, 100), ("rare", 1.5, 1)):
        for _ in range(count):
            structure = Structure(512, 512, generator.integers(5, 60, 512))
            settings = {"tile_n": 64, "split": int(generator.choice([1, 2, 4])), "warps": 8}
            variant = Variant("direct", "direct 64", config, settings)
            n = int(generator.choice([128, 512, 2048]))
            counted = terms(structure, variant, n, H100, 1)
            points.append(Point("csb_rows", variant, structure, n, factor * (2.0 + counted[5])))
    measured = types.SimpleNamespace(cases={"case": points}, limits=H100)
    factors = fit_choice.fit(measured, ["case"]).factors["csb_rows"]
    assert factors["slow"] / factors["plain"] == pytest.approx(1.5, rel=0.1)
    assert abs(factors["rare"] - 1.0) < 0.1


def test_what_is_near_the_best_of_its_class_decides_the_fit():
    generator = np.random.default_rng(3)
    variant = launch("64", 1)
    cases = {}
    for number in range(80):
        structure = Structure(512, 512, generator.binomial(512, 0.1, 512))
        n = int(generator.choice([128, 512, 2048]))
        # Half of the times are far from the best of the class and obey another cost.
        far = number % 2
        time = true_time(structure, variant, n) * (2.0 if far else 1.0)
        cases[number] = [Point("csb_wgmma", variant, structure, n, time)]
        if far:
            cases[number].append(Point("csb_rows", launch("128", 1), structure, n, time / 8))
        # A faster kernel of a rougher class is no measure for those of the exact one.
        cases[number].append(Point("csb_wgmma_tf32", launch("128", 1), structure, n, time / 100))
    measured = types.SimpleNamespace(cases=cases, limits=H100)
    costs = fit_choice.fit(measured, list(cases))
    near = [cases[number][0] for number in range(0, 80, 2)]
    np.testing.assert_allclose([costs.predict(p, H100) / p.time for p in near], 1.0, rtol=0.05)


def test_the_costs_are_written_as_the_choice_reads_them(measured, tmp_path):
    costs = fit_choice.fit(measured, list(measured.cases))
    costs.factors["csb_rows"] = {"form=direct": 1.25}
    path = tmp_path / "costs.json"
    path.write_text(fit_choice.costs_text(costs, "a GPU, today"), encoding="utf-8")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["fitted_on"] == "a GPU, today"
    assert found["factors"] == {"csb_rows": {"form=direct": 1.25}}
    assert found["costs"] == {
        kernel: {group: list(values) for group, values in groups.items()}
        for kernel, groups in costs.costs.items()
    }


def test_the_kept_times_give_the_costs_that_the_choice_reads():
    sweep, beside = fit_data.read(fit_choice.KEPT), fit_data.read(fit_choice.KEPT_BESIDE)
    assert fit_choice.place_of(sweep) == FITTED_ON
    costs, rows = fit_choice.fit_all(sweep, beside)
    assert {kernel: set(groups) for kernel, groups in costs.costs.items()} == {
        kernel: set(groups) for kernel, groups in COSTS.items()
    }
    committed, count = Costs(COSTS, FACTORS), 0
    for data, classes in ((sweep, ("fp32", "tf32")), (beside, ("fp32", "tf32"))):
        measured = fit_choice.Measured(data, classes)
        for point in (point for points in measured.cases.values() for point in points):
            now, then = (found.predict(point, measured.limits) for found in (costs, committed))
            assert (now is None) == (then is None)
            if now is not None:
                assert now == pytest.approx(then, rel=2e-3)
                count += 1
    assert count > 3000
    published = json.loads(fit_choice.LOSSES.read_text(encoding="utf-8"))["losses"]
    for name, found in published.items():
        assert [row["set"] for row in found] == [row["set"] for row in rows[name]]
        for then, now in zip(found, rows[name], strict=True):
            assert now["mean"] == pytest.approx(then["mean"], abs=2e-3)


def test_a_sweep_is_kept_and_read_as_it_was(tmp_path):
    lengths = np.random.default_rng(4).integers(0, 90, 200)
    matrix, params = (
        ("layer", "model", "method", "0.9"),
        {"form": "direct", "tile_n": 64, "warps": 4, "split": 2},
    )
    sides = {op: Structure(200, 300, lengths, op == "A.T@B") for op in ("A@B", "A.T@B")}
    timings = [
        fit_data.Timing(
            matrix, op, n, "csb_rows", params | {"split": split}, sides[op], 1.5 * split + n, split % 2
        )
        for op in sides
        for n in (128, 512)
        for split in (1, 4)
    ]
    sweep = fit_data.Sweep({"name": "a GPU"}, "2026-01-02T03:04", [["--sweep"]], timings)
    path = tmp_path / "kept.json.gz"
    fit_data.write(path, sweep)
    found = fit_data.read(path)
    assert (found.device, found.when, found.runs) == (sweep.device, sweep.when, sweep.runs)

    def plain(timing):
        return (*timing[:4], sorted(timing.params.items()), timing.time, timing.run)

    assert sorted(map(plain, found.timings)) == sorted(map(plain, timings))
    for timing in found.timings:
        true, kept = sides[timing.op], timing.structure
        assert kept.turned == true.turned
        assert (kept.rows, kept.inner, kept.nnz, kept.longest) == (200, 300, true.nnz, true.longest)
        assert [kept.heaviest(tile) for tile in (64, 128, 512)] == [true.heaviest(t) for t in (64, 128, 512)]
        assert [kept.pieces(length) for length in (8, 16)] == [true.pieces(length) for length in (8, 16)]
    again = tmp_path / "again.json.gz"
    fit_data.write(again, found)
    assert again.read_bytes() == path.read_bytes()


def test_a_variant_that_was_timed_again_has_its_last_time(tmp_path):
    layer = gpu_sets.held_out(quick=True)[0]
    facts = layer.facts() | {"m": 384, "k": 384, "nnz": 44237}
    record = {"layer": 0, "kernel": "csb_rows", "op": "A.T@B", "n": 64, "dtype": "float32", "status": "ok"}
    record |= {"params": {"form": "direct", "tile_n": 64, "warps": 4, "split": 2, "choice": "model"}}
    files = []
    for number, time in enumerate((5.0, 7.0)):
        others = [
            record | {"median_us": time},
            record | {"median_us": 1.0, "stored": "transpose"},
            record | {"status": "wrong"},
            record | {"median_us": 2.0, "dtype": "float16"},
            record | {"median_us": 3.0, "kernel": "cusparse_csr_alg2", "params": {}},
        ]
        files.append(tmp_path / f"{number}.json")
        gpu_data.write(
            files[-1],
            {"device": {}, "when": str(number), "arguments": ["--dlmc", "x", "--sweep"]},
            [facts],
            others,
        )
    sweep = fit_data.read_sweeps(files, tmp_path)
    (timing,) = sweep.timings
    assert (sweep.when, timing.time, timing.op, timing.run) == ("1", 7.0, "A.T@B", 1)
    assert sweep.runs == [["--sweep"]] * 2
    assert timing.params == {"form": "direct", "tile_n": 64, "warps": 4, "split": 2}
    csr = layer.load()
    assert timing.structure.turned
    assert timing.structure.longest == np.bincount(csr.indices).max()


def test_held_out_matrices_are_the_same_every_time_and_as_sparse_as_they_say():
    layers = gpu_sets.held_out()
    assert len({(layer.name, layer.target) for layer in layers}) == len(layers) >= 16
    for layer in gpu_sets.held_out(quick=True):
        csr = layer.load()
        assert (csr != layer.load()).nnz == 0
        assert csr.nnz == pytest.approx((1 - float(layer.target)) * np.prod(csr.shape), abs=1)
        assert csr.has_sorted_indices


def test_the_kinds_of_patterns_differ_as_they_say():
    lengths = {kind: np.diff(gpu_sets.draw(512, 512, kind, 0.9, 3).indptr) for kind in gpu_sets.PATTERNS}
    spread = {kind: found.std() / found.mean() for kind, found in lengths.items()}
    assert spread["uniform"] < spread["scaled"] < spread["uneven rows"]
    blocks = {
        kind: gpu_sets.draw(512, 512, kind, 0.9, 3).toarray().astype(bool).reshape(16, 32, 16, 32).sum((1, 3))
        for kind in ("uniform", "clustered")
    }
    assert blocks["clustered"].std() > 3 * blocks["uniform"].std()
