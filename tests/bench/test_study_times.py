"""Kernel times of operating points: of the pruned layer itself, and added up by point."""

import json

import pytest

from csbviz.bench.study_times import measure_points, times_of
from csbviz.errors import OptionError
from csbviz.pruning.study import study
from tests.pruning.toy_task import first_weights, toy_task


def test_the_pruned_layers_are_timed():
    records = study(toy_task(), first_weights(), seeds=(0,))["records"][:2]
    found = measure_points(toy_task(), first_weights(), records, ns=(4,), threads=1, min_time=0.003)
    assert json.loads(json.dumps(found["times"])) == found["times"]
    assert [time["layer"] for time in found["times"]] == ["conv.weight", "fc.weight"] * 2
    assert found["times"][0]["nnz"] == 36
    assert sum(time["nnz"] for time in found["times"][2:]) == 468 // 2
    sums = times_of(found["times"], records[1])
    for kind in ("csr", "csb", "dense"):
        own = [time[f"{kind}_us"] for time in found["times"][2:]]
        assert sums[f"{kind}_us"] == pytest.approx(sum(own))
        assert min(own) > 0
    assert times_of(found["times"][:2], records[1]) is None


def test_nothing_to_time_is_said():
    with pytest.raises(OptionError, match="measure a study first"):
        measure_points(toy_task(), first_weights(), [])
