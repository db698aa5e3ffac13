"""`load_model`: a model file of any known kind → `Model`. A new kind is one reader module and one entry."""

import importlib
from dataclasses import dataclass
from pathlib import PurePath

from csbviz.errors import FileFormatError, InputError
from csbviz.models.content import open_content, sniff
from csbviz.models.model import Model

__all__ = ["FILE_KINDS", "SUFFIXES", "FileKind", "load_model"]


@dataclass(frozen=True)
class FileKind:
    """A kind of model file.

    Attributes
    ----------
    kind : str
        Name that `csbviz.models.content.sniff` gives.
    title : str
        For people, with its article.
    suffixes : tuple of str
        Endings, the usual one first.
    reader : str
        Module with `read(content) → (list of StoredTensor, metadata dict)`; imported when it is needed.
    """

    kind: str
    title: str
    suffixes: tuple[str, ...]
    reader: str


FILE_KINDS = (
    FileKind("safetensors", "a safetensors file", (".safetensors",), "csbviz.models.read_safetensors"),
    FileKind("torch", "a PyTorch file", (".pt", ".pth"), "csbviz.models.read_torch"),
    FileKind("onnx", "an ONNX model", (".onnx",), "csbviz.models.read_onnx"),
    FileKind("npz", "a NumPy archive", (".npz",), "csbviz.models.read_npz"),
    FileKind("csbz", "a compressed model", (".csbz",), "csbviz.models.read_compressed"),
)
SUFFIXES = tuple(suffix for kind in FILE_KINDS for suffix in kind.suffixes)


def load_model(path_or_file, name=None):
    """Load the weights of a network.

    Nothing in the file is ever run and no other file is opened. A safetensors file or a PyTorch archive on
    disk is mapped into memory and read tensor by tensor when one is looked at; replace such a file by
    moving a new one in its place, do not write into it.

    Parameters
    ----------
    path_or_file : str, os.PathLike, bytes-like, or a binary file object
        .safetensors, .pt or .pth (state dicts), .onnx (weights inside the file), .npz, .csbz.
    name : str, optional
        Name of the model; for bytes, the file name, whose ending then tells the kind.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        Nothing to read there, or the file holds no weight that can be pruned.
    FileFormatError
        The file is of another kind than its name says, truncated, damaged, unsafe or unsupported.
    """
    content = open_content(path_or_file, name)
    kind = _kind_of(content)
    tensors, metadata = importlib.import_module(kind.reader).read(content)
    title = name or content.name
    if PurePath(title).suffix.lower() in SUFFIXES:
        title = PurePath(title).stem
    model = Model(tensors, name=title, digest=content.digest(), source=content.name, metadata=metadata)
    if not model.prunable_layers():
        raise InputError(
            f"{content.name} holds {len(tensors)} tensor{'s' * (len(tensors) != 1)}, none of them a "
            "floating-point weight of two or more dimensions, so there is nothing to prune or to lay out."
        )
    return model


def _kind_of(content):
    found, words = sniff(content)
    by_name = next((kind for kind in FILE_KINDS if content.suffix in kind.suffixes), None)
    by_bytes = next((kind for kind in FILE_KINDS if kind.kind == found), None)
    if by_name is None:
        if by_bytes is not None and not content.suffix:
            return by_bytes
        ending = f"the ending {content.suffix}" if content.suffix else "no ending"
        raise FileFormatError(
            f"{content.name} has {ending} and looks like {words}; models are read from {', '.join(SUFFIXES)}."
        )
    if by_bytes is by_name:
        return by_name
    # Short or damaged files look like nothing: their own reader has the better sentence.
    if by_bytes is None and words == "data of an unknown kind":
        return by_name
    hint = f"; rename it to {by_bytes.suffixes[0]} to load it" if by_bytes else f"; {by_name.title} is needed"
    raise FileFormatError(f"{content.name} is named like {by_name.title} but looks like {words}{hint}.")
