"""The coarse search: the least error wins, the same seed draws the same masks, and a pause loses nothing."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from csbviz.errors import InputError, OptionError
from csbviz.pruning import prune_array
from csbviz.pruning.search import search
from csbviz.pruning.study_points import digest_of
from csbviz.service import Paused
from tests.pruning.test_study import Interrupted
from tests.pruning.toy_task import first_weights, toy_task

RETRAIN = {"epochs": 1, "batch": 16, "threads": 1}


def find(**changes):
    return search(toy_task(), first_weights(), **{"sparsity": 0.5, "count": 12, "examples": 96} | changes)


def test_the_least_error_wins_and_all_candidates_are_told():
    found = find()
    errors = [candidate["error"] for candidate in found.candidates]
    assert len(errors) == 12
    assert len(set(errors)) > 1
    assert found.best == errors.index(min(errors))
    assert found.after is None
    assert json.loads(json.dumps(found.record())) == found.record()


@pytest.mark.parametrize("granularity", ["kernel", "filter"])
def test_whole_units_go_and_other_layers_stay(granularity):
    found, before = find(granularity=granularity), first_weights()
    flat = found.masks["conv.weight"].reshape(4, -1)  # one input channel: a kernel is a filter here
    assert ((flat.all(1)) | (~flat).all(1)).all()
    assert flat.all(1).sum() == 2
    assert found.sparsity_reached == 0.5
    assert np.array_equal(found.weights["fc.weight"], before["fc.weight"])


def test_a_candidate_is_the_random_mask_of_its_seed():
    found = find(seed=5)
    best = found.candidates[found.best]
    assert best["seed"] == 5 + found.best
    conv = first_weights()["conv.weight"]
    assert np.isin(found.weights["conv.weight"], np.r_[0, conv.ravel()]).all()
    assert find(seed=5).record()["candidates"] == found.candidates
    assert [c["seed"] for c in find(seed=6).candidates] == list(range(6, 18))
    assert prune_array(conv, "random", 0.5, granularity="kernel")[1].sum() == 18


def test_retraining_keeps_the_mask_and_mends_the_error():
    found = find(retrain=RETRAIN | {"epochs": 3, "learning_rate": 0.01})
    assert not found.weights["conv.weight"][~found.masks["conv.weight"]].any()
    assert found.after["top1"] > found.pruned["top1"]
    assert found.curve


@pytest.mark.parametrize("after", [1, 5, 14, 20])
def test_a_search_that_gave_way_ends_as_one_that_did_not(after, tmp_path):
    whole = find(retrain=RETRAIN)
    kwargs = {"retrain": RETRAIN, "checkpoint": str(tmp_path / "run")}
    paused = find(progress=Interrupted(after), **kwargs)
    assert isinstance(paused, Paused)
    found = search(**pickle.loads(pickle.dumps(paused.kwargs)))
    assert digest_of(found.weights) == digest_of(whole.weights)
    assert found.candidates == whole.candidates
    assert found.after == whole.after


def test_what_cannot_be_searched_is_refused_in_a_sentence():
    with pytest.raises(OptionError, match="kernel and filter"):
        find(granularity="weight")
    with pytest.raises(OptionError, match="count of masks"):
        find(count=0)
    with pytest.raises(InputError, match="no weight"):
        find(layers=("missing",))
