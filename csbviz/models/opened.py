"""A model or a single matrix, opened: one view of both for whoever shows, prunes or multiplies layers."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from csbviz.errors import FileFormatError, OptionError

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    from scipy.sparse import csr_matrix

    from csbviz.models import Model

__all__ = [
    "MATRIX_SUFFIXES",
    "MODEL_SUFFIXES",
    "LayerInfo",
    "Opened",
    "of_matrix",
    "of_model",
    "open_bytes",
    "open_sample",
]

MODEL_SUFFIXES = (".safetensors", ".pt", ".pth", ".onnx", ".npz", ".csbz")
MATRIX_SUFFIXES = (".smtx", ".mtx", ".npz")
"""Suffixes of matrix files; each may be followed by ``.gz``."""


@dataclass(frozen=True)
class LayerInfo:
    """What a table says of a layer; `rows` x `cols` is its 2-D view, `shape` the shape in the file."""

    name: str
    kind: str
    shape: tuple[int, ...]
    rows: int
    cols: int
    nnz: int

    @property
    def label(self) -> str:
        """The name without the ending ".weight", for tables and menus."""
        return self.name.removesuffix(".weight")

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.rows * self.cols

    @property
    def sparsity(self) -> float:
        """Share of weights that are zero, 0 to 1."""
        return 1.0 - self.nnz / self.size if self.size else 0.0


@dataclass(frozen=True, eq=False)
class Opened:
    """An opened model, or an opened matrix as a model of one layer. Treat it as a constant.

    Attributes
    ----------
    digest : str
        SHA-256 of the contents, in hexadecimal.
    title : str
        Name for people. It may come from a file name: not to be used as markup.
    layers : tuple of LayerInfo
        The prunable layers.
    model : Model or None
        The model; None for a matrix.
    matrix : csr_matrix or None
        The matrix; None for a model.
    """

    digest: str
    title: str
    layers: tuple[LayerInfo, ...]
    model: Model | None = None
    matrix: csr_matrix | None = None

    @property
    def size(self) -> int:
        """Number of prunable weights."""
        return sum(layer.size for layer in self.layers)

    @property
    def nnz(self) -> int:
        """Number of prunable weights that are not zero."""
        return sum(layer.nnz for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Share of prunable weights that are zero, 0 to 1."""
        return 1.0 - self.nnz / self.size if self.size else 0.0

    def sparsity_without(self, names: Collection[str]) -> float:
        """Share of zeros among the prunable weights of all layers but the named ones, 0 to 1."""
        counted = [layer for layer in self.layers if layer.name not in names]
        size = sum(layer.size for layer in counted)
        return 1.0 - sum(layer.nnz for layer in counted) / size if size else 0.0

    @property
    def spared(self) -> tuple[str, ...]:
        """Names of the layers that are pruned on demand alone: look-up tables beside other layers."""
        worth = {layer.name for layer in self.layers if layer.kind != "embedding"}
        return tuple(layer.name for layer in self.layers if layer.name not in worth) if worth else ()

    @property
    def main(self) -> LayerInfo:
        """The layer to show first: the one with the most weights that is no look-up table."""
        spared = set(self.spared)
        return max((layer for layer in self.layers if layer.name not in spared), key=lambda layer: layer.size)

    def layer(self, name: str) -> LayerInfo:
        """The prunable layer of that name.

        Raises
        ------
        OptionError
            If there is none.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise OptionError(f"There is no prunable layer named {name!r} in {self.title}.")

    def csr(self, name: str) -> csr_matrix:
        """The 2-D view of a layer as CSR, zeros left out; its arrays are read-only."""
        self.layer(name)
        if self.matrix is not None:
            return _frozen(self.matrix)
        from csbviz.formats.convert import dense_to_csr

        return _frozen(dense_to_csr(self.model.layer(name).matrix()))

    def values(self, name: str) -> np.ndarray:
        """Weights of a layer, flat; of a matrix only the stored entries."""
        self.layer(name)
        return self.matrix.data if self.matrix is not None else self.model.layer(name).matrix().ravel()


def _frozen(csr: csr_matrix) -> csr_matrix:
    for array in (csr.data, csr.indices, csr.indptr):
        array.flags.writeable = False
    return csr


def of_model(model: Model, title: str | None = None) -> Opened:
    """Open a loaded model, under another title if one is given."""
    layers = tuple(
        LayerInfo(layer.name, layer.kind, tuple(layer.shape), layer.rows, layer.cols, int(layer.nnz))
        for layer in model.prunable_layers()
    )
    return Opened(model.digest, title or model.name, layers, model=model)


def of_matrix(matrix: csr_matrix, title: str, digest: str) -> Opened:
    """Open a matrix as a model of one layer, named after its file."""
    rows, cols = matrix.shape
    if rows == 0 or cols == 0:
        raise FileFormatError(
            f"{title} is a matrix of {rows} x {cols}: it needs at least one row and column."
        )
    layer = LayerInfo(title, "matrix", (rows, cols), rows, cols, int(matrix.nnz))
    return Opened(digest, title, (layer,), matrix=_frozen(matrix))


def open_sample(sample_id: str) -> Opened:
    """Open a sample model by its id."""
    from csbviz.models import load_sample, sample_models

    titles = {sample.id: sample.title for sample in sample_models()}
    return of_model(load_sample(sample_id), titles.get(sample_id))


def open_bytes(data: bytes, name: str) -> Opened:
    """Open the contents of a model or matrix file; the suffix of `name` says which kind it is.

    Raises
    ------
    FileFormatError, MatrixError
        If the contents are not what the name says, or cannot be used.
    """
    from csbviz.formats import load_matrix
    from csbviz.models import load_model

    stem = name.lower().removesuffix(".gz")
    known = sorted({*MODEL_SUFFIXES, *MATRIX_SUFFIXES})
    if not stem.endswith(tuple(known)):
        raise FileFormatError(f"{name} has none of the endings that can be read: {', '.join(known)}, or .gz.")
    if _is_matrix(data, stem, name):
        matrix = load_matrix(io.BytesIO(data), name=name)
        return of_matrix(matrix, name, hashlib.sha256(data).hexdigest())
    return of_model(load_model(io.BytesIO(data), name=name))


def _is_matrix(data: bytes, stem: str, name: str) -> bool:
    """Tell a sparse matrix in ``.npz`` from an archive of weights by the arrays in it."""
    if not stem.endswith(".npz") or name.lower().endswith(".gz"):
        return stem.endswith(MATRIX_SUFFIXES)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names: Any = set(archive.namelist())
    except zipfile.BadZipFile:
        raise FileFormatError(f"{name} is no .npz archive: it is truncated or of another kind.") from None
    return {"format.npy", "shape.npy", "data.npy"} <= names
