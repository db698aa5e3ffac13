"""Spam: MiniLM-L6 with a frozen linear head tells spam from other mails of SpamAssassin's public corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from csbviz.errors import UnavailableError
from csbviz.models.samples import SAMPLES_DIR
from csbviz.tasks import bert
from csbviz.tasks.task import Metric, Network, Progress, Task, judging, missing_data, picks

if TYPE_CHECKING:
    import torch

__all__ = ["TASK", "load_head", "load_mails"]

_BATCH = 25  # mails at a time


def network(weights: Mapping[str, np.ndarray]) -> Network:
    """Build the encoder from arrays, which are copied, and put the frozen head on it.

    Called with token ids, int64 (batch, length), 0 where a mail has ended, the module gives logits of "no
    spam" and "spam", float32 (batch, 2). The head is none of the parameters: it came from the dense model's
    embeddings and stays as it is when the encoder is pruned or trained.
    """
    import torch
    from torch import nn

    encoder, parameters, readers = bert.build(weights)
    head = nn.Linear(bert.WIDTH, 2)
    values = load_head()
    head.weight, head.bias = (nn.Parameter(torch.tensor(array), requires_grad=False) for array in values)
    tokens = load_mails("test")[0]
    length = round(float((tokens != 0).sum(1).mean()))
    return Network(nn.Sequential(encoder, head), parameters, readers, dict.fromkeys(readers, length))


def evaluate(
    network: Network, progress: Progress | None = None, limit: int | None = None
) -> dict[str, float]:
    """Measure how many test mails are told rightly.

    Returns
    -------
    dict
        "accuracy", 0 to 1, and "examples".

    Raises
    ------
    UnavailableError
        The mails are not on this machine.
    """
    tokens, labels = (array[:limit] for array in load_mails("test"))
    right = done = 0
    with judging(network):
        for pick in _by_length(tokens, _BATCH):
            right += int((network.module(_cut(tokens[pick])).argmax(1).numpy() == labels[pick]).sum())
            done += len(pick)
            if progress is not None:
                progress(done / len(labels), f"{done:,} of {len(labels):,} mails")
    return {"accuracy": right / len(labels), "examples": len(labels)}


def batches(seed: int, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Give training mails without end, each pass in a new seeded order."""
    import torch

    tokens, labels = load_mails("train")
    rng = np.random.default_rng(seed)
    for pick in picks(rng, len(labels), size):
        yield _cut(tokens[pick]), torch.from_numpy(labels[pick].astype(np.int64))


def loss(network: Network, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross entropy behind the frozen head."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(network.module(inputs), targets)


def calibration(count: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Give `count` training mails in batches of 25, mails of like length together."""
    import torch

    tokens, labels = load_mails("train")
    pick = np.random.default_rng(seed).permutation(len(labels))[:count]
    tokens, labels = tokens[pick], torch.from_numpy(labels[pick].astype(np.int64))
    return [(_cut(tokens[part]), labels[part]) for part in _by_length(tokens, _BATCH)]


@lru_cache(maxsize=2)
def load_mails(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Load mails as token ids of MiniLM-L6's tokenizer.

    Parameters
    ----------
    part : {"test", "train"}

    Returns
    -------
    tokens : numpy.ndarray
        uint16, (mails, 64), read-only; 0 where a mail has ended.
    labels : numpy.ndarray
        uint8, (mails,), read-only; 1 for spam.

    Raises
    ------
    UnavailableError
        The file is not on this machine.
    """
    return _read("spam_mails.npz", f"{part}_tokens", f"{part}_labels")


@lru_cache(maxsize=1)
def load_head() -> tuple[np.ndarray, np.ndarray]:
    """Load the linear head: weight, float32 (2, 384), and bias, float32 (2,).

    Raises
    ------
    UnavailableError
        The file is not on this machine.
    """
    return _read("spam_head.npz", "weight", "bias")


def _read(name: str, *keys: str) -> tuple[np.ndarray, ...]:
    path = SAMPLES_DIR / name
    if not path.is_file():
        raise UnavailableError(f"The mails are not here: {name} is missing from the folder sample_models.")
    with np.load(path, allow_pickle=False) as archive:
        arrays = tuple(archive[key] for key in keys)
    for array in arrays:
        array.flags.writeable = False
    return arrays


def _by_length(tokens: np.ndarray, size: int) -> list[np.ndarray]:
    """Indices of mails in batches, those of like length together."""
    order = np.argsort((tokens != 0).sum(1), kind="stable")
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


def _cut(tokens: np.ndarray) -> torch.Tensor:
    """As a tensor, without the columns in which every mail has ended."""
    import torch

    return torch.from_numpy(tokens[:, : int((tokens != 0).sum(1).max())].astype(np.int64))


def _available() -> str:
    return missing_data(load_head, lambda: load_mails("test"))


def _steps(size: int) -> int:
    return len(load_mails("train")[1]) // size


def data() -> str:
    """Say which mails are used."""
    missing = _available()
    if missing:
        return missing
    (tokens, labels), (_, training) = load_mails("test"), load_mails("train")
    return (
        f"{len(labels):,} mails serve for the accuracy and {len(training):,} others for training, half of "
        f"them spam and no two alike: subject and first words ({tokens.shape[1]} tokens) of SpamAssassin's "
        "public mails of 2002 and 2003, names and addresses taken out."
    )


TASK = Task(
    name="spam",
    title="MiniLM-L6 on spam",
    summary="Tell spam from other mails: a sentence embedding, then a linear head that stays as it is.",
    sample="minilm_l6",
    metrics=(Metric("accuracy", "Accuracy", 0.5),),
    shapes=bert.SHAPES,
    network=network,
    evaluate=evaluate,
    batches=batches,
    loss=loss,
    calibration=calibration,
    available=_available,
    steps_an_epoch=_steps,
    data=data,
)
