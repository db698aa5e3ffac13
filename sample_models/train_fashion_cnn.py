"""Train the sample CNN on Fashion-MNIST and write its weights and data beside this script.

    python sample_models/train_fashion_cnn.py                # a few minutes on two cores
    python sample_models/train_fashion_cnn.py --data-only    # the test set and the training extract alone

The network is conv 3x3 (32) - pool - conv 3x3 (64) - pool - linear 128 - linear 10, small enough for the
repository and large enough to have layers worth pruning. The strong weight decay leaves a network that can be
pruned. The test set is looked at once in a run, at the end (README.md tells of the runs that came before).
The seed fixes initial weights, order of the
images, flips and dropout; another version of PyTorch or another number of threads sums in another order, so
the weights agree in quality, not bit for bit.
"""

import argparse
import gzip
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

DATA = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts it
HERE = Path(__file__).resolve().parent
MEAN, STD = 0.2860, 0.3530  # of the 60,000 training images, pixels scaled to 0..1


def read_idx(path):
    """Read one gzipped IDX file of unsigned bytes.

    Parameters
    ----------
    path : Path
        A file of the data set: two zero bytes, type 8, the number of dimensions, then big-endian sizes.

    Returns
    -------
    numpy.ndarray
        uint8, of the shape that the header states.
    """
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\x00\x00\x08":
        raise SystemExit(f"{path} is no IDX file of unsigned bytes")
    ndim = raw[3]
    shape = np.frombuffer(raw, ">u4", count=ndim, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(tuple(int(s) for s in shape))


class FashionCNN(nn.Module):
    """The sample network; `csbviz.tasks.fashion` runs the same forward pass from the saved weights."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(64 * 7 * 7, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        """Images (batch, 1, 28, 28), normalised → logits (batch, 10)."""
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = nn.functional.dropout(x.flatten(1), 0.1, self.training)
        x = nn.functional.dropout(torch.relu(self.fc1(x)), 0.3, self.training)
        return self.fc2(x)


def extract(labels, count=12_000, seed=0):
    """Choose training images: as many of each class, in a seeded order.

    Parameters
    ----------
    labels : numpy.ndarray
        uint8, of all training images.
    count : int
        Images of all ten classes together.
    seed : int

    Returns
    -------
    numpy.ndarray
        int64, (count,): which images.
    """
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == kind))[: count // 10] for kind in range(10)]
    return rng.permutation(np.concatenate(chosen))


def normalised(images):
    """uint8 (n, 28, 28) → float32 (n, 1, 28, 28), zero mean and unit deviation."""
    return ((torch.from_numpy(images.copy()).float() / 255 - MEAN) / STD).unsqueeze(1)


def train(net, images, labels, epochs, batch=128, max_lr=3e-3):
    """One-cycle AdamW with random horizontal flips; prints loss and seconds of each epoch."""
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=0.25)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr, total_steps=steps)
    for epoch in range(epochs):
        began, total = time.perf_counter(), 0.0
        net.train()
        order = torch.randperm(len(images))
        for start in range(0, len(images) - batch + 1, batch):
            pick = order[start : start + batch]
            x = images[pick]
            flip = torch.rand(batch) < 0.5
            x[flip] = x[flip].flip(-1)
            loss = nn.functional.cross_entropy(net(x), labels[pick], label_smoothing=0.05)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        mean = total / (len(images) // batch)
        print(f"epoch {epoch + 1}/{epochs}: loss {mean:.4f}, {time.perf_counter() - began:.1f} s", flush=True)


def main():
    """Save test set and training extract (npz); train, measure once on the test set, save the weights."""
    parser = argparse.ArgumentParser(description="Train the Fashion-MNIST sample CNN.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the four IDX files")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for weights and data")
    parser.add_argument("--data-only", action="store_true", help="write the data, train nothing")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    images = read_idx(args.data / "train-images-idx3-ubyte.gz")
    labels = read_idx(args.data / "train-labels-idx1-ubyte.gz")
    test_images = read_idx(args.data / "t10k-images-idx3-ubyte.gz")
    test_labels = read_idx(args.data / "t10k-labels-idx1-ubyte.gz")
    args.out.mkdir(parents=True, exist_ok=True)
    chosen = extract(labels)
    np.savez_compressed(args.out / "fashion_mnist_test.npz", images=test_images, labels=test_labels)
    np.savez_compressed(args.out / "fashion_mnist_train.npz", images=images[chosen], labels=labels[chosen])
    if args.data_only:
        return
    net = FashionCNN()
    train(net, normalised(images), torch.from_numpy(labels.astype(np.int64)), args.epochs)
    net.eval()
    with torch.no_grad():
        guesses = torch.cat([net(part).argmax(1) for part in normalised(test_images).split(500)])
    accuracy = float(np.mean(guesses.numpy() == test_labels))
    print(f"test accuracy {accuracy:.4f}")
    metadata = {
        "model": "fashion_cnn",
        "data": "Fashion-MNIST, 60,000 training images",
        "training": f"{args.epochs} epochs, seed {args.seed}, PyTorch {torch.__version__}",
        "test_accuracy": f"{accuracy:.4f}",
    }
    save_file(net.state_dict(), args.out / "fashion_cnn.safetensors", metadata=metadata)


if __name__ == "__main__":
    main()
