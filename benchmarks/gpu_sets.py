"""The matrices of the GPU benchmark: files of the Deep Learning Matrix Collection, and a seeded held-out set.

The held-out set serves to judge the choice of kernels on matrices that no fit has seen: layers of other
shapes, columns of B that are no power of two, and patterns of other kinds. It is drawn from seeds, so that
anybody gets the same matrices without a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse

__all__ = ["HELD_OUT_COLUMNS", "PATTERNS", "Layer", "collection", "draw", "held_out", "sample"]

COLUMNS = (128, 512, 2048)
CONVOLUTION_COLUMNS = (196, 1568)
"""Columns of B: tokens, and positions of one and of eight images for ResNet-50."""

HELD_OUT_COLUMNS = (64, 100, 256, 1024)
QUICK = ("q_fully_connected", "conv1_fully_connected", "group2_1_1")


@dataclass(frozen=True)
class Layer:
    """A matrix of the benchmark.

    Attributes
    ----------
    name, model, method, target : str
        Where it comes from; `target` is the sparsity that pruning aimed at.
    columns : tuple of int
        Columns of B that it is multiplied with.
    load : callable
        Gives the matrix in CSR, float32.
    """

    name: str
    model: str
    method: str
    target: str
    columns: tuple[int, ...]
    load: Callable[[], scipy.sparse.csr_matrix]

    def facts(self) -> dict[str, str]:
        """What a record says of it."""
        return {"matrix": self.name, "model": self.model, "method": self.method, "target": self.target}


def collection(folder: Path, quick: bool = False) -> list[Layer]:
    """The files of a folder of the collection: model/method/sparsity/name.smtx, also with .gz.

    Parameters
    ----------
    folder : Path
        Holds the models' folders.
    quick : bool
        Only three layers at 90 % of each set.
    """
    from csbviz.formats import load_matrix

    layers = []
    for path in sorted(folder.rglob("*.smtx*")):
        model, method, target, name = ("", "", "", *path.relative_to(folder).parts)[-4:]
        name = re.sub(r"\.smtx(\.gz)?$", "", name)
        if quick and not (target == "0.9" and "decoder" not in name and any(w in name for w in QUICK)):
            continue
        columns = CONVOLUTION_COLUMNS if model == "rn50" else COLUMNS
        layers.append(Layer(name, model, method, target, columns, lambda path=path: load_matrix(path)))
    return layers


def sample(layers: list[Layer], every: int, seed: int = 7) -> list[Layer]:
    """One layer of `every`, drawn by a seed since neighbours have the same shapes, in their order."""
    order = np.random.default_rng(seed).permutation(len(layers))
    return [layers[number] for number in sorted(order[: -(-len(layers) // every)])]


def _uniform(generator, rows: int, columns: int) -> np.ndarray:
    """Every position is equally likely."""
    return generator.random((rows, columns))


def _scaled(generator, rows: int, columns: int) -> np.ndarray:
    """Magnitudes of normal weights whose rows and columns have scales of their own, as in trained layers."""
    row, column = (generator.lognormal(0.0, 0.22, size) for size in (rows, columns))
    return np.abs(generator.standard_normal((rows, columns))) * row[:, None] * column


def _uneven(generator, rows: int, columns: int) -> np.ndarray:
    """Rows whose lengths follow a power law: few rows hold most entries."""
    share = generator.permutation(np.arange(1, rows + 1) ** -0.6)
    return generator.random((rows, columns)) ** (0.25 / share[:, None])


def _clustered(generator, rows: int, columns: int) -> np.ndarray:
    """Entries gather in some of the 32 x 32 blocks; others hold few."""
    cells = -(-rows // 32), -(-columns // 32)
    weight = np.kron(generator.gamma(0.7, 1.0, cells) + 0.05, np.ones((32, 32)))[:rows, :columns]
    return generator.random((rows, columns)) ** (1.0 / weight)


PATTERNS: dict[str, Callable] = {
    "uniform": _uniform,
    "scaled": _scaled,
    "uneven rows": _uneven,
    "clustered": _clustered,
}
"""Score of every position by the kind of pattern; the highest stay."""

_HELD_OUT = (
    (384, 384, "scaled", (0.7, 0.9)),
    (1536, 384, "scaled", (0.8, 0.95)),
    (384, 1536, "uniform", (0.7, 0.9)),
    (1024, 1024, "scaled", (0.8, 0.98)),
    (1024, 1024, "uneven rows", (0.7, 0.9, 0.95)),
    (3072, 768, "uniform", (0.8, 0.95)),
    (768, 3072, "clustered", (0.7, 0.9, 0.98)),
    (1000, 2048, "scaled", (0.8, 0.9, 0.95)),
    (640, 1200, "clustered", (0.8, 0.98)),
)


def draw(rows: int, columns: int, pattern: str, sparsity: float, seed: int) -> scipy.sparse.csr_matrix:
    """A matrix of a pattern with standard normal values, the same for the same arguments.

    Parameters
    ----------
    rows, columns : int
        Its shape.
    pattern : str
        A key of `PATTERNS`.
    sparsity : float
        Share of empty positions, rounded to whole entries.
    seed : int
        Of positions and values.
    """
    generator = np.random.default_rng(seed)
    score = PATTERNS[pattern](generator, rows, columns)
    kept = round((1 - sparsity) * score.size)
    chosen = np.sort(np.argpartition(score.ravel(), score.size - kept)[score.size - kept :])
    values = generator.standard_normal(kept, dtype=np.float32)
    row, column = np.divmod(chosen, columns)
    return scipy.sparse.csr_matrix((values, (row, column)), shape=(rows, columns))


def held_out(quick: bool = False) -> list[Layer]:
    """The held-out set; with `quick` its first sparsity of each shape."""
    return list(_held_out_layers(quick))


def _held_out_layers(quick: bool) -> Iterator[Layer]:
    for index, (rows, columns, pattern, sparsities) in enumerate(_HELD_OUT):
        for sparsity in sparsities[: 1 if quick else None]:
            arguments = rows, columns, pattern, sparsity, 1000 * index + round(100 * sparsity)
            yield Layer(
                f"{rows}x{columns} {pattern}",
                "held out",
                pattern,
                str(sparsity),
                HELD_OUT_COLUMNS,
                lambda arguments=arguments: draw(*arguments),
            )
