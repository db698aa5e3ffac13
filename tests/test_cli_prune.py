"""``csbviz prune``: every granularity, exact counts, kept values bit for bit, every way to say it wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from csbviz.cli import main
from csbviz.models import load_model


@pytest.fixture
def weights():
    """An attention, a convolution, a linear layer, a look-up table and a bias."""
    rng = np.random.default_rng(7)
    shapes = {
        "attention.self.query.weight": (24, 10),
        "attention.self.key.weight": (24, 10),
        "attention.self.value.weight": (24, 10),
        "attention.output.dense.weight": (10, 24),
        "conv.weight": (16, 4, 3, 3),
        "embed.weight": (30, 6),
        "fc.bias": (64,),
        "fc.weight": (64, 40),
    }
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def model(weights, tmp_path):
    """A model file."""
    path = tmp_path / "net.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture
def prune(model, tmp_path, capsys):
    """Prune the model with these options: (exit code, standard output, standard error)."""

    def call(*options, output="out.safetensors"):
        code = main(["prune", str(model), "-o", str(tmp_path / output), *map(str, options)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.mark.parametrize(
    ("options", "layer", "shape", "kept"),
    [
        (["--sparsity", "0.9"], "fc.weight", (2560, 1), 256),
        (["--granularity", "nm"], "fc.weight", (640, 4), None),
        (["--nm", "1:8"], "fc.weight", (320, 8), None),
        (["--granularity", "block", "--sparsity", "0.7"], "fc.weight", None, 12),
        (["--block", "16x40", "--sparsity", "0.5"], "fc.weight", (4, 640), 2),
        (["--granularity", "kernel", "--sparsity", "0.75"], "conv.weight", (64, 9), 16),
        (["--granularity", "filter", "--sparsity", "0.5"], "conv.weight", (16, 36), 8),
        (["--granularity", "row", "--sparsity", "0.25"], "fc.weight", (64, 40), 48),
        (["--granularity", "row", "--sparsity", "0.5"], "embed.weight", (30, 6), 15),
        (["--heads", "6", "--sparsity", "0.5"], "attention.self.key.weight", (6, 40), 3),
    ],
)
@pytest.mark.parametrize("method", ["magnitude", "l2", "random"])
def test_units_of_a_layer_go_whole_and_counted(prune, weights, tmp_path, method, options, layer, shape, kept):
    chosen = ["attention*"] if "--heads" in options else [layer]
    words = [word for name in chosen for word in ("--layers", name)]
    code, out, err = prune(*options, *words, "--method", method, "--scope", "layer", "--json", "-")
    assert (code, err) == (0, "")
    saved = load_file(tmp_path / "out.safetensors")
    for name, before in weights.items():
        after = saved[name]
        stays = after != 0
        assert np.array_equal(after[stays].view(np.uint32), before[stays].view(np.uint32))
        if not name.startswith("attention" if "--heads" in options else layer):
            assert np.array_equal(after, before)
    after = saved[layer] != 0
    if shape is None:  # blocks of 8 x 8
        units = after.reshape(8, 8, 5, 8).transpose(0, 2, 1, 3).reshape(40, 64)
    else:
        units = after.reshape(shape)
    if kept is None:
        assert set(units.sum(axis=1)) == {2 if "nm" in options else 1}
    else:
        assert (units.all(axis=1) == units.any(axis=1)).all()
        assert units.any(axis=1).sum() == kept
    found = json.loads(out)
    assert found["settings"]["method"] == method
    assert {row["name"]: row["nnz"] for row in found["layers"]}[layer] == np.count_nonzero(after)


def test_a_whole_layer_goes(prune, tmp_path):
    code, _, err = prune("--granularity", "layer", "--sparsity", "0.4", "--layer", "*")
    assert (code, err) == (0, "")
    saved = load_file(tmp_path / "out.safetensors")
    gone = [name for name, values in saved.items() if not values.any()]
    assert len(gone) == round(0.4 * 7)


def test_layers_that_a_granularity_has_no_units_in_are_named_with_the_reason(prune):
    code, out, err = prune("--granularity", "kernel", "--sparsity", "0.5")
    assert (code, err) == (0, "")
    said = " ".join(out.split())
    assert "As before: attention.output.dense.weight, attention.self.key.weight" in said
    assert "and 2 more, because a layer of the kind 'linear' has no kernels" in said
    assert max(map(len, out.splitlines())) <= 100


def test_locked_layers_stay(prune, weights, tmp_path):
    code, _, err = prune("--sparsity", "0.5", "--lock", "attention*", "--lock", "conv.weight")
    assert (code, err) == (0, "")
    saved = load_file(tmp_path / "out.safetensors")
    changed = {name for name in weights if not np.array_equal(saved[name], weights[name])}
    assert changed == {"fc.weight"}  # the look-up table is pruned on demand alone
    assert np.count_nonzero(saved["fc.weight"]) == 1280


def test_an_archive_of_numpy_holds_the_same_weights(prune, tmp_path):
    assert prune("--block", "4x4", "--sparsity", "0.5")[0] == 0
    assert prune("--block", "4x4", "--sparsity", "0.5", output="out.npz")[0] == 0
    saved = load_file(tmp_path / "out.safetensors")
    with np.load(tmp_path / "out.npz") as archive:
        assert set(archive) == set(saved)
        for name, values in saved.items():
            assert np.array_equal(archive[name].view(np.uint32), values.view(np.uint32))
    assert [path.name for path in tmp_path.glob(".*")] == []
    again = load_model(tmp_path / "out.npz")
    assert again.layer("fc.weight").nnz == np.count_nonzero(saved["fc.weight"])


def test_brain_floats_do_not_fit_into_an_archive(tmp_path, capsys):
    import torch
    from safetensors.torch import save_file as save_torch

    path = tmp_path / "net.safetensors"
    save_torch({"fc.weight": torch.ones(4, 4, dtype=torch.bfloat16)}, path)
    assert main(["prune", str(path), "-o", str(tmp_path / "o.npz")]) == 2
    assert "fc.weight has the type bfloat16" in capsys.readouterr().err
    assert not (tmp_path / "o.npz").exists()


@pytest.mark.parametrize(
    ("options", "output", "said"),
    [
        (["--granularity", "atom"], "o.npz", "weight, nm, block, kernel, filter, row, column, head, layer"),
        (["--nm", "4:2"], "o.npz", "1 ≤ N ≤ M"),
        (["--block", "8by8"], "o.npz", "such as 8x8"),
        (["--granularity", "row", "--nm", "2:4"], "o.npz", "the granularity row has no option 'nm'"),
        (["--nm", "2:4", "--block", "8x8"], "o.npz", "no option 'block'"),
        (["--heads", "7"], "o.npz", "which 7 heads cannot share"),
        (["--granularity", "layer", "--scope", "layer"], "o.npz", 'choose the scope "global"'),
        (["--granularity", "kernel", "--layer", "fc.weight"], "o.npz", "has no kernels"),
        (["--lock", "*"], "o.npz", "every chosen layer is locked"),
        (["--lock", "nothing"], "o.npz", "'nothing'"),
        ([], "o.pt", ".safetensors, .npz or .onnx"),
        ([], "o.onnx", "an ONNX file holds a graph"),
    ],
)
def test_what_cannot_be_is_one_sentence(prune, tmp_path, options, output, said):
    code, out, err = prune(*options, output=output)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not (tmp_path / output).exists()
