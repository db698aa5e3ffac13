"""The fit behind the choice: costs that made the times are found again, and losses are counted rightly."""

from __future__ import annotations

import types

import numpy as np
import pytest

from benchmarks import fit_choice, gpu_sets
from csbviz.ops.choice_model import TERMS, Shape, Structure, terms

SMS = 132
TRUE = {
    "64x64": (2, {"launch": 4.0, "steps of a round": 0.3, "elements of B": 2.0}),
    "128x128": (1, {"launch": 5.0, "steps of a round": 0.8, "elements of C": 1.0, "split": 1.5}),
}


def true_time(structure, shape, n):
    resident, costs = TRUE[shape.config]
    counted = dict(zip(TERMS, terms(structure, shape, n, SMS, resident), strict=True))
    return sum(cost * counted[name] for name, cost in costs.items())


@pytest.fixture
def measured():
    generator = np.random.default_rng(1)
    cases = {}
    for number in range(60):
        rows, inner = (int(2 ** generator.uniform(6, 12)) for _ in range(2))
        structure = Structure(rows, inner, generator.binomial(inner, generator.uniform(0.02, 0.3), rows))
        n = int(generator.choice([64, 128, 512, 2048]))
        found = []
        for config in TRUE:
            side = int(config.split("x")[0])
            for split in (1, 2, 4):
                shape = Shape(side, side, split, config)
                found.append(("csb_wgmma", shape, true_time(structure, shape, n), structure))
        cases[(f"layer {number}", "", "", ""), "A@B", n] = found
    return types.SimpleNamespace(cases=cases, device={"multiprocessors": SMS})


def test_costs_that_made_the_times_are_found_again(measured):
    cases = list(measured.cases)
    costs = fit_choice.fit(measured, cases[:40])
    assert set(costs) == {"csb_wgmma"}
    lost, off = fit_choice.losses(measured, cases[40:], costs)
    np.testing.assert_allclose(off, 1.0, rtol=0.02)
    assert max(lost) < 1.02


def test_a_tile_with_few_measurements_is_not_fitted(measured):
    assert fit_choice.fit(measured, list(measured.cases)[:4]) == {}


def test_losses_are_the_chosen_time_over_the_least():
    structure = Structure(64, 64, np.full(64, 8))
    shapes = [Shape(64, 64, 1, "right"), Shape(64, 64, 1, "dear"), Shape(64, 64, 1, "unknown")]
    found = [("k", shape, time, structure) for shape, time in zip(shapes, (6.0, 5.0, 4.0), strict=True)]
    measured = types.SimpleNamespace(
        cases={"case": found, ("a", "A@B", 8): found}, device={"multiprocessors": 1}
    )
    one = (1, 5.0, *[0.0] * (len(TERMS) - 1))
    two = (1, 9.0, *[0.0] * (len(TERMS) - 1))
    lost, off = fit_choice.losses(measured, [("a", "A@B", 8)], {"k": {"right": one, "dear": two}})
    assert lost == [1.5]
    assert off == pytest.approx([5 / 6, 9 / 5])


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
    assert {k: dict(v) for k, v in space["COSTS"].items()} == {k: dict(v) for k, v in costs.items()}


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
