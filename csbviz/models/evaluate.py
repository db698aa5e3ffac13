"""Accuracy of the sample CNN on the 10,000 test images of Fashion-MNIST, from its weights alone."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from csbviz.errors import InputError, UnavailableError
from csbviz.models.samples import SAMPLES_DIR

__all__ = ["MEAN", "STD", "accuracy", "can_evaluate", "load_test_set", "weights_for_accuracy"]

MEAN, STD = 0.2860, 0.3530  # of the training images, pixels scaled to 0..1
_SHAPES = {
    "conv1.weight": (32, 1, 3, 3),
    "conv1.bias": (32,),
    "conv2.weight": (64, 32, 3, 3),
    "conv2.bias": (64,),
    "fc1.weight": (128, 3136),
    "fc1.bias": (128,),
    "fc2.weight": (10, 128),
    "fc2.bias": (10,),
}
_BATCH = 100  # images at a time: their activations stay in the last cache


def can_evaluate(model):
    """Tell whether `accuracy` can measure this model.

    Parameters
    ----------
    model : Model

    Returns
    -------
    bool
        The tensors are those of the sample CNN, by name and shape, and its test set is on this machine.
    """
    shapes = {layer.name: layer.shape for layer in model.layers}
    return shapes == _SHAPES and _test_file().is_file()


def weights_for_accuracy(model):
    """Give the weights that `accuracy` needs as plain arrays, to hand them to another process.

    Parameters
    ----------
    model : Model

    Returns
    -------
    dict of str to numpy.ndarray
        float32.

    Raises
    ------
    InputError
        The model is not the sample CNN.
    MatrixError
        A weight holds NaN or infinity.
    """
    if {layer.name: layer.shape for layer in model.layers} != _SHAPES:
        raise InputError(
            f"the accuracy of {model.name} cannot be measured: that needs data for it, and there are test "
            "images for the Fashion-MNIST CNN only."
        )
    return {layer.name: layer.weight().astype(np.float32, copy=False) for layer in model.layers}


def accuracy(model, progress=None, limit=None):
    """Measure the share of test images that the sample CNN names rightly (top-1).

    Parameters
    ----------
    model : Model or mapping of str to numpy.ndarray
        The sample CNN, pruned or not; or what `weights_for_accuracy` gives.
    progress : callable, optional
        Called as progress(fraction, message) between batches; whatever it raises ends the measurement.
    limit : int, optional
        Take only so many images, the first ones: a quick look, not the accuracy to report.

    Returns
    -------
    float
        0 to 1; a tenth is chance.

    Raises
    ------
    InputError, MatrixError
        As `weights_for_accuracy`.
    UnavailableError
        The test set is not on this machine.
    """
    import torch

    weights = model if isinstance(model, Mapping) else weights_for_accuracy(model)
    images, labels = (array[:limit] for array in load_test_set())
    tensors = {name: torch.tensor(weights[name]) for name in _SHAPES}
    right = 0
    with torch.inference_mode():
        for begin in range(0, len(images), _BATCH):
            batch = torch.from_numpy(images[begin : begin + _BATCH].astype(np.float32))
            guesses = _forward(((batch / 255 - MEAN) / STD).unsqueeze(1), tensors).argmax(1)
            right += int(np.count_nonzero(guesses.numpy() == labels[begin : begin + _BATCH]))
            if progress is not None:
                done = min(begin + _BATCH, len(images))
                progress(done / len(images), f"{done:,} of {len(images):,} images")
    return right / len(images)


@lru_cache(maxsize=1)
def load_test_set():
    """Load the test set of Fashion-MNIST.

    Returns
    -------
    images : numpy.ndarray
        uint8, (10000, 28, 28), read-only.
    labels : numpy.ndarray
        uint8, (10000,), 0 to 9, read-only.

    Raises
    ------
    UnavailableError
        The file is not on this machine.
    """
    path = _test_file()
    if not path.is_file():
        raise UnavailableError(
            f"The test images are not here: {path.name} is missing from the folder sample_models."
        )
    with np.load(path, allow_pickle=False) as archive:
        images, labels = archive["images"], archive["labels"]
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def _forward(x, w):
    """Images (batch, 1, 28, 28) → logits (batch, 10), as in sample_models/train_fashion_cnn.py."""
    from torch.nn.functional import conv2d, linear, max_pool2d, relu

    x = max_pool2d(relu(conv2d(x, w["conv1.weight"], w["conv1.bias"], padding=1)), 2)
    x = max_pool2d(relu(conv2d(x, w["conv2.weight"], w["conv2.bias"], padding=1)), 2)
    x = relu(linear(x.flatten(1), w["fc1.weight"], w["fc1.bias"]))
    return linear(x, w["fc2.weight"], w["fc2.bias"])


def _test_file():
    return SAMPLES_DIR / "fashion_mnist_test.npz"
