"""`CSBLinear`: a linear layer whose weights are one CSB matrix, for training and for inference."""

from __future__ import annotations

import numpy as np
import torch

from csbviz.errors import MatrixError, OptionError
from csbviz.formats import CSBMatrix, choose_block_shape
from csbviz.nn.product import CSBWeights, layer_product, version_of
from csbviz.nn.structure import TENSORS, Structure, structure_from_tensors

__all__ = ["LAYOUTS", "CSBLinear"]

LAYOUTS = ("tokens_first", "features_first")
"""How activations lie in memory: (..., features) as PyTorch's layers have them, or (features, ...) as the
kernels read them."""

_ALIGNMENT = 16
"""Bytes: CUDA kernels may read several values at once. PyTorch allocates so; slices need not be."""


class CSBLinear(torch.nn.Module):
    """Y = X·Wᵀ + b with W in Compressed Sparse Blocks.

    The forward product, the gradient of X and the gradient of the stored values come from one copy of W.

    Ways to construct:
        ``CSBLinear(matrix, bias=None)``
            from a `CSBMatrix`, out_features x in_features, or a transposed view of one
        ``CSBLinear.from_linear(linear, mask=None, sparsity=None)``
            from a `torch.nn.Linear`, pruned by a mask, to a sparsity, or already
        ``CSBLinear.blank(in_features, out_features)``
            without entries, to be filled by `load_state_dict`

    Parameters
    ----------
    matrix : CSBMatrix
        The weights. Its arrays are not copied (read-only ones excepted): on the CPU an optimizer's step
        changes the matrix, too.
    bias : torch.Tensor or numpy.ndarray, optional
        (out_features,).
    layout : {"tokens_first", "features_first"}
        How X and Y lie in memory. "tokens_first" takes X (..., in_features) and gives Y (..., out_features);
        X, Y and their gradients are transposed on the device. "features_first" takes (in_features, ...) and
        gives (out_features, ...), which needs no transposition.

    Attributes
    ----------
    values : torch.nn.Parameter
        (nnz,): the stored values. The kernels read this memory, so a step of an optimizer is seen by the next
        product; what is stored where never changes, so plans are kept. Kernels that must know the range of
        the values beforehand are left out while it requires a gradient: freeze the layer for inference by
        ``layer.requires_grad_(False)``.
    bias : torch.nn.Parameter or None
    matrix : CSBMatrix
        The weights as they are now, sharing the parameter's memory.

    Raises
    ------
    MatrixError
        If the matrix is not sound, or the bias does not fit it.
    OptionError
        If the layout is unknown.

    Notes
    -----
    The weights' gradient exists at the stored positions only: training keeps the sparsity pattern. A second
    derivative is not offered. The state dict holds the structure beside the values, so loading one gives a
    layer another pattern, too.

    Examples
    --------
    >>> import torch
    >>> from csbviz.nn import CSBLinear
    >>> layer = CSBLinear.from_linear(torch.nn.Linear(64, 32), sparsity=0.9, block_shape=16)
    >>> layer
    CSBLinear(in_features=64, out_features=32, nnz=205, sparsity=0.900, block_shape=(16, 16), bias=True)
    >>> layer(torch.ones(8, 10, 64)).shape
    torch.Size([8, 10, 32])
    """

    def __init__(self, matrix: CSBMatrix, bias=None, *, layout: str = "tokens_first"):
        super().__init__()
        if not isinstance(matrix, CSBMatrix):
            raise MatrixError(f"The weights are a {type(matrix).__name__}; a CSBMatrix is needed.")
        if layout not in LAYOUTS:
            raise OptionError(f"There is no layout {layout!r}; known are {', '.join(LAYOUTS)}.")
        matrix.check_format()
        self.layout = layout
        self._structure = Structure.of(matrix)
        self._matrix, self._bound = None, None
        self.values = torch.nn.Parameter(_as_tensor(matrix.values))
        if bias is not None:
            bias = _as_tensor(bias)
            if tuple(bias.shape) != (matrix.shape[0],):
                raise MatrixError(f"The bias has shape {tuple(bias.shape)}; needed is ({matrix.shape[0]},).")
            bias = torch.nn.Parameter(bias.to(self.values.dtype))
        self.register_parameter("bias", bias)

    @classmethod
    def from_linear(
        cls,
        linear: torch.nn.Linear,
        mask=None,
        sparsity: float | None = None,
        block_shape=None,
        order: str = "row",
        layout: str = "tokens_first",
    ) -> CSBLinear:
        """Convert a dense layer; it is left as it is, and the new layer lies on the same device.

        Parameters
        ----------
        linear : torch.nn.Linear
        mask : torch.Tensor or numpy.ndarray of bool, optional
            (out_features, in_features): which weights to store, those that are zero included.
        sparsity : float, optional
            Store all but this share of the weights, those of the smallest magnitude left out.
            Without `mask` and `sparsity` the weights other than zero are stored.
        block_shape : (int, int) or int, optional
            Blocks that suit the device by default.
        order : {"row", "col", "morton"}
            Order of the entries inside a block.
        layout : {"tokens_first", "features_first"}
            See the class.

        Raises
        ------
        OptionError
            If both `mask` and `sparsity` are given, or one of the options is not valid.
        MatrixError
            If the mask does not fit the weights.
        """
        weight = linear.weight.detach()
        dense = weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight
        dense = dense.cpu().numpy()
        kept = _kept(dense, mask, sparsity)
        if block_shape is None:
            block_shape = choose_block_shape(dense.shape, int(kept.sum()), device=weight.device.type)
        matrix = CSBMatrix.from_scipy(_csr_of(dense, kept), block_shape, order).astype(weight.dtype)
        bias = None if linear.bias is None else linear.bias.detach().clone()
        return cls(matrix, bias, layout=layout).to(weight.device)

    @classmethod
    def blank(
        cls,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: torch.dtype = torch.float32,
        layout: str = "tokens_first",
    ) -> CSBLinear:
        """A layer without entries, whose weights and structure `load_state_dict` brings."""
        import scipy.sparse

        empty = scipy.sparse.csr_matrix((out_features, in_features), dtype=np.float32)
        matrix = CSBMatrix.from_scipy(empty).astype(dtype)
        return cls(matrix, torch.zeros(out_features, dtype=dtype) if bias else None, layout=layout)

    def to_linear(self) -> torch.nn.Linear:
        """A `torch.nn.Linear` with the same weights, zeros included, on the same device."""
        options = {"device": self.values.device, "dtype": self.values.dtype}
        linear = torch.nn.Linear(self.in_features, self.out_features, self.bias is not None, **options)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(self.matrix.to_dense()))
            if self.bias is not None:
                linear.bias.copy_(self.bias)
        return linear

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """The layer's output.

        Parameters
        ----------
        X : torch.Tensor
            (..., in_features), or (in_features, ...) with the layout "features_first"; of the dtype and on
            the device of the layer, any strides.

        Returns
        -------
        torch.Tensor
            (..., out_features) or (out_features, ...), contiguous.

        Raises
        ------
        MatrixError
            If X does not fit.
        UnavailableError
            If no kernel can run here.
        """
        if torch.compiler.is_compiling():  # the product runs beside the compiler's graphs
            return torch.compiler.disable(self._multiply)(X)
        return self._multiply(X)

    def _multiply(self, X: torch.Tensor) -> torch.Tensor:
        first = self.layout == "features_first"
        features = X.shape[0 if first else -1] if X.ndim else 0
        if X.ndim == 0 or features != self.in_features:
            raise MatrixError(
                f"X has shape {tuple(X.shape)}; the layer needs {self.in_features} features in the "
                f"{'first' if first else 'last'} dimension."
            )
        if X.device != self.values.device:
            raise MatrixError(f"X lives on {X.device}, the layer on {self.values.device}; move one.")
        rest = X.shape[1:] if first else X.shape[:-1]
        tokens = rest.numel()
        flat = X.reshape((features, tokens) if first else (tokens, features))
        Y = layer_product(flat, self.values, self.bias, CSBWeights(self.matrix), first)
        return Y.reshape((self.out_features, *rest) if first else (*rest, self.out_features))

    # ---- what it holds -------------------------------------------------------------------------------------

    @property
    def matrix(self) -> CSBMatrix:
        """The weights as a CSB matrix in the memory of `values`, wherever that is now."""
        if self._place() != self._bound:
            self._bind()
            self._bound = self._place()
        return self._matrix

    def _place(self) -> tuple:
        """What the matrix depends on: where the values are, and what they are where they must not change."""
        values = self.values
        change = None if values.requires_grad else version_of(values)
        return values.data_ptr(), values.device, values.dtype, values.shape, change

    def _bind(self) -> None:
        values, needed = self.values, self._structure.nnz
        if values.device.type not in ("cpu", "cuda"):
            raise OptionError(f"The layer lives on {values.device}; its kernels run on cpu and cuda.")
        if tuple(values.shape) != (needed,):
            raise MatrixError(f"The values have shape {tuple(values.shape)}; the structure has {needed}.")
        if not values.is_contiguous() or (values.is_cuda and values.data_ptr() % _ALIGNMENT):
            values.data = values.detach().clone(memory_format=torch.contiguous_format)
        self._matrix = self._structure.matrix(values)

    @property
    def in_features(self) -> int:
        """Features of X, the columns of the weights."""
        return self._structure.shape[0 if self._structure.transposed else 1]

    @property
    def out_features(self) -> int:
        """Features of Y, the rows of the weights."""
        return self._structure.shape[1 if self._structure.transposed else 0]

    @property
    def nnz(self) -> int:
        """Number of stored weights."""
        return self._structure.nnz

    @property
    def sparsity(self) -> float:
        """Share of weights that are not stored."""
        cells = self.in_features * self.out_features
        return 1 - self.nnz / cells if cells else 0.0

    def extra_repr(self) -> str:
        block_shape = self._structure.block_shape
        text = (
            f"in_features={self.in_features}, out_features={self.out_features}, nnz={self.nnz}, "
            f"sparsity={self.sparsity:.3f}, "
            f"block_shape={block_shape[::-1] if self._structure.transposed else block_shape}, "
            f"bias={self.bias is not None}"
        )
        return text if self.layout == LAYOUTS[0] else f"{text}, layout={self.layout!r}"

    # ---- state ---------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict:
        # A copy, here or in another process, has its values in another place.
        return self.__dict__ | {"_matrix": None, "_bound": None}

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, tensor in self._structure.tensors().items():
            destination[prefix + name] = tensor

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        found = {name: state_dict[prefix + name] for name in TENSORS if prefix + name in state_dict}
        try:
            self._take_structure(found, state_dict.get(prefix + "values"))
        except (MatrixError, OptionError) as error:
            errors.append(f"{prefix.rstrip('.') or 'CSBLinear'}: {error}")
            return
        arguments = state_dict, prefix, local_metadata, strict, missing, unexpected, errors
        super()._load_from_state_dict(*arguments)
        for name in found:
            if prefix + name in unexpected:
                unexpected.remove(prefix + name)

    def _take_structure(self, tensors: dict, values) -> None:
        """Take over the structure of a state dict, and make room for its values."""
        structure = structure_from_tensors(tensors)
        shape = structure.shape[::-1] if structure.transposed else structure.shape
        if shape != (self.out_features, self.in_features):
            raise MatrixError(
                f"the weights are {shape[0]} x {shape[1]}; "
                f"the layer has {self.out_features} x {self.in_features}."
            )
        if values is None or tuple(values.shape) != (structure.nnz,):
            found = "missing" if values is None else f"of shape {tuple(values.shape)}"
            raise MatrixError(f"the values are {found}; the structure needs ({structure.nnz},).")
        if structure.same_as(self._structure):
            return
        self._structure, self._bound = structure, None
        with torch.no_grad():
            self.values.data = self.values.new_empty(structure.nnz)
            self.values.grad = None


def _as_tensor(array) -> torch.Tensor:
    """A tensor in the same memory; read-only memory, which a tensor cannot be, is copied."""
    if isinstance(array, torch.Tensor):
        return array.detach()
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _kept(dense: np.ndarray, mask, sparsity: float | None) -> np.ndarray:
    """Which weights to store, bool of the weights' shape."""
    if mask is not None and sparsity is not None:
        raise OptionError("Both a mask and a sparsity are given; one of them says what is stored.")
    if mask is not None:
        mask = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
        if mask.shape != dense.shape or mask.dtype != np.bool_:
            raise MatrixError(
                f"The mask is {mask.dtype} of shape {mask.shape}; needed is bool of shape {dense.shape}."
            )
        return mask
    if sparsity is not None:
        from csbviz.pruning import prune_array

        dense, _ = prune_array(dense, "magnitude", sparsity)
    return dense != 0


def _csr_of(dense: np.ndarray, kept: np.ndarray):
    """The weights at the positions of a mask as CSR, zeros among them stored."""
    import scipy.sparse

    begin = np.concatenate(([0], np.cumsum(kept.sum(axis=1))))
    return scipy.sparse.csr_matrix((dense[kept], np.nonzero(kept)[1], begin), shape=dense.shape)
