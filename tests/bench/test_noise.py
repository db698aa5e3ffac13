"""Unsteady times are found, worst first; records without a time never are."""

import subprocess
import sys
import time
from types import SimpleNamespace

import psutil

from csbviz.bench.noise import OthersLoad, busiest, spread, unsteady
from csbviz.bench.record import Record


def record(name, p25, median, p75, status="ok"):
    """A record with these quartiles."""
    common = {
        "format": "csr",
        "matrix": "m",
        "op": "A@B",
        "device": "cpu",
        "device_name": "d",
        "mode": "warm",
    }
    shape = {"m": 1, "k": 1, "n": 1, "nnz": 1, "sparsity": 0.0, "block_shape": (4, 4), "balance": None}
    kinds = {"dtype": "float32", "precision": "fp32", "params": {}, "threads": 1}
    times = {"p25_us": p25, "median_us": median, "p75_us": p75}
    return Record(kernel=name, title=name, status=status, **common, **shape, **kinds, **times)


def test_only_wide_quartiles_count_and_the_worst_comes_first():
    records = [record("wide", 50, 100, 150), record("steady", 98, 100, 103), record("wild", 10, 100, 900)]
    assert [found.kernel for found in unsteady(records)] == ["wild", "wide"]
    assert spread(records[0]) == 1.0


def test_a_record_without_a_time_is_not_unsteady():
    assert unsteady([record("none", None, None, None, status="unavailable")]) == []


def test_the_load_of_others_is_seen():
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.1)
        load = OthersLoad()
        before = psutil.Process(other.pid).cpu_times().user
        time.sleep(0.5)
        used = psutil.Process(other.pid).cpu_times().user - before
        share = load.share()
    finally:
        other.kill()
        other.wait()
    assert used > 0.0
    assert share >= 0.7 * used / (0.5 * psutil.cpu_count())


def test_own_work_is_not_counted_as_that_of_others(monkeypatch):
    machine = iter([100.0, 103.0])
    own = iter([10.0, 12.0])
    idle = psutil.cpu_times()._replace(**dict.fromkeys(psutil.cpu_times()._fields, 0.0))
    monkeypatch.setattr(psutil, "cpu_times", lambda: idle._replace(user=next(machine), idle=1e6))
    monkeypatch.setattr(
        psutil,
        "Process",
        lambda: SimpleNamespace(cpu_times=lambda: SimpleNamespace(user=next(own), system=0.0)),
    )
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    clock = iter([0.0, 2.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    # 3 busy seconds, 2 of them our own, of 2 processors for 2 seconds.
    assert OthersLoad().share() == 0.25


def test_too_short_a_time_says_nothing():
    assert OthersLoad().share() is None


def test_the_busiest_moment_counts():
    quiet, loud, unknown = (record(name, 98, 100, 103) for name in ("quiet", "loud", "unknown"))
    quiet.others_load, loud.others_load = 0.05, 0.6
    assert busiest([quiet, loud, unknown]) == 0.6
    assert busiest([unknown]) == 0.0
