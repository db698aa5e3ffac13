"""``csbviz compress``."""

import json

import numpy as np
import pytest

from csbviz.cli import main
from csbviz.models import load_model


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.npz"
    weight = np.random.default_rng(0).standard_normal((60, 70)).astype(np.float32)
    np.savez(path, **{"fc.weight": weight, "fc.bias": np.zeros(60, np.float32)})
    return path


def test_a_model_is_pruned_compressed_saved_and_opened_again(file, tmp_path, capsys):
    out = tmp_path / "net.csbz"
    args = ["compress", str(file), "-o", str(out), "--sparsity", "0.9", "--linear-bits", "3", "--json", "-"]
    assert main(args) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"] == found["stages"][3]["bytes"] == out.stat().st_size
    assert found["settings"]["linear_bits"] == 3
    layer = load_model(out).layer("fc.weight")
    assert layer.nnz == 420
    assert len(np.unique(layer.weight())) <= 8
    assert main(["info", str(out)]) == 0
    assert "90.00 %" in capsys.readouterr().out


def test_people_read_sizes_and_layers(file, tmp_path, capsys):
    assert main(["compress", str(file), "-o", str(tmp_path / "net.csbz")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["Dense", "Pruned,", "Quantised,", "Huffman-coded"]
    assert max(map(len, lines)) <= 100
    assert "fc.weight" in lines[9] or "fc.weight" in lines[10]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["-o", "net.npz"], ".csbz"),
        (["-o", "none/net.csbz"], "no folder"),
        (["-o", "net.csbz", "--conv-bits", "9"], "conv_bits is 9"),
        (["-o", "net.csbz", "--linear-bits", "0"], "'0'"),
        (["-o", "net.csbz", "--sparsity", "1"], "'1'"),
        (["-o", "net.csbz", "--evaluate"], "no data"),
    ],
)
def test_what_cannot_be_is_one_line(file, tmp_path, monkeypatch, capsys, more, words):
    monkeypatch.chdir(tmp_path)
    assert main(["compress", str(file), *more]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said
    assert not (tmp_path / "net.csbz").exists()


def test_a_file_is_not_written_over_itself(file, tmp_path, capsys):
    out = tmp_path / "net.csbz"
    assert main(["compress", str(file), "-o", str(out)]) == 0
    before = out.read_bytes()
    assert main(["compress", str(out), "-o", str(out)]) == 2
    assert "the model itself" in capsys.readouterr().err
    assert out.read_bytes() == before
