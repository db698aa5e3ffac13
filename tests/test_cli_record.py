"""The command ``record``, and what ``bench`` and ``doctor`` say of vectors, layers and precision classes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse

from csbviz.bench.recordings import load_recording
from csbviz.cli import main

QUICK = ("--min-time", "0.01")


@pytest.fixture
def matrix(tmp_path):
    """A matrix file in SciPy's format."""
    path = tmp_path / "head.npz"
    scipy.sparse.save_npz(path, scipy.sparse.random(48, 64, 0.2, "csr", np.float32, np.random.default_rng(1)))
    return path


@pytest.fixture
def run(capsys):
    """Run the command line and return (exit code, standard output, standard error)."""

    def call(*argv):
        code = main([str(word) for word in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_record_writes_what_load_recording_reads(run, matrix, tmp_path):
    out = tmp_path / "mine.json"
    options = ("--op", "A@B,A@x", "--n", "4,8", "--kernels", "csb_cpu,csr_mkl", "--title", "My run", *QUICK)
    code, text, _ = run("record", matrix, "-o", out, *options)
    assert code == 0
    assert f"Saved {out}" in text
    recording = load_recording(out)
    assert recording.title == "My run"
    assert recording.settings["ns"] == [4, 8]
    (found,) = recording.runs
    assert (found.name, found.source, found.weights) == ("head.npz", "head.npz", "as loaded")
    assert {(r.op, r.n, r.kernel) for r in found.records} == {
        (op, n, kernel) for op, n in (("A@B", 4), ("A@B", 8), ("A@x", 1)) for kernel in ("csb_cpu", "csr_mkl")
    }
    assert found.verdict.sentence.startswith("For A·B CSB is ")


def test_record_prunes_a_sample_as_the_app_does(run, tmp_path):
    out = tmp_path / "cnn.json"
    options = ("--layer", "conv*", "--prune", "0.9", "--op", "A@x", "--kernels", "csb_cpu,csr_scipy", *QUICK)
    code, text, _ = run("record", "--sample", "fashion_cnn", "-o", out, "--json", "-", *options)
    assert code == 0
    assert json.loads(text)["runs"] == 2
    recording = load_recording(out)
    assert [run.name for run in recording.runs] == ["conv1.weight", "conv2.weight"]
    assert {run.source for run in recording.runs} == {"sample:fashion_cnn"}
    assert {run.weights for run in recording.runs} == {"magnitude 90 %, whole model"}
    assert 0.5 < recording.runs[1].records[0].sparsity < 0.9  # one threshold spares the convolutions


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-o", "x.txt"], "does not end in .json"),
        (["-o", "/nowhere/x.json"], "cannot be written"),
        (["-o", "x.json", "--sample", "nothing"], "no sample 'nothing'"),
        (["-o", "x.json"], "nothing to record"),
        (["-o", "x.json", "--sample", "fashion_cnn", "--op", "B@A"], "no operation 'B@A'"),
        (["-o", "x.json", "--sample", "fashion_cnn", "--dtype", "float8"], "multiplies 'float8' values"),
        (["-o", "x.json", "--sample", "fashion_cnn", "--dtype", "float32,float16"], "'float16' values"),
        (["-o", "x.json", "--sample", "fashion_cnn", "--min-time", "0"], "seconds above"),
        (["-o", "x.json", "--sample", "fashion_cnn", "--prune", "1"], "fraction from 0 to below 1"),
        ([], "-o"),
    ],
)
def test_record_refuses_bad_input_in_one_line(run, options, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, error = run("record", *options)
    assert code == 2
    assert out == ""
    assert says in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_bench_groups_by_class_and_takes_several_dtypes(run, matrix):
    options = ("--dtype", "float32,float64", "--op", "A@x", "--kernels", "csb_cpu,dense_torch", *QUICK)
    code, text, _ = run("bench", matrix, *options)
    assert code == 0
    assert "float32, float64, blocks" in text
    rows = [line.split()[:4] for line in text.splitlines() if line.startswith(("csb_cpu", "dense_torch"))]
    assert rows == [
        [kernel, precision, "A@x", "1"]
        for precision in ("fp32", "fp64")
        for kernel in ("csb_cpu", "dense_torch")
    ]
    assert "Verdict  For A·x CSB is" in text


def test_doctor_names_class_operations_and_capability_of_every_kernel(run):
    from csbviz.ops.registry import kernels

    code, text, _ = run("doctor")
    assert code == 0
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    for kernel in kernels():
        assert kernel.name in rows
        assert all(op in rows[kernel.name] for op in kernel.ops)
    assert "TF32" in rows["cublas_tf32"]
    assert "8.0+" in rows["cublas_tf32"]
    assert max(map(len, text.splitlines())) <= 100
    found = {entry["name"]: entry for entry in json.loads(run("doctor", "--json", "-")[1])["kernels"]}
    assert found["cublas_tf32"]["classes"] == ["tf32"]
    assert found["cublas_tf32"]["capability"] == [8, 0]
