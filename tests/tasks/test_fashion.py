"""The sample CNN on Fashion-MNIST: the accuracy is the one told, the training data fair."""

import sys
from pathlib import Path

import numpy as np
import pytest

from csbviz.errors import UnavailableError
from csbviz.models import load_sample
from csbviz.ops.threads import use_threads
from csbviz.tasks import TASKS, fashion
from csbviz.tasks.accuracy import accuracy

TASK = TASKS["fashion"]


@pytest.fixture(scope="module")
def cnn():
    return load_sample("fashion_cnn")


@pytest.fixture
def extract_alone(monkeypatch, tmp_path):
    """A machine without Debian's package."""
    monkeypatch.setattr(fashion, "TRAINING_FOLDER", tmp_path)
    fashion.load_training_set.cache_clear()
    yield
    fashion.load_training_set.cache_clear()


@pytest.fixture(scope="module")
def measured(cnn):
    """The accuracy, and what was reported on the way."""
    seen = []
    with use_threads(1):
        value = accuracy(cnn, progress=lambda fraction, message: seen.append((fraction, message)))
    return value, seen


def test_accuracy_is_the_one_in_the_file(cnn, measured):
    assert measured[0]["top1"] == pytest.approx(float(cnn.metadata["test_accuracy"]), abs=5e-4)
    assert measured[0]["top1"] >= 0.915
    assert measured[0]["top1"] < measured[0]["top5"] <= 1
    assert measured[0]["examples"] == 10_000


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
    images, labels = (array[:1000] for array in fashion.load_test_set())
    with torch.inference_mode(), use_threads(1):
        x = (torch.tensor(images, dtype=torch.float32).unsqueeze(1) / 255 - fashion.MEAN) / fashion.STD
        guesses = torch.cat([net(part).argmax(1) for part in x.split(250)]).numpy()
        assert accuracy(cnn, limit=1000)["top1"] == pytest.approx(np.mean(guesses == labels), abs=2e-3)


def test_pooling_is_the_same_with_and_without_gradients(cnn):
    import torch

    network = TASK.network(TASK.weights_of(cnn))
    network.module.eval()
    x, _ = TASK.calibration(20, 0)[0]
    with_gradients = network.module(x)
    with torch.no_grad():
        assert torch.equal(network.module(x), with_gradients)


def test_accuracy_depends_on_the_weights(cnn):
    with use_threads(1):
        dead = accuracy(cnn.with_weights({"fc2": np.zeros((10, 128)), "fc2.bias": np.arange(10)}), limit=1000)
    assert dead["top1"] == np.mean(fashion.load_test_set()[1][:1000] == 9)  # every image is named class 9


def test_ties_go_to_the_first_class_and_nan_to_none():
    import torch

    logits = torch.tensor([[0.0] * 10, [0.0] * 10, [float("nan")] * 10, [*range(10)]])
    ranks = fashion._ranks(logits, torch.tensor([0, 6, 0, 8]))
    assert ranks.tolist() == [0, 6, 10, 1]


def test_the_test_set_is_whole():
    images, labels = fashion.load_test_set()
    assert images.shape == (10000, 28, 28)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [1000] * 10
    assert not images.flags.writeable


@pytest.mark.usefixtures("extract_alone")
def test_the_extract_serves_for_training_without_the_package():
    images, labels = fashion.load_training_set()
    assert images.shape == (12_000, 28, 28)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [1200] * 10
    assert "12,000 images" in TASK.data()
    assert TASK.steps_an_epoch(128) == 93
    (first, _), (again, _) = (next(TASK.batches(5, 64)) for _ in range(2))
    assert first.shape == (64, 1, 28, 28)
    assert (first == again).all()
    assert abs(float(first.mean())) < 0.2  # normalised by the mean of the training images
    other, _ = next(TASK.batches(6, 64))
    assert not (first == other).all()


@pytest.mark.usefixtures("extract_alone")
def test_no_image_of_the_extract_is_in_the_test_set():
    tests = {image.tobytes() for image in fashion.load_test_set()[0]}
    assert not any(image.tobytes() in tests for image in fashion.load_training_set()[0])


def test_the_whole_training_set_is_used_where_it_is_installed():
    if not fashion.TRAINING_FOLDER.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    fashion.load_training_set.cache_clear()
    images, labels = fashion.load_training_set()
    assert images.shape == (60_000, 28, 28)
    assert "60,000 images" in TASK.data()
    with np.load(fashion.SAMPLES_DIR / "fashion_mnist_train.npz") as extract:
        sys.path.insert(0, str(Path(fashion.SAMPLES_DIR)))
        try:
            from train_fashion_cnn import extract as choose
        finally:
            sys.path.pop(0)
        chosen = choose(labels)
        assert (extract["images"] == images[chosen]).all()
        assert (extract["labels"] == labels[chosen]).all()


def test_without_any_training_data_it_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion, "TRAINING_FOLDER", tmp_path)
    monkeypatch.setattr(fashion, "SAMPLES_DIR", tmp_path)
    fashion.load_training_set.cache_clear()
    assert "fashion_mnist_train.npz is missing" in TASK.data()
    with pytest.raises(UnavailableError, match="dataset-fashion-mnist is not installed"):
        next(TASK.batches(0, 32))


def test_calibration_gives_as_many_training_images_as_asked_for():
    batches = TASK.calibration(250, 3)
    assert [len(labels) for _, labels in batches] == [100, 100, 50]
    assert all(images.shape[1:] == (1, 28, 28) for images, _ in batches)


def test_a_training_step_lowers_the_loss_of_damaged_weights(cnn):
    import torch

    weights = TASK.weights_of(cnn)
    weights["fc2.weight"] = np.zeros_like(weights["fc2.weight"])
    network = TASK.network(weights)
    inputs, targets = next(TASK.batches(0, 256))
    with use_threads(1):
        before = TASK.loss(network, inputs, targets)
        before.backward()
        with torch.no_grad():
            for parameter in network.parameters.values():
                parameter -= 0.05 * parameter.grad
        after = TASK.loss(network, inputs, targets)
    assert after.item() < before.item()
    assert set(network.weights()) == set(TASK.shapes)


def test_an_interrupted_evaluation_leaves_the_network_in_training(cnn):
    network = TASK.network(TASK.weights_of(cnn))
    network.module.train()

    def stop(fraction, message):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), use_threads(1):
        TASK.evaluate(network, stop, limit=100)
    assert network.module.training
