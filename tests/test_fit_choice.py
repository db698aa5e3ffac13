"""The fit behind the choice: costs that made the times are found again, and losses are counted rightly."""

from __future__ import annotations

import types

import numpy as np
import pytest

from benchmarks import fit_choice, gpu_sets
from benchmarks.fit_choice import Costs, Point
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


def test_the_costs_are_written_as_a_module(measured, tmp_path, monkeypatch):
    target = tmp_path / "choice_costs.py"
    target.write_text(fit_choice.TARGET.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(fit_choice, "TARGET", target)
    costs = fit_choice.fit(measured, list(measured.cases))
    for _ in range(2):  # over what it wrote itself, too
        fit_choice.write_costs(costs, "a GPU, today")
    space = {}
    exec(target.read_text(encoding="utf-8"), space)
    assert space["FITTED_ON"] == "a GPU, today"
    assert space["COSTS"] == {name: dict(groups) for name, groups in costs.costs.items()}
    assert space["FACTORS"] == {}


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


def test_a_later_sweep_scales_what_was_changed(measured):
    costs = fit_choice.fit(measured, list(measured.cases))
    newer = {
        case: [p._replace(time=0.8 * p.time) for p in points if p.variant.config == "64"]
        for case, points in measured.cases.items()
    }
    chosen = {False: list(newer)[1:], True: list(newer)[:1]}
    slow = newer[chosen[True][0]]
    slow[:] = [point._replace(time=1e6) for point in slow]  # held out: no fit may see it
    newer = types.SimpleNamespace(cases=newer, limits=H100, chosen=chosen.get)
    fit_choice.correct(costs, newer)
    first, second = fit_choice.later_losses(newer, costs, "now")
    assert (first["mean"], second["cases"]) == (1.0, 1)
    factors = costs.factors["csb_wgmma"]
    assert factors["64"] == pytest.approx(0.8, rel=0.03)
    assert "128" not in factors
