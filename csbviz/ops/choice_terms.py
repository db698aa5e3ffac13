"""What the cost model counts of a launch: from the lengths of the rows, the launch's shape and the GPU.

Forms of launches are counted differently. "blocks": CTAs multiply dense tiles that they decompress
(csb_wgmma, csb_few, csb_mma). "panel": CTAs hold a panel of B in shared memory; "direct": warps read B
through the L1 cache; "pieces": so do groups of lanes with a few entries of a row each (all three csb_rows).
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from csbviz.ops.cuda import panel_launch
from csbviz.ops.registry import get_kernel, is_transposed

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix
    from csbviz.ops.cuda.module import DeviceLimits

__all__ = ["TERMS", "Structure", "Variant", "structure_of", "tensor_slowdown", "terms", "variant_of"]

TERMS = {"blocks": 13, "panel": 15, "direct": 22, "pieces": 18}
"""Number of terms of each form."""

_STEP = 64
"""Inner dimension of a step of a CTA that multiplies blocks."""

_CLUSTER_SHARE = {4: 120 / 132, 8: 112 / 132}
"""Share of the multiprocessors that clusters of so many CTAs can fill: a cluster lies inside one GPC, and on
an H100 128 CTAs in clusters of 4 or 8 took two rounds where 104 took one."""

_CLUSTERED = ("csb_few",)
"""Kernels whose CTAs that share a sum are a cluster, beside those with a parameter `cluster`."""

_L1_BYTES = (60e3, 120e3, 250e3, 500e3)
"""Sizes at which the columns of B that a multiprocessor reads again cease to fit its L1 cache, about."""

_LINE = 32
"""Values of a cache line."""

_TENSOR_RATE = {(7, 5): 512, (8, 0): 1024, (8, 6): 512, (8, 7): 1024, (8, 9): 512, (12, 0): 512}
"""Multiply-adds of float16 values with float32 sums that the tensor cores of a multiprocessor do in a clock,
by capability, from data sheets. GeForce cards do half as many: three of them for one of float32 accuracy gain
little there over CUDA cores."""

_TENSOR_RATE_FITTED = 1270
"""What mma.sync reaches on the H100 whose times were fitted: about 62 % of the 2048 that wgmma can use."""

_THREADS_RESIDENT = 1024
"""Of the CUDA-core kernels, by their registers."""


class Structure:
    """What the model asks of a matrix in one direction.

    Parameters
    ----------
    rows, inner : int
        Rows of C, rows of B.
    lengths : array of int
        Entries of each row.
    turned : bool
        Whether the rows lie across the order in which blocks keep their entries, as in A.T@B.
    pieces : callable, optional
        Gives what `pieces` gives; by default every row is cut as seldom as can be.

    Attributes
    ----------
    rows, inner, turned
        As given.
    nnz : int
        Entries.
    longest : int
        Entries of the longest row.
    """

    def __init__(
        self,
        rows: int,
        inner: int,
        lengths: np.ndarray,
        turned: bool = False,
        pieces: Callable[[int], tuple[int, int]] | None = None,
    ):
        self.rows, self.inner, self.turned = rows, inner, turned
        self.nnz, self.longest = int(lengths.sum()), int(lengths.max(initial=0))
        self._lengths, self._heaviest = lengths, {}
        self._cut = self._cut_seldom if pieces is None else pieces

    @classmethod
    def summed(
        cls,
        rows: int,
        inner: int,
        turned: bool,
        nnz: int,
        longest: int,
        heaviest: dict[int, int],
        pieces: dict[int, tuple[int, int]],
    ) -> Structure:
        """A structure whose lengths of rows are not at hand, only what `heaviest` and `pieces` gave."""
        found = cls(rows, inner, np.zeros(0, np.int64), turned, pieces.__getitem__)
        found.nnz, found.longest, found._lengths = nnz, longest, None
        found._heaviest = dict(heaviest)
        return found

    def unturned(self) -> Structure:
        """The same rows in the order in which blocks keep their entries, as if their matrix was stored."""
        if not self.turned:
            return self
        found = copy.copy(self)
        found.turned = False
        return found

    def heaviest(self, tile_m: int) -> int:
        """Entries of the fullest tile of `tile_m` rows."""
        if tile_m not in self._heaviest:
            begins = np.arange(0, self.rows, tile_m)
            sums = np.add.reduceat(self._lengths, begins) if begins.size else np.zeros(1, np.int64)
            self._heaviest[tile_m] = int(sums.max())
        return self._heaviest[tile_m]

    def pieces(self, length: int) -> tuple[int, int]:
        """Pieces of at most `length` entries that are of one row at most, and of all; an empty row is one."""
        return self._cut(length)

    def _cut_seldom(self, length: int) -> tuple[int, int]:
        counts = np.maximum(1, -(-self._lengths // length))
        return int(counts.max(initial=0)), int(counts.sum())


def structure_of(A: CSBMatrix, op: str) -> Structure:
    """The structure for an operation, kept with the matrix."""
    transpose = is_transposed(op)
    key = ("structure", transpose)
    if key not in A.cache:
        coordinates = A.coordinates()
        for turned, view in ((False, A), (True, A.T)):
            lengths = np.bincount(coordinates[turned], minlength=view.shape[0])
            pieces = functools.partial(_pieces_of, A, turned)
            A.cache["structure", turned] = Structure(*view.shape, lengths, turned, pieces)
    return A.cache[key]


def _pieces_of(A: CSBMatrix, turned: bool, length: int) -> tuple[int, int]:
    """As csb_rows cuts them: also where the next entry is too far away for the code of a step."""
    found = panel_launch.structure_of(A, turned).pieces(length)
    return found.most, found.total


class Variant(NamedTuple):
    """A launch as the model sees it.

    Attributes
    ----------
    form : str
        A key of `TERMS`.
    group : str
        Launches that share their costs.
    config : str
        The launch without what the terms count; launches of a configuration share a factor.
    settings : dict
        Its parameters; blocks have ``tile_m``, ``tile_n``, ``split``, ``clustered`` and
        ``tensor_cores``.
    """

    form: str
    group: str
    config: str
    settings: dict[str, Any]


def variant_of(kernel: str, params: dict[str, Any]) -> Variant | None:
    """How the model sees a setting of a kernel, or None for parameters that it does not understand.

    Parameters
    ----------
    kernel : str
        Name in the registry.
    params : dict
        Its tunables by name; others are passed over. Needed are ``form``, or ``tile_m`` with or without a
        ``tile_n``, or ``tile`` as in "64x128"; ``split`` or ``splits`` says how many CTAs share a sum.
    """
    known = {name: params[name] for name in get_kernel(kernel).tunables if name in params}
    if "form" in known:
        return Variant(known["form"], f"{known['form']} {known['tile_n']}", _words(known), known)
    if "tile" in known:
        # What follows the columns, as in "64x128/32", belongs to the configuration only.
        tile_m, tile_n = (int(side) for side in known["tile"].partition("/")[0].split("x"))
    elif "tile_m" in known:
        tile_m, tile_n = known["tile_m"], known.get("tile_n", _STEP)
    else:
        return None
    clustered = "cluster" in known or kernel.startswith(_CLUSTERED)
    split = known.pop("split", None) or known.pop("splits", None) or 1
    settings = {"tile_m": tile_m, "tile_n": tile_n, "split": split, "clustered": clustered}
    settings["tensor_cores"] = "mma" in kernel
    words = _words(known)
    return Variant("blocks", words, words, settings)


def _words(known: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in known.items())


def terms(
    structure: Structure, variant: Variant, n: int, device: DeviceLimits, resident: int
) -> tuple[float, ...]:
    """How often what the model counts occurs in a launch.

    Parameters
    ----------
    structure : Structure
        Of the matrix in this direction.
    variant : Variant
        The launch.
    n : int
        Columns of B.
    device : DeviceLimits
        The GPU.
    resident : int
        CTAs that a multiprocessor runs at once; of blocks only, others say it by what they take.
    """
    if variant.form == "blocks":
        return _blocks(structure, variant.settings, n, device, resident)
    count = {"panel": _panel, "direct": _direct, "pieces": _pieces}[variant.form]
    return count(structure, variant.settings, n, device)


def tensor_slowdown(device: DeviceLimits) -> float:
    """How much longer a step of tensor cores takes in a multiprocessor than on the GPU of the fit, in clocks.

    Notes
    -----
    From data sheets; of other GPUs than the H100 nothing was measured.
    """
    rate = _TENSOR_RATE.get(tuple(device.capability))
    if rate is None:
        return 1.0
    return _TENSOR_RATE_FITTED / (rate / 2 if "GeForce" in device.name else rate)


def _up(number: int, unit: int) -> int:
    return -(-number // unit)


def _blocks(structure: Structure, launch: dict, n: int, device: DeviceLimits, resident: int) -> tuple:
    rows, inner, split = structure.rows, structure.inner, launch["split"]
    row_tiles, column_tiles = _up(rows, launch["tile_m"]), _up(n, launch["tile_n"])
    ctas, places = row_tiles * column_tiles * split, device.multiprocessors
    if launch["clustered"]:
        places = int(places * _CLUSTER_SHARE.get(split, 1.0))
    rounds = _up(ctas, max(1, places * resident))
    load = ctas / device.multiprocessors
    steps = _up(_up(inner, _STEP), split) * (tensor_slowdown(device) if launch.get("tensor_cores") else 1.0)
    return (
        1.0,
        rounds,
        rounds * steps,
        rounds * structure.heaviest(launch["tile_m"]) / split * 1e-3,  # decompressed by the last CTA
        load * structure.nnz / max(1, row_tiles * split) * 1e-3,  # decompressed by all
        load * steps,
        inner * n * 1e-6,  # B, split or read
        rows * n * 1e-6,  # C
        (split - 1) * rows * n * 1e-6,  # partial sums
        row_tiles * inner * column_tiles * launch["tile_n"] * 1e-6,  # B, read by all tiles
        column_tiles * structure.nnz * 1e-6,  # A, read by all tiles
        1.0 if split > 1 else 0.0,
        rounds * structure.longest * 1e-3,
    )


def _panel(structure: Structure, launch: dict, n: int, device: DeviceLimits) -> tuple:
    tile_m, tile_n, warps, chunk = (launch[name] for name in ("tile_m", "tile_n", "warps", "chunk_k"))
    rows, tiles = structure.rows, _up(n, tile_n)
    each = min(launch["column_tiles"], tiles)
    row_tiles, chunks = max(1, _up(rows, tile_m)), max(1, _up(structure.inner, chunk))
    ctas = row_tiles * _up(tiles, each)
    heaviest = structure.heaviest(tile_m)
    mean = heaviest / tile_m / chunks
    # Four rows lie side by side in shared memory and take as much as the longest of them.
    slack = 1.0 if chunks == 1 else 1.0 + 1.03 * mean**0.5 / max(mean, 1.0)
    places = heaviest * slack / (1 if launch["resident"] else chunks) + 16
    shared = launch["buffers"] * chunk * tile_n * 4 + places * 8 + 4 * chunks * tile_m + 1024
    by_threads = _THREADS_RESIDENT // (32 * warps)
    resident = max(1, min(int(device.shared_per_multiprocessor // shared), by_threads))
    busy = min(resident, _up(ctas, device.multiprocessors))
    rounds = _up(ctas, device.multiprocessors * resident)
    entries, panel = structure.nnz / row_tiles * 1e-3, chunk * tile_n * 4e-6
    wide = tile_n / 32
    gathers = rounds * busy * each * entries * wide
    return (
        1.0,
        rounds,
        rounds * each * chunks,
        rounds * busy * entries,  # staged
        rounds * busy * panel,  # of the first chunk, which nothing overlaps
        rounds * busy * each * chunks * panel,
        gathers,
        gathers if chunks > 1 else 0.0,  # the rows of a chunk are less even
        rounds * each * structure.longest * 1e-3,
        rows * n * 1e-6,
        rounds * busy * each * heaviest * 1e-3 * wide,
        rounds * heaviest * 1e-3 * each,
        ctas / device.multiprocessors * each * entries * wide,
        row_tiles * structure.inner * tiles * tile_n * 1e-6,
        _straddles(n) * rounds * busy * each * chunks * panel,
    )


def _direct(structure: Structure, launch: dict, n: int, device: DeviceLimits) -> tuple:
    tile_n, split, rows, nnz = launch["tile_n"], launch["split"], structure.rows, structure.nnz
    tiles = _up(n, tile_n)
    load = rows * tiles * split / (device.multiprocessors * _THREADS_RESIDENT / 32)
    rounds = -int(-load // 1)
    mean, longest = nnz / max(1, rows) / split, structure.longest / split
    gathers = nnz * tiles * tile_n * 1e-6
    slice_bytes = structure.inner * tile_n * 4
    return (
        1.0,
        _up(structure.longest, 32 * split),
        rounds * (1.0 + mean / 32),
        load,
        load * mean * tile_n / 1024,
        gathers,
        nnz * tiles * 1e-6,
        rows * n * 1e-6,
        longest * 1e-2,
        rounds * mean * 1e-2,
        rounds,
        (split - 1) * load,
        structure.inner * n * 1e-6,
        *(gathers * max(0.0, 1.0 - l1 / max(1, slice_bytes)) for l1 in _L1_BYTES),
        rows * tiles * 1e-3,
        longest * tile_n * 1e-4,
        *_of_entries(structure, launch, n),
    )


def _pieces(structure: Structure, launch: dict, n: int, device: DeviceLimits) -> tuple:
    tile_n, length, warps, nnz = launch["tile_n"], launch["length"], launch["warps"], structure.nnz
    tiles, (most, pieces) = _up(n, tile_n), structure.pieces(length)
    # A lane has four columns; a CTA has rows of one block row only, whose last CTA is not full.
    groups = _up(structure.rows, _STEP) + 1.1 * pieces * tile_n / (128 * warps)
    ctas, held = groups * tiles, max(1, 65536 // (32 * warps * (24 + 5 * length)))  # by registers
    load = ctas / device.multiprocessors
    places, work = pieces * length * tiles, nnz * tiles * tile_n * 1e-6
    slice_bytes = structure.inner * tile_n * 4
    return (
        1.0,
        max(1.0, load / held),
        -int(-load // held),
        load * warps,
        load,
        work,
        places * tile_n * 1e-6,
        pieces * tiles * 1e-4,
        structure.rows * n * 1e-6,
        structure.inner * n * 1e-6,
        most * 1e-1,
        *(work * max(0.0, 1.0 - l1 / max(1, slice_bytes)) for l1 in _L1_BYTES),
        *_of_entries(structure, launch, n),
    )


def _straddles(n: int) -> bool:
    """Whether rows of B begin inside of cache lines: a part of a row then lies in one line more."""
    return n % _LINE != 0


def _of_entries(structure: Structure, launch: dict, n: int) -> tuple[float, float, float]:
    """What entries cost besides, where values lie apart (warps of a CTA share some), and at odd rows of B."""
    entries = structure.nnz * _up(n, launch["tile_n"]) * 1e-6
    apart = structure.turned * entries
    return apart, 10 * apart / launch["warps"], _straddles(n) * entries
