"""Recorded runs: what a kernel wrote becomes a timeline, and files that do not fit are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from csbviz.balance import STRATEGIES, make_plan
from csbviz.balance.recording import (
    EXECUTIONS,
    KIND,
    as_run,
    load_recording,
    recorded_jobs,
    recordings,
)
from csbviz.errors import FileFormatError, InputError
from csbviz.formats import recorded_files
from tests.balance.test_plan import skewed

SIZE_LIMIT = 200_000


def a_file(tmp_path, **changes) -> Path:
    """A recording of four jobs on three multiprocessors, two of which run two of them."""
    run = {
        "strategy": "swizzle",
        "execution": "ticket",
        "median_us": 3.5,
        "planned_imbalance": 1.25,
        "multiprocessor": [0, 0, 1, 0],
        "item": [0, 1, 2, 3],
        "tile": [0, 0, 0, 1],
        "item_nonzeros": [5, 4, 3, 2],
        "start_ns": [0, 500, 0, 1000],
        "duration_ns": [1000, 1500, 1000, 2000],
    }
    data = {
        "kind": KIND,
        "version": 1,
        "when": "2026-11-24T15:10:00+00:00",
        "device": {"name": "a GPU", "multiprocessors": 3},
        "title": "Even",
        "matrix": {"name": "layer", "shape": [64, 32], "block_shape": [32, 32], "nnz": 14},
        "op": "A@B",
        "n": 64,
        "kernel": "csb_gather",
        "note": "",
        "runs": [run | changes.pop("run", {})],
    }
    path = tmp_path / "balance_test.json"
    path.write_text(json.dumps(data | changes))
    return path


def test_a_timeline_has_a_worker_for_each_place_that_was_used(tmp_path):
    recording = load_recording(a_file(tmp_path))
    assert (recording.device_name, recording.date, recording.multiprocessors) == ("a GPU", "2026-11-24", 3)
    (run,) = recording.runs
    assert run.title == "Heaviest block rows first, persistent CTAs draw tickets"
    line = run.timeline
    assert line.workers == 4  # two places, one, and a multiprocessor that did nothing
    assert line.worker.tolist() == [0, 1, 2, 0]  # job 3 starts where job 0 has ended
    assert line.start.tolist() == [0, 0.5, 0, 1]
    assert line.makespan == 3.0
    assert run.multiprocessor_loads.tolist() == [3.0, 1.0, 0.0]  # from 0 to 3, without counting twice
    assert run.imbalance == pytest.approx(3 / (4 / 3))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_a_kernel_records_becomes_jobs(strategy):
    plan = make_plan(skewed(), strategy, workers=6, n=96, tile_n=32, assignment="dynamic")
    shape = (plan.items,) if plan.tile is not None else (plan.tiles, plan.items)
    record = np.zeros((*shape, 8), np.int64)
    rng = np.random.default_rng(0)
    record[..., 0], record[..., 2] = rng.integers(0, 5, shape), plan.work
    record[..., 6] = 10**18 + rng.integers(0, 1000, shape)
    record[..., 7] = record[..., 6] + 10
    jobs = recorded_jobs(record, plan)
    run = as_run(strategy, "grid", 1.0, 1.0, 5, jobs)
    assert run.item.size == plan.jobs
    assert np.array_equal(run.nonzeros, plan.work[run.item])
    assert run.start_ns[0] == 0
    assert (np.diff(run.start_ns) >= 0).all()
    assert (run.end_ns - run.start_ns == 10).all()
    assert len(set(zip(run.item.tolist(), run.tile.tolist(), strict=True))) == plan.jobs
    if plan.tile is not None:
        assert np.array_equal(run.tile, plan.tile[run.item])
    record[0, ..., 2] += 1
    with pytest.raises(InputError, match="did not multiply the entries of its plan"):
        recorded_jobs(record, plan)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "cake"}, "no recording of balance strategies"),
        ({"version": 2}, "version 2; this csbviz reads up to version 1"),
        ({"run": {"item": [1]}}, "different lengths"),
        ({"run": {"strategy": "luck"}}, "unknown strategy 'luck'"),
        ({"run": {"multiprocessor": [0, 0, 3, 0]}}, "does not have"),
        ({"run": {"duration_ns": [1000, 1500, 1000, -3]}}, "ends before it starts"),
        ({"run": {"item_nonzeros": [5, 4, 3]}}, "an item that the plan does not have"),
        ({"run": {"item": [0, 1, 2, 0.5]}}, "whole numbers"),
        ({"run": {"tile": [[0], [0], [0], [1]]}}, "whole numbers"),
        ({"run": {"start_ns": [0, 500, 0, 2**62]}}, "too large"),
        ({"run": {"median_us": float("nan")}}, "not a positive number"),
        ({"device": {}}, "cannot be used: it has no 'multiprocessors'"),
        ({"device": {"name": "a GPU", "multiprocessors": 10**9}}, "not a whole number up to 1024"),
        ({"title": ["Even"]}, "not a text"),
        ({"op": "A+B"}, r"unknown operation 'A\+B'"),
        ({"n": "many"}, "not a whole number"),
        ({"matrix": {"shape": [64], "block_shape": [32, 32], "nnz": 14}}, "two sides"),
        ({"runs": []}, "it has 0 runs"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, changes, sentence):
    with pytest.raises(FileFormatError, match=sentence):
        load_recording(a_file(tmp_path, **changes))


def test_more_at_once_than_a_multiprocessor_can_hold_is_refused(tmp_path):
    jobs = {name: [0] * 65 for name in ("multiprocessor", "item", "tile", "start_ns")}
    path = a_file(tmp_path, run=jobs | {"duration_ns": [9] * 65})
    with pytest.raises(FileFormatError, match="more than 64 jobs at once"):
        load_recording(path)


def test_no_file_is_one_sentence(tmp_path):
    assert recordings(tmp_path) == {}
    with pytest.raises(FileFormatError, match=r"nothing\.json is not there"):
        load_recording(tmp_path / "nothing.json")
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_recording(tmp_path)
    (tmp_path / "text.json").write_text("text")
    with pytest.raises(FileFormatError, match="is no JSON"):
        load_recording(tmp_path / "text.json")


def test_a_file_that_is_too_large_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded_files, "MAX_BYTES", 10)
    with pytest.raises(FileFormatError, match="larger than"):
        load_recording(a_file(tmp_path))


@pytest.mark.parametrize("path", recordings().values(), ids=lambda path: path.stem)
def test_the_recordings_that_come_along(path):
    recording = load_recording(path)
    assert path.stat().st_size <= SIZE_LIMIT
    assert {run.strategy for run in recording.runs} == set(STRATEGIES)
    assert {run.execution for run in recording.runs} == set(EXECUTIONS)
    for run in recording.runs:
        assert run.nonzeros.sum() % recording.matrix["nnz"] == 0  # once for each tile
        assert run.imbalance >= 1
