"""Matrices that the CUDA tests share: what a kernel meets at the edges."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from csbviz.formats import CSBMatrix


class Case(NamedTuple):
    """A matrix and its blocks; why it exists is its name."""

    name: str
    shape: tuple[int, int]
    density: float
    block_shape: tuple[int, int]
    order: str = "row"

    def matrix(self, dtype: str = "float32") -> CSBMatrix:
        """The CSB matrix, always the same; a third of the rows and columns of "gaps" are empty."""
        rng = np.random.default_rng(self.shape[0] * 1000 + self.shape[1])
        keep = rng.random(self.shape) < self.density
        if self.name.startswith("gaps"):
            keep[::3] = False
            keep[:, 1::3] = False
            keep[64:128] = False
        if self.name.startswith("heavy"):
            keep[5] = True
            keep[:, 3] = True
        S = sp.csr_array(np.where(keep, rng.standard_normal(self.shape), 0.0).astype(dtype))
        return CSBMatrix.from_scipy(S, block_shape=self.block_shape, order=self.order)


CASES = (
    Case("usual", (256, 192), 0.1, (64, 64)),
    Case("ragged edges", (130, 67), 0.2, (64, 64)),
    Case("ragged edges by column", (130, 67), 0.2, (32, 16), "col"),
    Case("ragged edges in Morton order", (130, 67), 0.2, (16, 32), "morton"),
    Case("gaps: empty rows, columns and blocks", (200, 300), 0.05, (32, 32), "morton"),
    Case("heavy row and column", (300, 260), 0.02, (64, 64)),
    Case("blocks of one row", (40, 70), 0.3, (1, 16)),
    Case("blocks of one column", (40, 70), 0.3, (16, 1), "col"),
    Case("16-bit rows, 8-bit columns", (700, 90), 0.1, (512, 8)),
    Case("8-bit rows, 16-bit columns", (90, 700), 0.1, (8, 512), "col"),
    Case("dense: several batches a window", (300, 1100), 1.0, (256, 1024), "morton"),
    Case("one entry", (1, 1), 1.0, (64, 64)),
    Case("no entry", (70, 50), 0.0, (16, 16)),
    Case("no rows", (0, 5), 0.0, (4, 4)),
    Case("no columns", (5, 0), 0.0, (4, 4)),
)

NAMES = [case.name for case in CASES]


def product(A: CSBMatrix, op: str, B: np.ndarray) -> np.ndarray:
    """The float64 result."""
    S = A.to_scipy().astype(np.float64)
    return (S.T if op.startswith("A.T") else S) @ B.astype(np.float64)
