"""`csbviz tune`: the table, the JSON, and bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse

from csbviz.bench.autotune import Variant
from csbviz.cli import main


@pytest.fixture
def matrix(tmp_path):
    path = tmp_path / "layer.npz"
    scipy.sparse.save_npz(path, scipy.sparse.random(80, 60, 0.2, "csr", dtype=np.float32, random_state=3))
    return str(path)


def test_it_names_the_fastest_variant(matrix, capsys):
    assert main(["tune", matrix, "--n", "8,16", "--op", "A@B"]) == 0
    out = capsys.readouterr().out
    assert out.count("layer.npz: 80 x 60, 960 nonzeros, float32, A@B, N = ") == 2
    lines = out.splitlines()
    header = next(index for index, line in enumerate(lines) if line.startswith("kernel"))
    assert lines[header + 2].startswith("csb_cpu")
    assert " 1.00 " in lines[header + 2]
    assert "variants; what csb_cpu chooses by itself takes" in out


def test_json_holds_every_variant_the_fastest_first(matrix, capsys):
    assert main(["tune", matrix, "--n", "8", "--op", "A.T@B", "--json", "-"]) == 0
    (product,) = json.loads(capsys.readouterr().out)
    assert (product["matrix"], product["op"], product["n"]) == ("layer.npz", "A.T@B", 8)
    times = [variant["median_us"] for variant in product["variants"]]
    assert len(times) >= 2
    assert times[0] == min(times)


def test_a_wrong_variant_ends_it_with_1(matrix, capsys, monkeypatch):
    found = [
        Variant("csb_cpu", median_us=5.0, rel_error=1e-7),
        Variant("csb_cpu", used={"tile_n": 32}, status="wrong", message="The result is off."),
    ]
    monkeypatch.setattr("csbviz.bench.autotune.autotune", lambda *arguments, **options: found)
    assert main(["tune", matrix, "--op", "A@B"]) == 1
    assert "csb_cpu, tile_n=32: The result is off." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--op", "B@A"], "There is no operation 'B@A'"),
        (["--kernels", "csr_mkl"], "Kernel csr_mkl is no CSB kernel of cpu"),
        (["--budget", "0"], "is not a number of seconds above zero"),
    ],
)
def test_bad_input_is_one_line(matrix, capsys, options, message):
    assert main(["tune", matrix, *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
