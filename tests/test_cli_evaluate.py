"""``csbviz evaluate``: what it prints is what was counted."""

import json

from csbviz.cli import main


def test_a_pruned_sample_is_evaluated(tmp_path, capsys):
    pruned, report = tmp_path / "pruned.safetensors", tmp_path / "report.json"
    assert main(["prune", "sample:fashion_cnn", "-o", str(pruned), "--sparsity", "0.5"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(pruned), "--limit", "200", "--json", str(report)]) == 0
    result = json.loads(report.read_text())
    assert result["metrics"]["examples"] == 200
    assert result["metrics"]["top1"] > 0.8
    assert 1.99 < result["compression"] < 2.01
    assert result["speedup"] == result["dense_flops"] / result["flops"] > 1
    out = capsys.readouterr().out
    assert f"{100 * result['metrics']['top1']:.2f} %" in out
    assert "200 test examples" in out


def test_what_has_no_data_is_refused_in_a_line(capsys):
    assert main(["evaluate", "sample:fashion_cnn", "--task", "g2p"]) == 2
    assert "does not have the tensors" in capsys.readouterr().err
    assert main(["evaluate", "sample:fashion_cnn", "--task", "none"]) == 2
    assert "no task 'none'" in capsys.readouterr().err
