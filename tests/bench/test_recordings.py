"""A recording gives back what was measured, and a file that was tampered with is refused in one sentence."""

import copy
import json

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from csbviz.bench import BenchRequest, bench_matrix
from csbviz.bench.recordings import (
    RecordedRun,
    device_facts,
    load_recording,
    make_recording,
    read_recording,
    save_recording,
    shipped_recordings,
)
from csbviz.errors import FileFormatError, InputError
from csbviz.formats import CSBMatrix, recorded_files


@pytest.fixture(scope="module")
def measured():
    """A recording of real measurements on this machine's processor."""
    csr = sp.random(96, 80, density=0.15, format="csr", dtype=np.float32, random_state=1)
    A = CSBMatrix.from_scipy(csr, block_shape=(16, 16))
    request = BenchRequest(ops=("A@B", "A.T@B", "A@x"), ns=(8, 16), min_time=0.01)
    records = bench_matrix(A, request, name="fc1")
    run = RecordedRun("fc1", tuple(records), "sample:fashion_cnn", "magnitude 90 %")
    return make_recording("Fashion", [run], {"ns": [8, 16]}, device_facts("cpu"))


def as_json(recording) -> dict:
    return json.loads(json.dumps(recording.to_dict()))


def test_a_recording_gives_back_records_and_verdict(measured, tmp_path):
    path = tmp_path / "run.json"
    save_recording(measured, path)
    back = load_recording(path)
    assert (back.title, back.device_name, back.settings) == ("Fashion", measured.device_name, {"ns": [8, 16]})
    assert back.label == f"Recorded on {measured.device_name}, {measured.runs[0].records[0].when[:10]}"
    (run,), (before,) = back.runs, measured.runs
    assert (run.name, run.source, run.weights) == ("fc1", "sample:fashion_cnn", "magnitude 90 %")
    assert [r.case for r in run.records] == [r.case for r in before.records]
    for new, old in zip(run.records, before.records, strict=True):
        assert new.median_us == pytest.approx(old.median_us, rel=1e-5)
        assert new.count == old.count > 0
        assert (new.kernel, new.status, new.bytes, new.threads) == (
            old.kernel,
            old.status,
            old.bytes,
            old.threads,
        )
        if old.speedup_vs_csr is not None:
            assert new.speedup_vs_csr == pytest.approx(old.speedup_vs_csr, rel=1e-4)
    assert run.verdict.sentence == before.verdict.sentence
    assert back.versions["csbviz"]


def test_a_recording_is_small(measured, tmp_path):
    path = tmp_path / "run.json"
    save_recording(measured, path)
    assert path.stat().st_size < 420 * len(measured.runs[0].records) + 2000


def test_ratios_come_from_the_times_and_never_from_the_file(measured):
    found = as_json(measured)
    for row in found["runs"][0]["records"]:
        row["speedup_vs_csr"] = 99.0
    records = read_recording(json.dumps(found)).runs[0].records
    assert all(record.speedup_vs_csr != 99.0 for record in records)


def test_only_one_device_fits_into_a_recording(measured):
    records = list(measured.runs[0].records)
    other = copy.copy(records[0])
    other.device_name = "Another machine"
    with pytest.raises(InputError, match=r"of one device.*Another machine"):
        make_recording("x", [RecordedRun("a", tuple(records)), RecordedRun("b", (other,))])
    with pytest.raises(InputError, match="nothing to record"):
        make_recording("x", [])


def spoiled(**changes):
    """Name → (a change of a good recording, what the sentence must say)."""

    def first(found):
        return found["runs"][0]["records"][0]

    return {
        "kind": (lambda f: f.update(kind="something"), "no recording of a run"),
        "newer": (lambda f: f.update(version=2), "version 2; this csbviz reads up to version 1"),
        "no title": (lambda f: f.pop("title"), "title must be a text"),
        "title too long": (lambda f: f.update(title="x" * 9999), "title must be a text"),
        "device": (lambda f: f.update(device=[]), "device is no object"),
        "another device": (lambda f: f["device"].update(name="NVIDIA H100"), "another device than its own"),
        "no runs": (lambda f: f.update(runs=[]), "needs 1 to"),
        "run": (lambda f: f.update(runs=[3]), "a run is no object"),
        "no records": (lambda f: f["runs"][0].update(records=[]), "needs 1 to"),
        "record": (lambda f: f["runs"][0].update(records=[3]), "a record is no object"),
        "missing": (lambda f: f["runs"][0]["shared"].pop("nnz"), "nnz"),
        "operation": (lambda f: first(f).update(op="B@A"), "op is 'B@A'"),
        "status": (lambda f: first(f).update(status="great"), "status is 'great'"),
        "class": (lambda f: first(f).update(precision="fp7"), "precision is 'fp7'"),
        "op is a list": (lambda f: first(f).update(op=["A@B"]), "op is"),
        "time": (lambda f: first(f).update(median_us="fast"), "median_us must be a number"),
        "negative": (lambda f: first(f).update(median_us=-1), "median_us must be a number"),
        "bool": (lambda f: first(f).update(n=True), "n must be a whole number"),
        "huge": (lambda f: first(f).update(n=2**60), "n must be a whole number"),
        "no time": (lambda f: first(f).update(median_us=None), "needs times and bytes"),
        "quartiles": (lambda f: first(f).update(p25_us=1e9), "between its quartiles"),
        "blocks": (lambda f: first(f).update(block_shape=[0, 4]), "block_shape must be"),
        "blocks are text": (lambda f: first(f).update(block_shape="ab"), "block_shape must be"),
        "nonzeros": (lambda f: first(f).update(nnz=10**9), "make no sense"),
        "kernel": (lambda f: first(f).update(kernel=["x"]), "kernel must be a text"),
    }


@pytest.mark.parametrize("name", spoiled())
def test_a_spoiled_recording_is_one_sentence(measured, name):
    change, says = spoiled()[name]
    found = as_json(measured)
    change(found)
    with pytest.raises(FileFormatError, match=says) as caught:
        read_recording(json.dumps(found), "mine.json")
    message = str(caught.value)
    assert message.startswith("mine.json ")
    assert "\n" not in message


def test_what_is_no_json_or_not_there_or_too_large_is_one_sentence(tmp_path, monkeypatch):
    for data in (b"\x89PNG", b"", b"[" * 100_000, "{}", "[1]"):
        with pytest.raises(FileFormatError):
            read_recording(data)
    with pytest.raises(FileFormatError, match="is not there"):
        load_recording(tmp_path / "nothing.json")
    monkeypatch.setattr(recorded_files, "MAX_BYTES", 10)
    (tmp_path / "large.json").write_text("x" * 11)
    with pytest.raises(FileFormatError, match="larger than"):
        load_recording(tmp_path / "large.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_any_value_in_any_place_is_read_or_refused(measured, data):
    found = as_json(measured)
    places = [found, found["device"], found["runs"][0], found["runs"][0]["shared"]]
    places += found["runs"][0]["records"][:2]
    place = data.draw(st.sampled_from(places))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(json_values)
    try:
        recording = read_recording(json.dumps(found))
    except FileFormatError:
        return
    assert recording.runs[0].verdict.sentence


@pytest.mark.parametrize("name", shipped_recordings() or [pytest.param("none", marks=pytest.mark.skip)])
def test_a_shipped_recording_is_verified_small_and_of_a_gpu(name):
    path = shipped_recordings()[name]
    recording = load_recording(path)
    assert path.stat().st_size <= 300_000
    assert recording.device["capability"]
    for run in recording.runs:
        statuses = {record.status for record in run.records}
        assert "ok" in statuses
        assert not statuses & {"wrong", "failed"}
        assert run.verdict.cases
