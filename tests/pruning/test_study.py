"""Studies: counted costs, the Pareto front, controls that are always there, and pauses without loss."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csbviz.errors import InputError, OptionError
from csbviz.models import load_sample
from csbviz.pruning import prune_model
from csbviz.pruning.flops import cost_of
from csbviz.pruning.pareto import pareto_front
from csbviz.pruning.study import SPARSITIES, study, summary
from csbviz.pruning.study_points import Point, digest_of, plan, pruned_weights
from csbviz.service import Paused
from csbviz.tasks import task_named
from tests.pruning.toy_task import first_weights, toy_task


class Interrupted:
    """A progress behind which another job waits from its `after`-th call on."""

    def __init__(self, after: int) -> None:
        self.calls, self.after, self.partial = 0, after, None

    def __call__(self, fraction, message="", partial=None):
        assert 0 <= fraction <= 1
        self.calls += 1
        self.partial = partial

    def wanted(self):
        return self.calls >= self.after

    def paused(self, kwargs=None):
        return Paused(kwargs)


def facts(result):
    """What a result says, without clocks."""
    return [{k: v for k, v in r.items() if k not in ("seconds", "when")} for r in result["records"]]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=4), st.integers(1, 50))
def test_costs_are_counts_of_nonzeros(nonzeros, n):
    weights = {str(i): np.r_[np.ones(count), np.zeros(40 - count)] for i, count in enumerate(nonzeros)}
    cost = cost_of(weights | {"bias": np.ones(3)}, dict.fromkeys(weights, n))
    assert (cost.parameters, cost.kept) == (40 * len(nonzeros) + 3, sum(nonzeros) + 3)
    assert (cost.dense_flops, cost.flops) == (80 * n * len(nonzeros), 2 * n * sum(nonzeros))
    assert cost.compression == cost.parameters / cost.kept
    assert cost.speedup == (cost.dense_flops / cost.flops if sum(nonzeros) else math.inf)


def test_compression_and_speedup_differ_where_weights_are_used_unequally():
    weights = {"conv": np.array([1.0, 0.0]), "fc": np.ones(98)}
    cost = cost_of(weights, {"conv": 98, "fc": 1})
    assert cost.compression == pytest.approx(100 / 99)
    assert cost.speedup == pytest.approx((2 * 98 + 98) / (98 + 98))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=20))
def test_the_front_is_what_nothing_dominates(points):
    def dominated(point):
        return any(c <= point[0] and g >= point[1] and (c, g) != point for c, g in points)

    found = pareto_front([float(c) for c, _ in points], [float(g) for _, g in points])
    assert found == [not dominated(point) for point in points]


def test_what_was_not_measured_is_not_on_the_front():
    assert pareto_front([None, 1.0, math.nan, 2.0], [1.0, 0.5, 1.0, None]) == [False, True, False, False]


def test_controls_and_baselines_are_always_there():
    points = plan(
        ("magnitude",), ("weight", {"block": (2, 2)}, {"nm": (2, 4)}), SPARSITIES, (3, 4), "global", False
    )
    assert [p.method for p in points].count("dense") == 1
    for granularity in ("weight", "block", "nm"):
        own = [p for p in points if p.granularity == granularity and p.method == "random"]
        assert {p.seed for p in own} == {3, 4}
        assert {p.sparsity for p in own} == ({0.5} if granularity == "nm" else set(SPARSITIES))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sparsities": (0.5, 0.9)}, "at least 5"),
        ({"methods": ("best",)}, "not known"),
        ({"seeds": ()}, "needs seeds"),
        ({"granularities": ("atom",)}, "not known"),
    ],
)
def test_what_cannot_be_studied_is_refused_in_a_sentence(change, words):
    with pytest.raises(OptionError, match=words):
        study(toy_task(), first_weights(), **change)
    with pytest.raises(InputError, match="no weight"):
        study(toy_task(), first_weights(), layers=("missing",))


@pytest.mark.parametrize("granularity", ["weight", {"nm": (2, 4)}, {"block": (8, 8)}, "kernel", "filter"])
@pytest.mark.parametrize("method", ["magnitude", "random"])
def test_plain_arrays_are_pruned_as_models_are(method, granularity):
    model = load_sample("fashion_cnn")
    pruned = prune_model(model, method, sparsity=0.8, seed=2, granularity=granularity)
    options = pruned.settings.get("options", {})
    point = Point(method, pruned.settings["granularity"], options, 0.8, 2)
    weights, skipped = pruned_weights(task_named("fashion").weights_of(model), point)
    assert skipped == pruned.skipped
    assert digest_of(weights) == digest_of(task_named("fashion").weights_of(pruned.model))


def test_a_study_measures_every_point_and_its_records_are_plain():
    found = study(toy_task(), first_weights(), ("magnitude", "taylor"), seeds=(0, 1))
    assert len(found["records"]) == found["points"] == 1 + 3 * 2 * len(SPARSITIES)
    assert json.loads(json.dumps(found)) == found
    for record in found["records"]:
        assert record["sparsity_reached"] == pytest.approx(record["sparsity"], abs=1 / 600)
    assert found["records"][0]["method"] == "dense"
    assert found["records"][0]["compression"] == found["records"][0]["speedup"] == 1.0
    rows = summary(found["records"], "top1")
    by_method = {row["method"]: row for row in rows if row["sparsity"] in (0.0, 0.9)}
    assert by_method["magnitude"]["runs"] == 2
    assert (by_method["magnitude"]["distinct"], by_method["magnitude"]["std"]) == (1, 0.0)
    assert by_method["random"]["distinct"] == 2


def test_a_summary_holds_mean_and_standard_deviation_of_the_sample():
    base = study(toy_task(), first_weights(), seeds=(0,))["records"][1]
    records = [base | {"seed": i, "metrics": {"top1": top1}} for i, top1 in enumerate((0.2, 0.4, 0.9))]
    (row,) = summary(records, "top1")
    assert row["mean"] == pytest.approx(0.5)
    assert row["std"] == pytest.approx(math.sqrt(0.13))


@settings(max_examples=3, deadline=None)
@given(st.integers(1, 25))
def test_a_study_that_gave_way_ends_as_one_that_did_not(after):
    given_ = {"methods": ("magnitude",), "seeds": (0, 1)}
    whole = study(toy_task(), first_weights(), **given_)
    found = study(toy_task(), first_weights(), progress=Interrupted(after), **given_)
    assert isinstance(found, Paused)
    kwargs = pickle.loads(pickle.dumps(found.kwargs))
    assert len(kwargs["done"]) < whole["points"]
    assert facts(study(**kwargs)) == facts(whole)


def test_retrained_points_keep_their_zeros_and_the_control_is_trained_alike():
    given_ = {"seeds": (0,), "retrain": {"epochs": 1, "batch": 16, "threads": 1}}
    found = study(toy_task(), first_weights(), progress=Interrupted(10**9), **given_)
    assert {record["retrained"] for record in found["records"]} == {"finetune"}
    control = found["records"][0]
    assert control["metrics"] != study(toy_task(), first_weights(), seeds=(0,))["records"][0]["metrics"]
    for record in found["records"]:
        assert record["sparsity_reached"] >= record["sparsity"] - 1 / 600
        assert record["epochs"] == 1
