"""The sample CNN and Fashion-MNIST: 10,000 test images, and 12,000 or 60,000 training images."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.errors import UnavailableError
from csbviz.models.samples import SAMPLES_DIR
from csbviz.tasks.task import Metric, Network, Progress, Task, judging, missing_data, picks

if TYPE_CHECKING:
    import torch

__all__ = ["MEAN", "STD", "TASK", "TRAINING_FOLDER", "load_test_set", "load_training_set"]

MEAN, STD = 0.2860, 0.3530  # of the training images, pixels scaled to 0..1
TRAINING_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist
_SHAPES = {
    "conv1.bias": (32,),
    "conv1.weight": (32, 1, 3, 3),
    "conv2.bias": (64,),
    "conv2.weight": (64, 32, 3, 3),
    "fc1.bias": (128,),
    "fc1.weight": (128, 3136),
    "fc2.bias": (10,),
    "fc2.weight": (10, 128),
}
_BATCH = 100  # test images at a time: their activations stay in the last cache


def network(weights: Mapping[str, np.ndarray]) -> Network:
    """Build the CNN of sample_models/train_fashion_cnn.py from arrays, which are copied."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class FashionCNN(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
            self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
            self.fc1 = nn.Linear(64 * 7 * 7, 128)
            self.fc2 = nn.Linear(128, 10)

        def forward(self, x):
            x = _pooled(torch.relu(self.conv1(x)))
            x = _pooled(torch.relu(self.conv2(x)))
            x = F.dropout(x.flatten(1), 0.1, self.training)
            x = F.dropout(torch.relu(self.fc1(x)), 0.3, self.training)
            return self.fc2(x)

    module = FashionCNN()
    module.load_state_dict({name: torch.tensor(np.asarray(weights[name])) for name in _SHAPES})
    parts = {f"{name}.weight": part for name, part in module.named_children()}
    positions = {"conv1.weight": 28 * 28, "conv2.weight": 14 * 14, "fc1.weight": 1, "fc2.weight": 1}
    return Network(module, dict(module.named_parameters()), parts, positions)


def _pooled(x: torch.Tensor) -> torch.Tensor:
    """Largest of each 2 x 2 pixels: (batch, channels, 2h, 2w) → (batch, channels, h, w)."""
    import torch

    if torch.is_grad_enabled():
        return torch.nn.functional.max_pool2d(x, 2)
    # PyTorch's pooling keeps the places of the largest too, which took most of the time of a forward pass.
    rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


def evaluate(
    network: Network, progress: Progress | None = None, limit: int | None = None
) -> dict[str, float]:
    """Measure top-1 and top-5 on the test images.

    Returns
    -------
    dict
        "top1" and "top5", 0 to 1, and "examples".

    Raises
    ------
    UnavailableError
        The test set is not on this machine.
    """
    import torch

    images, labels = (array[:limit] for array in load_test_set())
    first = five = 0
    with judging(network):
        for begin in range(0, len(images), _BATCH):
            logits = network.module(_normalised(images[begin : begin + _BATCH]))
            ranks = _ranks(logits, torch.from_numpy(labels[begin : begin + _BATCH].astype(np.int64)))
            first += int((ranks == 0).sum())
            five += int((ranks < 5).sum())
            if progress is not None:
                done = min(begin + _BATCH, len(images))
                progress(done / len(images), f"{done:,} of {len(images):,} images")
    return {"top1": first / len(images), "top5": five / len(images), "examples": len(images)}


def _ranks(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many classes come before the right one, (batch,); of equal logits the first class comes first.

    A network with nothing left gives equal logits, where `topk` would choose any. NaN is never right.
    """
    import torch

    right = logits.gather(1, labels.unsqueeze(1))
    behind = (logits < right) | ((logits == right) & (torch.arange(logits.shape[1]) >= labels.unsqueeze(1)))
    return (~behind).sum(1)


def batches(seed: int, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Give training batches without end, each pass in a new seeded order, half of the images flipped."""
    import torch

    images, labels = load_training_set()
    rng = np.random.default_rng(seed)
    for pick in picks(rng, len(images), size):
        x = _normalised(images[pick])
        flip = torch.from_numpy(rng.random(size) < 0.5)
        x[flip] = x[flip].flip(-1)
        yield x, torch.from_numpy(labels[pick].astype(np.int64))


def loss(network: Network, inputs: Any, targets: Any) -> torch.Tensor:
    """Cross entropy with the label smoothing that the sample was trained with."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(network.module(inputs), targets, label_smoothing=0.05)


def calibration(count: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Give `count` training images, unchanged, in batches of 100."""
    import torch

    images, labels = load_training_set()
    pick = np.random.default_rng(seed).permutation(len(images))[:count]
    return [
        (_normalised(images[part]), torch.from_numpy(labels[part].astype(np.int64)))
        for part in (pick[begin : begin + 100] for begin in range(0, len(pick), 100))
    ]


@lru_cache(maxsize=1)
def load_test_set() -> tuple[np.ndarray, np.ndarray]:
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
    path = SAMPLES_DIR / "fashion_mnist_test.npz"
    if not path.is_file():
        raise UnavailableError(
            f"The test images are not here: {path.name} is missing from the folder sample_models."
        )
    return _read_npz(path)


@lru_cache(maxsize=1)
def load_training_set() -> tuple[np.ndarray, np.ndarray]:
    """Load training images: all 60,000 where Debian's package is installed, else those of sample_models.

    Returns
    -------
    images : numpy.ndarray
        uint8, (count, 28, 28), read-only.
    labels : numpy.ndarray
        uint8, (count,), read-only.

    Raises
    ------
    UnavailableError
        Neither is on this machine.
    """
    images = TRAINING_FOLDER / "train-images-idx3-ubyte.gz"
    labels = TRAINING_FOLDER / "train-labels-idx1-ubyte.gz"
    if images.is_file() and labels.is_file():
        return _read_idx(images, 16).reshape(-1, 28, 28), _read_idx(labels, 8)
    path = SAMPLES_DIR / "fashion_mnist_train.npz"
    if path.is_file():
        return _read_npz(path)
    raise UnavailableError(
        f"There are no training images: {path.name} is missing from the folder sample_models, and Debian's "
        "package dataset-fashion-mnist is not installed."
    )


def data() -> str:
    """Say which images are used."""
    try:
        count = len(load_training_set()[0])
    except UnavailableError as error:
        return str(error)
    source = (
        "the whole training set, from Debian's package dataset-fashion-mnist"
        if count == 60_000
        else "a balanced part; all 60,000 are used where Debian's package dataset-fashion-mnist is installed"
    )
    return f"Training uses {count:,} images ({source}); the 10,000 test images serve for the accuracy alone."


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        images, labels = archive["images"], archive["labels"]
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def _read_idx(path: Path, header: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def _normalised(images: np.ndarray) -> torch.Tensor:
    import torch

    return ((torch.from_numpy(images.astype(np.float32)) / 255 - MEAN) / STD).unsqueeze(1)


def _available() -> str:
    return missing_data(load_test_set)


def _steps(size: int) -> int:
    return len(load_training_set()[0]) // size


TASK = Task(
    name="fashion",
    title="Fashion-MNIST CNN",
    summary="Name the garment in a picture of 28 x 28 pixels: ten classes, 10,000 test images.",
    sample="fashion_cnn",
    metrics=(Metric("top1", "Top-1 accuracy", 0.1), Metric("top5", "Top-5 accuracy", 0.5)),
    shapes=_SHAPES,
    network=network,
    evaluate=evaluate,
    batches=batches,
    loss=loss,
    calibration=calibration,
    available=_available,
    steps_an_epoch=_steps,
    data=data,
)
