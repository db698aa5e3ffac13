"""Every balance strategy recorded on one product: the file, and on a GPU what is in it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.balance import STRATEGIES
from csbviz.balance.recording import load_recording
from csbviz.bench.strategy_runs import record_strategies, save_strategies, variants
from csbviz.cli import main
from csbviz.formats import CSBMatrix


def test_every_strategy_is_recorded_and_some_in_two_ways():
    ways = variants()
    assert {strategy for strategy, _ in ways} == set(STRATEGIES)
    assert len(set(ways)) == len(ways) > len(STRATEGIES)
    assert ("stream_k", "shares") in ways


@pytest.mark.gpu
@pytest.mark.parametrize("op", ["A@B", "A.T@B"])
def test_a_recording_is_read_as_it_was_made(op, tmp_path):
    csr = sp.random(500, 260, 0.2, "csr", np.float32, np.random.default_rng(1))
    A = CSBMatrix.from_scipy(csr, block_shape=64)
    said = []
    data, problems = record_strategies(
        A, op, 96, "Mine", {"name": "random"}, min_time=0.002, progress=lambda *words: said.append(words)
    )
    assert problems == []
    save_strategies(data, tmp_path / "balance_mine.json")
    recording = load_recording(tmp_path / "balance_mine.json")
    assert (recording.title, recording.op, recording.n) == ("Mine", op, 96)
    assert recording.matrix["shape"] == [500, 260]
    assert [(run.strategy, run.execution) for run in recording.runs] == variants()
    for run in recording.runs:
        assert run.nonzeros.sum() % A.nnz == 0  # every entry, once for each tile of columns
        assert run.median_us > 0
        assert run.timeline.makespan > 0
    assert [fraction for fraction, _ in said] == sorted(fraction for fraction, _ in said)


@pytest.mark.gpu
def test_the_command_records_strategies(tmp_path, capsys):
    sp.save_npz(tmp_path / "m.npz", sp.random(300, 200, 0.1, "csr", np.float32, np.random.default_rng(2)))
    out = tmp_path / "balance_m.json"
    options = ["--strategies", "--device", "cuda", "--op", "A.T@B", "--n", "64", "--min-time", "0.002"]
    assert main(["record", str(tmp_path / "m.npz"), "-o", str(out), *options]) == 0
    said = capsys.readouterr().out
    assert f"Saved {out}" in said
    assert "stream_k" in said
    recording = load_recording(out)
    assert (recording.op, recording.n, recording.matrix["name"]) == ("A.T@B", 64, "m.npz")
    assert recording.title == "m.npz, as loaded"


def test_the_command_writes_what_was_right_and_names_what_was_not(tmp_path, capsys, monkeypatch):
    """The GPU's part is played: a recording of one run, and one strategy that went wrong."""
    from csbviz.bench import strategy_runs
    from csbviz.ops import registry

    run = {"strategy": "swizzle", "execution": "grid", "params": {}, "median_us": 3.5, "deterministic": True}
    run |= {"planned_imbalance": 1.25, "measured_imbalance": 1.5, "partial_bytes": 0}
    jobs = {"multiprocessor": [0, 1], "item": [0, 1], "tile": [0, 0], "item_nonzeros": [7, 5]}
    jobs |= {"start_ns": [0, 40], "duration_ns": [1000, 900]}

    def play(A, op, n, title, matrix, min_time, progress):
        sizes = {"shape": list(A.shape), "nnz": A.nnz, "block_shape": list(A.block_shape)}
        data = {"kind": strategy_runs.KIND, "version": strategy_runs.VERSION, "runs": [run | jobs]}
        data |= {"when": "2026-11-24T15:10:00+00:00", "device": {"name": "a GPU", "multiprocessors": 2}}
        data |= {
            "title": title,
            "matrix": matrix | sizes,
            "op": op,
            "n": n,
            "kernel": "csb_gather",
            "note": "",
        }
        return data, ["Stream-K (shares) with items of 8 rows is off by nan; at most 2e-06 is right."]

    monkeypatch.setattr(strategy_runs, "record_strategies", play)
    monkeypatch.setattr(registry, "availability", lambda kernel: registry.Availability(True))
    sp.save_npz(tmp_path / "m.npz", sp.random(30, 20, 0.1, "csr", np.float32, np.random.default_rng(2)))
    out = tmp_path / "mine.json"
    options = ["--strategies", "--device", "cuda", "--op", "A@B", "--title", "My strategies"]
    assert main(["record", str(tmp_path / "m.npz"), "-o", str(out), *options]) == 1
    assert "Stream-K (shares) with items of 8 rows is off by nan" in capsys.readouterr().out
    recording = load_recording(out)
    assert recording.title == "My strategies"
    assert [run.strategy for run in recording.runs] == ["swizzle"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "--strategies needs --device cuda"),
        (["--device", "cuda"], "choose one --n and one operation"),
        (["--device", "cuda", "--op", "A@x"], "choose one --n and one operation"),
        (["--device", "cuda", "--op", "A@B", "--n", "64,128"], "choose one --n and one operation"),
        (["--device", "cuda", "--op", "A@B", "--dtype", "float64"], "records one float32 product"),
    ],
)
def test_what_cannot_be_recorded_is_said_before_anything_runs(options, says, tmp_path, capsys):
    out = tmp_path / "x.json"
    assert main(["record", "--sample", "fashion_cnn", "--strategies", "-o", str(out), *options]) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()
