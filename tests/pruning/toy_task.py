"""A task that trains in a moment: three kinds of stripes in pictures of 6 x 6 pixels."""

from __future__ import annotations

import time
from functools import lru_cache

import numpy as np

from csbviz.tasks import Metric, Network, Task

SHAPES = {"conv.bias": (4,), "conv.weight": (4, 1, 3, 3), "fc.bias": (3,), "fc.weight": (3, 144)}
NAMES = ("conv.weight", "fc.weight")
EXAMPLES = 192


def first_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights without a zero."""
    rng = np.random.default_rng(seed)
    return {name: (0.2 * rng.standard_normal(shape)).astype(np.float32) for name, shape in SHAPES.items()}


def network(weights) -> Network:
    """A convolution, dropout and a linear layer."""
    import torch
    from torch import nn

    class Toy(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3, padding=1)
            self.fc = nn.Linear(144, 3)

        def forward(self, x):
            x = nn.functional.dropout(torch.relu(self.conv(x)).flatten(1), 0.2, self.training)
            return self.fc(x)

    module = Toy()
    module.load_state_dict({name: torch.tensor(weights[name]) for name in SHAPES})
    readers = {"conv.weight": module.conv, "fc.weight": module.fc}
    return Network(module, dict(module.named_parameters()), readers, {"conv.weight": 36, "fc.weight": 1})


@lru_cache
def data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy stripes: across, along, or none."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, EXAMPLES)
    images = rng.standard_normal((EXAMPLES, 1, 6, 6)).astype(np.float32)
    images[labels == 0, :, ::2, :] += 1.5
    images[labels == 1, :, :, ::2] += 1.5
    return images, labels


def evaluate(network, progress=None, limit=None) -> dict[str, float]:
    """Share of held-out pictures that are named rightly."""
    import torch

    images, labels = (array[:limit] for array in data(1))
    module = network.module
    was_training = module.training
    module.eval()
    with torch.inference_mode():
        right = int((module(torch.from_numpy(images)).argmax(1).numpy() == labels).sum())
    module.train(was_training)
    if progress is not None:
        progress(1.0, f"{len(images)} images")
    return {"top1": right / len(images), "examples": len(images)}


def batches(seed, size):
    """Batches without end."""
    import torch

    images, labels = data(0)
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(EXAMPLES)
        for begin in range(0, EXAMPLES - size + 1, size):
            pick = order[begin : begin + size]
            yield torch.from_numpy(images[pick]), torch.from_numpy(labels[pick])


def loss(network, inputs, targets):
    """Cross entropy."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(network.module(inputs), targets)


def slow_loss(network, inputs, targets):
    """The same, with time to interrupt it."""
    time.sleep(0.01)
    return loss(network, inputs, targets)


def calibration(count, seed):
    """Some training pictures."""
    import torch

    images, labels = data(0)
    return [(torch.from_numpy(images[:count]), torch.from_numpy(labels[:count]))]


def steps_an_epoch(size):
    """Whole batches of one pass."""
    return EXAMPLES // size


def nothing() -> str:
    """Nothing is missing, and nothing is to be said of the data; a named function, so that it pickles."""
    return ""


def toy_task(loss=loss) -> Task:
    """The task, with a loss of one's own."""
    return Task(
        name="toy",
        title="Toy network",
        summary="Tell stripes apart.",
        sample="",
        metrics=(Metric("top1", "Top-1 accuracy", 1 / 3),),
        shapes=SHAPES,
        network=network,
        evaluate=evaluate,
        batches=batches,
        loss=loss,
        calibration=calibration,
        available=nothing,
        steps_an_epoch=steps_an_epoch,
        data=nothing,
    )
