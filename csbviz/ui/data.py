"""What the pages show, fetched from the library and kept in bounded caches.

The keys of the caches are explicit: digest of the file, pruning settings, layer, block shape, order. The
objects themselves go in as arguments with an underscore, which Streamlit does not hash. Cached objects are
shared by all sessions, so they are constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from csbviz.errors import CSBVizError
from csbviz.ui import state
from csbviz.ui.pruned import locked_layers, pruned_or_loaded, pruning_key
from csbviz.ui.settings import BLOCK_SIDES, LOADED, Settings
from csbviz.ui.text import plural, shape

if TYPE_CHECKING:
    import numpy as np
    from scipy.sparse import csr_matrix

    from csbviz.balance import Timeline
    from csbviz.formats import CSBMatrix
    from csbviz.models.opened import LayerInfo, Opened

__all__ = [
    "View",
    "add_upload",
    "default_workers",
    "device_obstacle",
    "dtypes_of",
    "kernel_choices",
    "locked_layers",
    "samples",
    "uploaded",
    "view",
]

_UPLOAD = "csbviz.upload"
UPLOAD_PREFIX = "file-"
MAX_BLOCKS = 2**22
"""Most blocks in a layout: the table of block pointers has one entry a block, also for an empty one."""
ALREADY_SPARSE = 0.5
"""A model with more zeros than this share is taken to be pruned already, and is shown as loaded at first."""


@dataclass(frozen=True)
class View:
    """What the settings select: the opened file, its pruned form, and one layer of it."""

    opened: Opened
    pruned: Opened
    layer: LayerInfo
    block: tuple[int, int]
    settings: Settings
    problem: str = ""
    """One sentence why the weights are shown as loaded although a method is chosen."""

    @property
    def is_pruned(self) -> bool:
        """True when a pruning method is applied."""
        return self.settings.method != LOADED and not self.problem

    @property
    def key(self) -> tuple:
        """Names the layer's weights: equal keys, equal weights."""
        weights = pruning_key(self.opened, self.settings) if self.is_pruned else (LOADED,)
        return (self.opened.digest, weights, self.layer.name)

    @property
    def layout_key(self) -> tuple:
        """Names the layer's CSB matrix."""
        return (*self.key, self.block, self.settings.order)

    @property
    def csr(self) -> csr_matrix:
        """The layer's weights, M x K."""
        return _csr(self.key, self.pruned)

    @property
    def csb(self) -> CSBMatrix:
        """The layer's weights in the chosen blocks."""
        return _csb(self.layout_key, self.csr)

    def values_before_and_after(self) -> tuple[np.ndarray, np.ndarray]:
        """The layer's weights as loaded and pruned, position by position."""
        from csbviz.pruning.opened import values_before_and_after

        return values_before_and_after(self.opened, self.pruned, self.layer.name)

    def automatic_strategy(self, transpose: bool, workers: int, static: bool, tiles: int) -> str:
        """The strategy that "auto" stands for."""
        return _automatic((*self.layout_key, transpose, workers, static, tiles), self.csb)

    def timeline(self, strategy: str, transpose: bool, workers: int, static: bool, tiles: int) -> Timeline:
        """The layer's work, dealt out by a strategy and played."""
        return _timeline((*self.layout_key, strategy, transpose, workers, static, tiles), self.csb)

    def sizes(self, value_bytes: int = 4) -> dict[str, Any]:
        """Bytes of the layer in each format."""
        return _sizes((*self.key, self.block, value_bytes), self.csr)

    def index_bytes(self, betas: tuple[int, ...]) -> dict[int, float]:
        """Index bytes per nonzero of CSB for square blocks of each side."""
        return _index_bytes((*self.key, betas), self.csr)

    def kept(self, name: str, make: Any, *details: Any) -> Any:
        """Result of ``make()`` for this layer, kept under the name and the details that it depends on."""
        return _kept((name, *self.layout_key, *details), make)


def samples() -> tuple:
    """The sample models, those that are not installed included."""
    from csbviz.models import sample_models

    return tuple(sample_models())


def add_upload(data: bytes, name: str) -> None:
    """Open an uploaded file and select it; when it cannot be used, everything stays as it is.

    Raises
    ------
    CSBVizError
        If the file cannot be used.
    """
    from csbviz.models.opened import open_bytes

    opened = open_bytes(data, name)
    st.session_state[_UPLOAD] = opened
    state.update(model=UPLOAD_PREFIX + opened.digest[:16])


def uploaded() -> Opened | None:
    """The file that this session uploaded last."""
    return st.session_state.get(_UPLOAD)


def view() -> View | None:
    """Fetch what the settings select, correcting those that do not fit; None when nothing can be opened."""
    opened = _opened()
    if opened is None:
        return None
    _settle_pruning(opened)
    pruned, problem = pruned_or_loaded(opened, state.settings())
    layer = _settle_layer(pruned)
    _settle_ranges(layer)
    block = _settle_block(layer)
    return View(opened, pruned, layer, block, state.settings(), problem)


def _opened() -> Opened | None:
    wanted = state.settings().model
    upload = uploaded()
    if upload is not None and wanted == UPLOAD_PREFIX + upload.digest[:16]:
        return upload
    if wanted is not None:
        if wanted.startswith(UPLOAD_PREFIX):
            state.say(
                "The link was made with an uploaded file that this session does not have: upload it here."
            )
        else:
            try:
                return _sample(wanted)
            except CSBVizError as error:
                state.say(f"The model of the link cannot be opened: {error}")
        state.settle(model=None, layer=None, locked=None, rows=None, cols=None, at=None)
    for sample in samples():
        if sample.available:
            state.settle(model=sample.id)
            return _sample(sample.id)
    return None


def _settle_pruning(opened: Opened) -> None:
    chosen = state.settings()
    if chosen.method is None:
        state.settle(method=LOADED if opened.sparsity >= ALREADY_SPARSE else "magnitude")
    names = {layer.name for layer in opened.layers}
    unknown = [name for name in chosen.locked or () if name not in names]
    if unknown:
        state.say(f"The link locks {plural(len(unknown), 'layer')} that this model does not have.")
        state.settle(locked=tuple(name for name in chosen.locked if name in names))


def _settle_layer(opened: Opened) -> LayerInfo:
    wanted = state.settings().layer
    for layer in opened.layers:
        if layer.name == wanted:
            return layer
    if wanted is None:
        state.settle(layer=opened.main.name)
    else:
        state.say(f"There is no layer “{wanted[:60]}” in this model, so its largest layer is shown.")
        state.settle(layer=opened.main.name, rows=None, cols=None, at=None)
    return opened.main


def _settle_ranges(layer: LayerInfo) -> None:
    chosen = state.settings()
    for name, side in (("rows", layer.rows), ("cols", layer.cols)):
        wanted = getattr(chosen, name)
        if wanted is None:
            continue
        low, high = (wanted[0], min(wanted[1], side)) if wanted[0] < side else (0, side)
        if (low, high) != wanted:
            outside = f"lie outside of the layer's {side}, so all are shown"
            where = f"reach past the layer's {side}" if wanted[0] < side else outside
            state.say(f"The picture's {name} {wanted[0]} to {wanted[1]} {where}.")
        state.settle(**{name: None if (low, high) == (0, side) else (low, high)})


def auto_block(layer: LayerInfo, device: str) -> tuple[int, int]:
    """The block shape that the library chooses for a layer."""
    from csbviz.formats.block_shape import choose_block_shape

    return tuple(choose_block_shape((layer.rows, layer.cols), layer.nnz, device=device))


def block_sides(side: int) -> tuple[int, ...]:
    """The block sides that make sense for a matrix side: up to the first that holds it all."""
    return tuple(b for b in BLOCK_SIDES if b < 2 * side) or BLOCK_SIDES[:1]


def grid(layer: LayerInfo, block: tuple[int, int]) -> tuple[int, int]:
    """Number of block rows and block columns."""
    return math.ceil(layer.rows / block[0]), math.ceil(layer.cols / block[1])


def _settle_block(layer: LayerInfo) -> tuple[int, int]:
    chosen = state.settings()
    block = chosen.block or auto_block(layer, chosen.device)
    fitting = block
    while math.prod(grid(layer, fitting)) > MAX_BLOCKS:
        fitting = tuple(min(2 * side, BLOCK_SIDES[-1]) for side in fitting)
        if fitting == (BLOCK_SIDES[-1],) * 2:
            break
    if fitting != block and chosen.block:
        state.say(f"Blocks of {shape(block)} would be too many for this layer, so {shape(fitting)} is used.")
        state.settle(block=fitting)
    if chosen.at is not None:
        rows, cols = grid(layer, fitting)
        inside = min(chosen.at[0], rows - 1), min(chosen.at[1], cols - 1)
        if inside != chosen.at:
            state.say(
                f"There is no block {chosen.at[0]}, {chosen.at[1]}: the layer has {rows} x {cols} blocks."
            )
            state.settle(at=None)
    return fitting


@st.cache_resource(max_entries=3, show_spinner="Opening the sample")
def _sample(sample_id: str) -> Opened:
    from csbviz.models.opened import open_sample

    return open_sample(sample_id)


@st.cache_resource(max_entries=6, show_spinner=False)
def _csr(key: tuple, _pruned: Opened) -> csr_matrix:
    return _pruned.csr(key[-1])


@st.cache_resource(max_entries=6, show_spinner="Cutting the layer into blocks")
def _csb(key: tuple, _csr: csr_matrix) -> CSBMatrix:
    from csbviz.formats import CSBMatrix

    return CSBMatrix.from_scipy(_csr, block_shape=key[-2], order=key[-1])


@st.cache_resource(max_entries=32, show_spinner=False)
def _automatic(key: tuple, _csb: CSBMatrix) -> str:
    from csbviz.balance.automatic import automatic_strategy

    transpose, workers, static, tiles = key[-4:]
    return automatic_strategy(_csb, transpose, workers, "static" if static else "dynamic", tiles)


@st.cache_resource(max_entries=16, show_spinner=False)
def _timeline(key: tuple, _csb: CSBMatrix) -> Timeline:
    from csbviz.balance import make_plan, simulate

    strategy, transpose, workers, static, tiles = key[-5:]
    assignment = "static" if static else "dynamic"
    plan = make_plan(_csb, strategy, transpose, workers, n=tiles, tile_n=1, assignment=assignment)
    return simulate(plan, workers)


@st.cache_resource(max_entries=16, show_spinner=False)
def _sizes(key: tuple, _csr: csr_matrix) -> dict[str, Any]:
    from csbviz.formats.sizes import format_bytes

    return format_bytes(_csr, key[-2], value_bytes=key[-1])


@st.cache_resource(max_entries=16, show_spinner=False)
def _index_bytes(key: tuple, _csr: csr_matrix) -> dict[int, float]:
    from csbviz.formats.sizes import index_bytes_per_nonzero

    return index_bytes_per_nonzero(_csr, key[-1])


@st.cache_resource(max_entries=32, show_spinner=False)
def _kept(key: tuple, _make: Any) -> Any:
    return _make()


def default_workers(units: str) -> int:
    """Workers when none are chosen: this machine's cores, or its GPU's multiprocessors, else an H100's."""
    from csbviz.balance.strategies import DEFAULT_MULTIPROCESSORS
    from csbviz.ops.cuda.driver import read_driver
    from csbviz.ops.threads import cpu_count

    if units == "cpu":
        return cpu_count()
    gpus = read_driver().gpus
    return gpus[0].multiprocessors if gpus else DEFAULT_MULTIPROCESSORS


def kernel_choices(device: str, dtype: str, ops: tuple[str, ...]) -> tuple[list, list]:
    """The kernels for a dtype and operations: those that can run here, and (kernel, reason) of others."""
    from csbviz.ui.kernel_choice import found_kernels

    ready, missing = [], []
    for kernel in found_kernels(device, dtype, ops):
        reason = obstacle(kernel)
        if reason is None:
            ready.append(kernel)
        else:
            missing.append((kernel, reason))
    return ready, missing


def obstacle(kernel: Any) -> str | None:
    """Why a kernel cannot run here. CuPy stays out of this process: it would only slow the page down."""
    from csbviz.ops.registry import availability

    if kernel.device == "cuda":
        return device_obstacle("cuda", kernel.min_capability, kernel.exact_capability)
    return availability(kernel).reason or None


def device_obstacle(
    device: str, capability: tuple[int, int] | None = None, exact: bool = False
) -> str | None:
    """Why nothing can run on a device, as far as it shows without CuPy."""
    from csbviz.ops.cuda import driver

    return driver.obstacle(capability, exact) if device == "cuda" else None


def dtypes_of(device: str) -> tuple[str, ...]:
    """The dtypes that some kernel of a device multiplies, in the order of the settings."""
    from csbviz.ops.registry import kernels
    from csbviz.ui.settings import DTYPES

    known = {name for kernel in kernels(device=device) for name in kernel.dtypes}
    return tuple(name for name in DTYPES if name in known)
