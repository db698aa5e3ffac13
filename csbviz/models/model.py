"""`Model` and `Layer`: the named weights of a network, immutable and read when they are looked at."""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from csbviz.errors import InputError, MatrixError
from csbviz.models import write_safetensors
from csbviz.models.kinds import PRUNABLE_KINDS, kind_of, matrix_shape
from csbviz.models.tensors import StoredTensor, narrow, widen

__all__ = ["HISTORY_KEY", "Layer", "Model"]

HISTORY_KEY = "csbviz.history"
_SCAN = 1 << 18  # elements per step of a scan, so that it needs no second copy of a large weight


class Layer:
    """One tensor of a model.

    Attributes
    ----------
    name : str
        The name in the file.
    label : str
        The name without the ending ".weight", for tables and menus.
    shape : tuple of int
    dtype : str
        "float32", "float16", "bfloat16", … as in the file.
    kind : str
        "linear", "conv", "embedding", "recurrent", "bias", "norm" or "other".
    prunable : bool
        A floating-point weight of two or more dimensions.
    rows, cols : int
        Shape of `matrix()`.
    size, nbytes : int
        Elements, and bytes in the file.
    nnz : int
        Elements that are not zero, counted at the first question.
    sparsity : float
        Share of zeros, 0 to 1.
    """

    __slots__ = ("_facts", "cols", "kind", "name", "prunable", "rows", "tensor")

    def __init__(self, tensor):
        kind = kind_of(tensor.name, tensor.shape, tensor.dtype, tensor.op)
        rows, cols = matrix_shape(tensor.shape, kind, tensor.op)
        prunable = kind in PRUNABLE_KINDS and len(tensor.shape) >= 2 and tensor.size > 0
        for attribute, value in (
            ("tensor", tensor),
            ("name", tensor.name),
            ("kind", kind),
            ("rows", rows),
            ("cols", cols),
            ("prunable", prunable),
            ("_facts", {}),
        ):
            object.__setattr__(self, attribute, value)

    def __setattr__(self, name, value):
        raise AttributeError("a Layer is immutable; Model.with_weights makes a new model")

    def __repr__(self):
        return f"Layer({self.name!r}, {self.kind}, {'x'.join(map(str, self.shape))}, {self.dtype})"

    def __reduce__(self):
        return Layer, (self.tensor,)

    @property
    def label(self):
        """The name without the ending ".weight"."""
        return self.name.removesuffix(".weight")

    @property
    def shape(self):
        """Shape in the file."""
        return self.tensor.shape

    @property
    def dtype(self):
        """Type in the file."""
        return self.tensor.dtype

    @property
    def size(self):
        """Number of elements."""
        return self.tensor.size

    @property
    def nbytes(self):
        """Bytes in the file."""
        return self.tensor.nbytes

    @property
    def nnz(self):
        """Elements that are not zero (a NaN is not zero, a negative zero is)."""
        if "nnz" not in self._facts:
            data = self.tensor.data
            if self.dtype == "bfloat16":
                data = data & 0x7FFF
            self._facts["nnz"] = int(np.count_nonzero(data))
        return self._facts["nnz"]

    @property
    def sparsity(self):
        """Share of zeros, 0 to 1; 0 for an empty tensor."""
        return 1 - self.nnz / self.size if self.size else 0.0

    def weight(self):
        """Give the weight in its own shape.

        Returns
        -------
        numpy.ndarray
            Read-only, of the file's type; bfloat16 is widened to float32, which is exact.

        Raises
        ------
        MatrixError
            The weight holds NaN or infinity.
        """
        data = self.tensor.data
        if self.dtype == "bfloat16":
            data = widen(data)
            data.flags.writeable = False
        if data.dtype.kind == "f" and "finite" not in self._facts:
            bad = _count_not_finite(data)
            if bad:
                raise MatrixError(
                    f"layer {self.name!r} holds {bad:,} of {self.size:,} values that are NaN or infinite; "
                    "a weight needs finite numbers."
                )
            self._facts["finite"] = True
        return data

    def matrix(self):
        """Give the weight as the matrix of its product, outputs by inputs.

        Returns
        -------
        numpy.ndarray
            Read-only, (rows, cols), float64 when the file has float64, else float32.

        Raises
        ------
        MatrixError
            The weight holds NaN or infinity, or the layer is no weight of two or more dimensions.
        """
        if not self.prunable:
            raise MatrixError(
                f"layer {self.name!r} ({self.kind}, shape {self.shape}, {self.dtype}) is no weight matrix; "
                "a floating-point weight of two or more dimensions is needed."
            )
        weight = self.weight()
        if self.tensor.op == "matmul":
            weight = weight.reshape(self.cols, self.rows).T
        kept = np.float64 if self.dtype == "float64" else np.float32
        matrix = weight.reshape(self.rows, self.cols).astype(kept, order="C", copy=False)
        matrix.flags.writeable = False
        return matrix


class Model:
    """The tensors of one network.

    Use `load_model`, `load_sample` or `with_weights` to make one.

    Attributes
    ----------
    name : str
    digest : str
        SHA-256 of the file's bytes, in hexadecimal; of a changed model, derived from the digest of the
        model that it came from and of the change. Equal digests mean equal weights: a key for caches.
    source : str
        Where it came from, for people: a file name or a sample's title.
    layers : tuple of Layer
        Every tensor of the file, in its order.
    metadata : mapping of str to str
        Remarks kept in a safetensors file.
    history : tuple of dict
        How the weights were changed since the original file, oldest first.
    """

    __slots__ = ("_by_name", "digest", "history", "layers", "metadata", "name", "source")

    def __init__(self, tensors, *, name, digest, source, metadata=None):
        layers = tuple(Layer(tensor) for tensor in tensors)
        metadata = dict(metadata or {})
        for attribute, value in (
            ("name", name),
            ("digest", digest),
            ("source", source),
            ("layers", layers),
            ("metadata", MappingProxyType(metadata)),
            ("history", _read_history(metadata.get(HISTORY_KEY))),
            ("_by_name", {layer.name: layer for layer in layers}),
        ):
            object.__setattr__(self, attribute, value)

    def __setattr__(self, name, value):
        raise AttributeError("a Model is immutable; with_weights makes a new one")

    def __repr__(self):
        return f"Model({self.name!r}, {len(self.layers)} tensors, digest {self.digest[:12]})"

    def __reduce__(self):
        return _rebuild, (
            [x.tensor for x in self.layers],
            self.name,
            self.digest,
            self.source,
            dict(self.metadata),
        )

    @property
    def size(self):
        """Elements of all tensors."""
        return sum(layer.size for layer in self.layers)

    @property
    def nbytes(self):
        """Bytes of all tensors in the file."""
        return sum(layer.nbytes for layer in self.layers)

    def prunable_layers(self):
        """Give the layers that can be pruned, in the file's order.

        Returns
        -------
        tuple of Layer
        """
        return tuple(layer for layer in self.layers if layer.prunable)

    def layer(self, name):
        """Give one layer by its name or label.

        Raises
        ------
        InputError
            The model has no such layer.
        """
        found = self._by_name.get(name) or self._by_name.get(f"{name}.weight")
        if found is None:
            known = ", ".join(layer.name for layer in self.prunable_layers()[:4])
            raise InputError(f"{self.name} has no layer {name!r}; its weights are {known}, …")
        return found

    def with_weights(self, weights, made_by=None):
        """Make a new model in which some weights are replaced.

        Parameters
        ----------
        weights : mapping of str to numpy.ndarray
            Layer name → values of the layer's shape; they are converted to the layer's type. A read-only
            array of that type is taken without a copy and must not change afterwards.
        made_by : dict, optional
            What made them (a JSON-safe dict of settings that determine the result). It is remembered in
            `history` and in saved files, and the new digest is derived from it instead of from the bytes.

        Returns
        -------
        Model

        Raises
        ------
        InputError
            A layer is unknown or a shape differs.
        """
        if not isinstance(weights, Mapping):
            raise InputError(
                f"with_weights needs a mapping of layer names to arrays, not {type(weights).__name__}."
            )
        replaced = {}
        for name, values in weights.items():
            layer = self.layer(name)
            replaced[layer.name] = _stored_like(layer, np.asarray(values))
        digest = _derived_digest(self.digest, replaced, made_by)
        metadata = dict(self.metadata)
        if made_by is not None:
            metadata[HISTORY_KEY] = json.dumps([*self.history, made_by], sort_keys=True)
        tensors = [replaced.get(layer.name, layer.tensor) for layer in self.layers]
        changed = Model(tensors, name=self.name, digest=digest, source=self.source, metadata=metadata)
        for layer in changed.layers:
            if layer.name not in replaced:
                layer._facts.update(self._by_name[layer.name]._facts)
        return changed

    def to_bytes(self):
        """Give the model as the bytes of a safetensors file.

        Returns
        -------
        bytes
            Every tensor in its own type, with `metadata`; equal models give equal bytes.
        """
        return write_safetensors.to_bytes([layer.tensor for layer in self.layers], self.metadata)

    def save(self, path):
        """Write a safetensors file with every tensor in its own type.

        The file appears whole or not at all, also over the file that the model was loaded from.

        Parameters
        ----------
        path : str or os.PathLike
            A name that ends in .safetensors.

        Raises
        ------
        OptionError
            Another ending.
        InputError
            The folder does not exist or cannot be written to.
        """
        write_safetensors.save(path, [layer.tensor for layer in self.layers], self.metadata)


def _rebuild(tensors, name, digest, source, metadata):
    return Model(tensors, name=name, digest=digest, source=source, metadata=metadata)


def _count_not_finite(data):
    flat = data.reshape(-1)
    bad = 0
    for start in range(0, flat.size, _SCAN):
        part = flat[start : start + _SCAN]
        bad += part.size - int(np.count_nonzero(np.isfinite(part)))
    return bad


def _stored_like(layer, values):
    if values.shape != layer.shape:
        raise InputError(f"layer {layer.name!r} has the shape {layer.shape}, the new weight {values.shape}.")
    old = layer.tensor
    if layer.dtype == "bfloat16":
        data = narrow(values)
    else:
        data = np.ascontiguousarray(values, dtype=old.data.dtype)
        if data.flags.writeable and np.may_share_memory(data, values):
            data = data.copy()
    data.flags.writeable = False
    return StoredTensor(old.name, old.dtype, old.shape, data, old.op)


def _derived_digest(digest, replaced, made_by):
    sha = hashlib.sha256(digest.encode())
    if made_by is not None:
        sha.update(json.dumps(made_by, sort_keys=True).encode())
        return sha.hexdigest()
    for name in sorted(replaced):
        sha.update(name.encode() + b"\0")
        sha.update(replaced[name].data.reshape(-1).view(np.uint8))
    return sha.hexdigest()


def _read_history(text):
    """Steps of a file's own remark; a remark that is no list of objects is nobody's history."""
    try:
        steps = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return ()
    return tuple(step for step in steps if isinstance(step, dict)) if isinstance(steps, list) else ()
