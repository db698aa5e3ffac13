"""What a FILE argument names: a model, a matrix or a CSB matrix, told apart by name and content."""

from __future__ import annotations

import fnmatch
import json
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from csbviz.errors import FileFormatError, InputError

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix
    from csbviz.models.opened import LayerInfo, Opened

__all__ = ["Source", "open_source"]

SAMPLE_PREFIX = "sample:"


@dataclass(frozen=True)
class Source:
    """What a FILE argument holds.

    Attributes
    ----------
    opened : Opened
        The model, or the matrix as a model of one layer.
    csb : CSBMatrix or None
        The matrix as it was stored, when the file is a CSB file.
    """

    opened: Opened
    csb: CSBMatrix | None = None

    @property
    def name(self) -> str:
        """Name for people."""
        return self.opened.title

    @property
    def is_model(self) -> bool:
        """False for a matrix."""
        return self.opened.model is not None

    def layers(self, patterns: Sequence[str] | None = None) -> list[LayerInfo]:
        """The prunable layers, or those whose names match one of the patterns, in the model's order.

        Raises
        ------
        InputError
            If a pattern matches none, or layers are named where there is only a matrix.
        """
        layers = self.opened.layers
        if not patterns:
            return list(layers)
        if not self.is_model:
            raise InputError(f"{self.name} is a matrix and has no layers; --layer needs a model.")
        chosen: set[str] = set()
        for pattern in patterns:
            names = [layer.name for layer in layers]
            found = [name for name in names if name == pattern or fnmatch.fnmatchcase(name, pattern)]
            if not found:
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                raise InputError(
                    f"{self.name} has no prunable layer {pattern!r}; it has {', '.join(names[:5])}{more}."
                )
            chosen.update(found)
        return [layer for layer in layers if layer.name in chosen]


def open_source(spec: str, seed: int = 0) -> Source:
    """Open what a FILE argument names.

    Parameters
    ----------
    spec : str
        A path, or ``sample:`` and the id of a sample model.
    seed : int
        Seed of the values of files that hold a pattern only.

    Raises
    ------
    InputError
        If there is no such file or sample, or it cannot be read.
    UnavailableError
        If the sample is not installed.
    """
    from csbviz.models import load_model
    from csbviz.models.opened import of_matrix, of_model, open_sample

    if spec.startswith(SAMPLE_PREFIX):
        return Source(open_sample(spec.removeprefix(SAMPLE_PREFIX)))
    path = Path(spec)
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise FileFormatError(f"{spec} {found}; a model or matrix file, or sample:NAME, is needed.")
    kind = _kind(path)
    if kind == "model":
        return Source(of_model(load_model(path), path.name))
    from csbviz.formats import CSBMatrix, load_matrix

    if kind == "csb":
        stored = CSBMatrix.load(path)
        return Source(of_matrix(stored.to_scipy(), path.name, ""), stored)
    return Source(of_matrix(load_matrix(path, seed=seed), path.name, ""))


def _kind(path: Path) -> str:
    """Return "model", "matrix" or "csb": from the suffix, and from the content where that is not enough."""
    from csbviz.models.opened import MATRIX_SUFFIXES, MODEL_SUFFIXES

    name = path.name.lower()
    bare = name.removesuffix(".gz")
    if bare.endswith(".npz"):
        return _kind_of_arrays(_npz_names(path)) if bare == name else "matrix"
    if name.endswith(".safetensors"):
        return "csb" if _kind_of_arrays(_safetensors_names(path)) == "csb" else "model"
    if bare.endswith(MATRIX_SUFFIXES):
        return "matrix"
    if name.endswith(MODEL_SUFFIXES):
        return "model"
    raise FileFormatError(
        f"{path.name} has none of the known suffixes; models are {', '.join(MODEL_SUFFIXES)}, "
        f"matrices are {', '.join(MATRIX_SUFFIXES)}, each matrix also with .gz."
    )


def _kind_of_arrays(names: set[str]) -> str:
    if {"values", "blk_ptr"} <= names:
        return "csb"
    if {"format", "shape", "data"} <= names:  # what scipy.sparse.save_npz writes for every format
        return "matrix"
    return "model"


def _npz_names(path: Path) -> set[str]:
    """Names of the arrays of an .npz file, from its directory alone; empty when it is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError):
        return set()  # the loader says what is wrong


def _safetensors_names(path: Path) -> set[str]:
    """Names of the tensors of a safetensors file, from its header alone; empty when it has none."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= path.stat().st_size:
            return set()  # the loader says what is wrong
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return set()
    return set(header) if isinstance(header, dict) else set()
