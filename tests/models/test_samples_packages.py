"""Sample models that come as packages: every kind of weight, 1-D to 4-D, loads, is pruned and laid out."""

import numpy as np
import pytest

from csbviz.formats import CSBMatrix
from csbviz.models import load_sample, sample_models
from csbviz.pruning import prune_model

PACKAGED = [sample for sample in sample_models() if sample.package]


def loaded(sample_id):
    sample = next(sample for sample in sample_models() if sample.id == sample_id)
    if not sample.available:
        pytest.skip(f"{sample.title} is {sample.reason}")
    return load_sample(sample_id)


def views(model):
    return {layer.name: (layer.kind, layer.shape, (layer.rows, layer.cols)) for layer in model.layers}


def test_silero_has_convolutions_of_three_dimensions_and_an_lstm():
    model = loaded("silero_vad")
    assert views(model) == {
        "stft_conv.weight": ("conv", (258, 1, 256), (258, 256)),
        "conv1.weight": ("conv", (128, 129, 3), (128, 387)),
        "conv2.weight": ("conv", (64, 128, 3), (64, 384)),
        "conv3.weight": ("conv", (64, 64, 3), (64, 192)),
        "conv4.weight": ("conv", (128, 64, 3), (128, 192)),
        "lstm_cell.weight_ih": ("recurrent", (512, 128), (512, 128)),
        "lstm_cell.weight_hh": ("recurrent", (512, 128), (512, 128)),
        "final_conv.weight": ("conv", (1, 128, 1), (1, 128)),
        **{f"conv{i}.bias": ("bias", (n,), (1, n)) for i, n in ((1, 128), (2, 64), (3, 64), (4, 128))},
        **{f"lstm_cell.bias_{side}": ("bias", (512,), (1, 512)) for side in ("ih", "hh")},
        "final_conv.bias": ("bias", (1,), (1, 1)),
    }


def test_efficientnet_has_depthwise_and_pointwise_convolutions():
    model = loaded("efficientnet_lite0")
    found = views(model)
    depthwise = {name: view for name, view in found.items() if "_depthwise_conv" in name}
    assert len(depthwise) == 16
    for kind, shape, matrix in depthwise.values():
        assert kind == "conv"
        assert shape[1] == 1
        assert matrix == (shape[0], shape[2] * shape[3])
    pointwise = [view for name, view in found.items() if "_expand" in name or "_project" in name]
    assert len(pointwise) == 31
    assert all(shape[2:] == (1, 1) and matrix == shape[:2] for _, shape, matrix in pointwise)
    assert found["_fc.weight"] == ("linear", (1000, 1280), (1000, 1280))
    assert {kind for kind, shape, _ in found.values() if len(shape) == 1} == {"norm", "bias"}
    assert all(layer.kind == "other" for layer in model.layers if layer.shape == ())


@pytest.mark.parametrize("sample", [sample.id for sample in PACKAGED if sample.id != "minilm_l6"])
def test_every_prunable_layer_is_pruned_and_laid_out(sample):
    model = loaded(sample)
    assert all(layer.prunable == (len(layer.shape) >= 2) for layer in model.layers)
    pruned = prune_model(model, scope="layer", sparsity=0.75).model
    for before, after in zip(model.layers, pruned.layers, strict=True):
        if not before.prunable or before.kind == "embedding":
            assert np.array_equal(before.weight(), after.weight()), before.name
            continue
        assert after.sparsity == pytest.approx(0.75, abs=0.5 / after.size + 1e-9), before.name
        kept = after.weight() != 0
        assert np.array_equal(after.weight()[kept], before.weight()[kept])
        laid_out = CSBMatrix.from_dense(after.matrix())
        assert laid_out.nnz == after.nnz
        assert np.array_equal(laid_out.to_dense(), after.matrix())


@pytest.mark.parametrize("sample", PACKAGED, ids=lambda sample: sample.id)
def test_the_file_is_found_beside_its_package_or_it_is_said_how_to_get_it(sample):
    if sample.available:
        assert load_sample(sample.id).name == sample.id
    else:
        assert "requirements-samples.txt" in sample.reason
