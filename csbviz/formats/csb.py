"""Compressed Sparse Blocks: one stored copy of a sparse matrix that serves A @ B and A.T @ B alike."""

from __future__ import annotations

from operator import attrgetter

import numpy as np

from ..errors import MatrixError, OptionError, UnavailableError
from . import dtypes, remote
from .checks import check_block_shape, check_entries, check_structure, grid_of
from .index_forms import resolve_block_shape, with_index
from .order import check_order, log2_of, transposed_order

__all__ = ["CSBMatrix", "set_matmul_hook"]

_matmul_hook = None


def set_matmul_hook(function) -> None:
    """Say which function computes ``A @ B``: ``function(A, B) -> C``; importing the package does."""
    global _matmul_hook
    _matmul_hook = function


class CSBMatrix:
    """Sparse matrix in Compressed Sparse Blocks.

    Ways to construct:
        ``CSBMatrix.from_scipy(S, block_shape=None, order="row", index="auto")``
            from any sparse matrix of SciPy or CuPy; duplicates are summed, explicit zeros stay entries
        ``CSBMatrix.from_dense(D, ...)``
            from a 2-D NumPy or CuPy array; every value other than zero becomes an entry
        ``CSBMatrix.from_torch(T, ...)``
            from a 2-D PyTorch tensor, dense or sparse, of any device; keeps bfloat16
        ``CSBMatrix.load(path)``
            from a file that `save` wrote
        ``CSBMatrix(values, row_ind, col_ind, blk_ptr, shape, block_shape, order="row", packed_ind=None)``
            from its arrays, which are not copied

    ``block_shape=None`` lets `choose_block_shape` choose, an int means a square block.

    Attributes
    ----------
    values : (nnz,) float16, float32 or float64 array, or bfloat16 tensor of PyTorch
        The entries, block after block.
    row_ind, col_ind : (nnz,) uint8 or uint16 arrays
        Row and column inside the block, as this view sees them; uint8 when that side of the block is at most
        256.
    packed_ind : (nnz,) uint8 array or None
        The one-byte form ``row << lg(block columns) | column`` (of the stored matrix) when the matrix was
        built with ``index="packed"``; `row_ind` and `col_ind` then decode it on demand.
    blk_ptr : (blocks + 1,) int32 array (int64 when nnz is 2**31 or more)
        Where each block's entries begin: a dense table over all blocks, row of blocks after row of blocks of
        the stored matrix, also in a transposed view. Ask `block_slice` and `block_nnz` for a view's blocks.
    shape, block_shape : (int, int)
        Rows and columns of the matrix and of a block, as this view sees them. Block sides are powers of two.
    order : {"row", "col", "morton"}
        Order of the entries inside a block, as this view meets them.
    transposed : bool
        Whether this is a transposed view of the stored arrays.
    cache : dict
        Where operations keep what they prepared for this matrix; shared with the transposed view, never
        saved.

    Notes
    -----
    Blocks at the lower and right edge may be ragged. The transposed view shares all arrays: with row and
    column index swapped and the blocks walked by column of blocks it is CSB again, which is why no second
    copy is needed for ``A.T @ B``. Treat the arrays as read-only: the view and prepared plans see any change.

    Examples
    --------
    >>> import numpy as np
    >>> from csbviz.formats import CSBMatrix
    >>> D = np.array([[1, 0, 0, 0], [2, 0, 0, 3], [0, 0, 4, 0]], dtype=np.float32)
    >>> A = CSBMatrix.from_dense(D, block_shape=2)
    >>> A
    CSBMatrix 3 x 4, float32, 4 entries, 2 x 2 blocks of 2 x 2, row order
    >>> A.blk_ptr.tolist()
    [0, 2, 3, 3, 4]
    >>> A.row_ind.tolist(), A.col_ind.tolist()
    ([0, 1, 1, 0], [0, 0, 1, 0])
    >>> A.T.shape, A.T.row_ind is A.col_ind
    ((4, 3), True)
    >>> bool((A.T.to_dense() == D.T).all())
    True
    >>> A.values[A.block_slice(1, 1)].tolist()
    [4.0]

    References
    ----------
    Buluç, Fineman, Frigo, Gilbert, Leiserson: Parallel sparse matrix-vector and matrix-transpose-vector
    multiplication using compressed sparse blocks, SPAA 2009.
    """

    # NumPy and SciPy operands hand `B @ A` to __rmatmul__ instead of making an object array of A.
    __array_ufunc__ = None

    _remote = None  # where the arrays lie until they are asked for, when that is on a GPU

    def __init__(
        self, values, row_ind, col_ind, blk_ptr, shape, block_shape, order="row", *, packed_ind=None
    ):
        self.values, self.packed_ind, self.blk_ptr = values, packed_ind, blk_ptr
        self._row_ind, self._col_ind = row_ind, col_ind
        self.shape = tuple(int(n) for n in shape)
        self.block_shape = check_block_shape(block_shape)
        self.order = check_order(order)
        self.transposed = False
        self.cache = {}
        self._base = None
        check_structure(self)

    # ---- ways to construct ---------------------------------------------------------------------------------

    @classmethod
    def from_scipy(cls, S, block_shape=None, order="row", index="auto") -> CSBMatrix:
        """Convert a SciPy sparse matrix, which is left as it is.

        Parameters
        ----------
        S : SciPy or CuPy sparse matrix or array, M x N
            Any format; CuPy's CSR is converted on its GPU. Unsorted rows and duplicates are ordinary:
            duplicates are summed. Integers and bools become floats.
        block_shape : (int, int), int or None
            Powers of two up to 65536; None asks `choose_block_shape`.
        order : {"row", "col", "morton"}
            Order of the entries inside a block.
        index : {"auto", "split", "packed"}
            "split" (which "auto" means) keeps two index arrays; "packed" keeps one byte for both, in blocks
            of at most 256 cells.

        Raises
        ------
        MatrixError
            If S is no 2-D sparse matrix of real numbers or its arrays are inconsistent.
        OptionError
            If the block shape, order or index form is none of those above.
        """
        from . import convert

        if remote.is_remote(S):
            return remote.convert(cls, S, block_shape, order, index)
        S = convert.as_csr(S)
        block_shape = resolve_block_shape(block_shape, S.shape, S.nnz)
        return with_index(cls(*convert.csr_to_csb(S, block_shape, check_order(order)), order), index)

    @classmethod
    def from_dense(cls, D, block_shape=None, order="row", index="auto") -> CSBMatrix:
        """Convert a 2-D array of NumPy or CuPy; values other than zero become entries. See `from_scipy`."""

        if dtypes.is_torch(D):
            return cls.from_torch(D, block_shape, order, index)
        if remote.is_remote(D):
            return remote.convert(cls, D, block_shape, order, index)
        D = np.asarray(D)
        if D.ndim != 2:
            raise MatrixError(f"The array has {D.ndim} dimensions; a matrix needs 2.")
        D = dtypes.float_values(D)
        return cls._from_dense_bits(
            dtypes.bits_of(np.ascontiguousarray(D)), dtypes.dtype_name(D), block_shape, order, index
        )

    @classmethod
    def _from_dense_bits(cls, bits, dtype, block_shape, order, index):
        from . import convert

        nnz = convert.count_nonzero_bits(bits)
        block_shape = resolve_block_shape(block_shape, bits.shape, nnz)
        arrays = convert.dense_to_csb(bits, dtype, block_shape, check_order(order), nnz)
        return with_index(cls(*arrays, order), index)

    @classmethod
    def from_torch(cls, T, block_shape=None, order="row", index="auto") -> CSBMatrix:
        """Convert a 2-D PyTorch tensor, dense or sparse (COO, CSR, CSC), of any device. See `from_scipy`."""
        from . import convert

        if remote.is_remote(T):
            return remote.convert(cls, T, block_shape, order, index)
        T = T.detach().cpu()
        if T.ndim != 2:
            raise MatrixError(f"The tensor has {T.ndim} dimensions; a matrix needs 2.")
        dtype = str(T.dtype).removeprefix("torch.")
        if not T.is_sparse and T.layout == convert.strided_layout():
            if dtype == "bfloat16":
                return cls._from_dense_bits(dtypes.bits_of(T.contiguous()), dtype, block_shape, order, index)
            return cls.from_dense(T.numpy(), block_shape, order, index)
        A = cls.from_scipy(convert.torch_sparse_to_scipy(T), block_shape, order, index)
        return A.astype(dtype) if dtype in dtypes.VALUE_BYTES else A

    @classmethod
    def load(cls, path_or_file, name=None) -> CSBMatrix:
        """Read a matrix that `save` wrote (.npz or .safetensors). See `csb_files.load_csb`."""
        from .csb_files import load_csb

        return load_csb(path_or_file, name=name)

    def __getattr__(self, name):
        # Only asked for attributes that are not there: arrays that still lie on a GPU.
        return remote.fetch(self, name)

    # ---- conversions ---------------------------------------------------------------------------------------

    def to_scipy(self):
        """Return a `scipy.sparse.csr_matrix` with sorted rows; float16 and bfloat16 become float32."""
        from . import convert

        return convert.csb_to_csr(self)

    def to_dense(self) -> np.ndarray:
        """Return a 2-D array of the matrix' dtype; bfloat16, which NumPy lacks, becomes float32."""
        dense = np.zeros(self.shape, dtype=dtypes.as_numpy(self.values[:0]).dtype)
        dense[self.coordinates()] = dtypes.as_numpy(self.values)
        return dense

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Return row and column in the matrix of every entry, in stored order, as two (nnz,) int64 arrays."""
        base = self.stored
        block = np.repeat(np.arange(len(self.blk_ptr) - 1), np.diff(self.blk_ptr))
        block_row, block_col = np.divmod(block, max(base.grid[1], 1))
        rows = (block_row << log2_of(base.block_shape[0])) + base.row_ind
        cols = (block_col << log2_of(base.block_shape[1])) + base.col_ind
        return (cols, rows) if self.transposed else (rows, cols)

    def astype(self, dtype) -> CSBMatrix:
        """Return the matrix with values of another dtype; index arrays are shared, `cache` starts empty.

        Raises
        ------
        OptionError, MatrixError
            If no CSB matrix holds that dtype, or a finite value does not fit it.
        """
        base = self.stored
        values = dtypes.cast_values(base.values, dtypes.normal_dtype(dtype))
        arrays = values, base._row_ind, base._col_ind, base.blk_ptr
        cast = type(self)(*arrays, base.shape, base.block_shape, base.order, packed_ind=base.packed_ind)
        return cast.T if self.transposed else cast

    def save(self, path_or_file, name=None) -> None:
        """Write arrays and `transposed` flag to a .npz or .safetensors file. See `csb_files.save_csb`."""
        from .csb_files import save_csb

        save_csb(self, path_or_file, name=name)

    # ---- what it holds -------------------------------------------------------------------------------------

    @property
    def row_ind(self) -> np.ndarray:
        if self.packed_ind is None:
            return self._row_ind
        return self._decoded_column() if self.transposed else self._decoded_row()

    @property
    def col_ind(self) -> np.ndarray:
        if self.packed_ind is None:
            return self._col_ind
        return self._decoded_row() if self.transposed else self._decoded_column()

    def _decoded_row(self):
        return self.packed_ind >> np.uint8(log2_of(self.stored_block_shape[1]))

    def _decoded_column(self):
        return self.packed_ind & np.uint8(self.stored_block_shape[1] - 1)

    @property
    def T(self) -> CSBMatrix:
        """The transposed view, made in constant time: it shares every array and the cache.

        The view refers to the matrix and not the other way round, so dropping both frees the arrays at once.
        """
        if self._base is not None:
            return self._base
        view = object.__new__(type(self))
        view.packed_ind, view._remote = self.packed_ind, self._remote
        if self._remote is None:
            view.values, view.blk_ptr = self.values, self.blk_ptr
            view._row_ind, view._col_ind = self._col_ind, self._row_ind
        view.shape, view.block_shape = self.shape[::-1], self.block_shape[::-1]
        view.order, view.transposed = transposed_order(self.order), True
        view.cache, view._base = self.cache, self
        return view

    @property
    def stored(self) -> CSBMatrix:
        """The matrix as it lies in memory: this one, or the one that this view transposes."""
        return self if self._base is None else self._base

    @property
    def stored_shape(self) -> tuple[int, int]:
        return self.stored.shape

    @property
    def stored_block_shape(self) -> tuple[int, int]:
        return self.stored.block_shape

    @property
    def stored_order(self) -> str:
        return self.stored.order

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of blocks of this view."""
        return grid_of(self.shape, self.block_shape)

    @property
    def nnz(self) -> int:
        """Number of entries (explicit zeros count)."""
        return len(self.values) if self._remote is None else self._remote.nnz

    @property
    def sparsity(self) -> float:
        """Share of cells without an entry; 0 for a matrix without cells."""
        cells = self.shape[0] * self.shape[1]
        return 1 - self.nnz / cells if cells else 0.0

    @property
    def dtype(self) -> str:
        return dtypes.dtype_name(self.values) if self._remote is None else self._remote.dtype

    @property
    def index_bytes(self) -> int:
        """Bytes of the indices inside blocks."""
        arrays = (self._row_ind, self._col_ind) if self.packed_ind is None else (self.packed_ind,)
        return sum(array.nbytes for array in arrays)

    @property
    def nbytes(self) -> int:
        """Bytes of values, indices and block pointers."""
        return self.values.nbytes + self.index_bytes + self.blk_ptr.nbytes

    def block_nnz(self) -> np.ndarray:
        """Return the number of entries of every block of this view, an integer array of shape `grid`."""
        counts = np.diff(self.blk_ptr).reshape(self.stored.grid)
        return counts.T if self.transposed else counts

    def block_slice(self, i: int, j: int) -> slice:
        """Return where the entries of block (i, j) of this view lie in `values`, `row_ind` and `col_ind`.

        Raises
        ------
        OptionError
            If there is no such block.
        """
        rows, cols = self.grid
        if not (0 <= i < rows and 0 <= j < cols):
            raise OptionError(f"Block ({i}, {j}) does not exist; the matrix has {rows} x {cols} blocks.")
        block = j * rows + i if self.transposed else i * cols + j
        return slice(int(self.blk_ptr[block]), int(self.blk_ptr[block + 1]))

    def check_format(self, full_check: bool = True) -> None:
        """Check the arrays against each other; with `full_check` also every pointer and index.

        Raises
        ------
        MatrixError
            With what was found and what is needed.
        """
        check_structure(self.stored)
        if full_check:
            check_entries(self.stored)

    # ---- products ------------------------------------------------------------------------------------------

    def __matmul__(self, B):
        if _matmul_hook is None:
            raise UnavailableError("No product is registered; write `import csbviz` before `A @ B`.")
        return _matmul_hook(self, B)

    def __rmatmul__(self, B):
        return (self.T @ B.T).T

    def __reduce__(self):
        # Copies and other processes get the arrays, not what operations keep in the cache.
        if self._base is not None:
            return attrgetter("T"), (self._base,)
        arrays = self.values, self._row_ind, self._col_ind, self.blk_ptr
        return _rebuild, (*arrays, self.shape, self.block_shape, self.order, self.packed_ind)

    def __repr__(self) -> str:
        rows, cols = self.shape
        what = "transposed view, " if self.transposed else ""
        blocks = "{} x {} blocks of {} x {}".format(*self.grid, *self.block_shape)
        return (
            f"CSBMatrix {rows} x {cols}, {what}{self.dtype}, {self.nnz} entries, {blocks}, {self.order} order"
        )


def _rebuild(*args) -> CSBMatrix:
    return CSBMatrix(*args[:-1], packed_ind=args[-1])
