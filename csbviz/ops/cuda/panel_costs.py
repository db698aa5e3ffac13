"""The launch of csb_rows that should be fastest, by what the kernels wait for."""

from __future__ import annotations

import functools
import math

import numpy as np

from csbviz.errors import OptionError
from csbviz.ops.cuda.module import DeviceLimits
from csbviz.ops.cuda.panel_launch import (
    TAKES,
    TUNABLES,
    Launch,
    Structure,
    refusal,
    shared_bytes,
    slots_of,
    worth_trying,
)
from csbviz.ops.cuda.panel_plan import TOGETHER
from csbviz.ops.cuda.settings import given

__all__ = ["choose_launch", "predict_us"]

_REGISTERS, _REGISTER_FILE = 64, 65536


def choose_launch(structure: Structure, n: int, device: DeviceLimits, **wanted) -> Launch:
    """Launch shape for a product: of those that fit the one that the cost model prefers.

    Raises
    ------
    OptionError
        If a parameter has a value that the kernels do not offer, or nothing fits.
    """
    wanted = given(wanted, TUNABLES)
    found = worth_trying(structure, n, device, **wanted)
    if found:
        return min(found, key=functools.partial(predict_us, structure, n=n, device=device))
    raise OptionError(_why_not(structure, device, wanted))


def _why_not(structure: Structure, device: DeviceLimits, wanted: dict) -> str:
    """What stands against the setting that the caller wants, with the least demanding values of the rest."""
    form = wanted.get("form", "panel")
    tile_m = wanted.get("tile_m", max(64, TOGETHER * wanted.get("warps", 16)))
    rest = {"tile_m": tile_m, "tile_n": 128 // structure.item, "warps": min(32, tile_m // TOGETHER)}
    rest |= {"chunk_k": min(512, max(64, structure.block[1])), "column_tiles": 1, "buffers": 1, "split": 1}
    rest["length"] = 8
    setting = {name: wanted.get(name, rest.get(name, False)) for name in TAKES[form]}
    reason = refusal(structure, Launch(form, **setting), device)
    return reason or "No launch with these parameters fits this matrix and GPU."


# Fitted on an H100 to the launches of a sweep over layers of the DLMC at 90-98 % sparsity, 8 to 80 shapes a
# product: microseconds for each of the terms below.
_PANEL_COSTS = (2.35, 0.173, 0.640, 0.387, 1.46, 6.87, 0.528, 0.186, 3.72, 1.29)
_DIRECT_COSTS = (1.45, 0.298, 0.160, 0.227, 0.080, 2.15, 0.162, 0.0225, 6.89)
_PIECES_COSTS = (1.61, 0.848, 0.052, 0.306, 0.008, 0.175)


def _panel_terms(structure: Structure, launch: Launch, n: int, device: DeviceLimits) -> tuple[float, ...]:
    tiles, chunks = -(-n // launch.tile_n), max(1, -(-structure.inner // launch.chunk_k))
    each = min(launch.column_tiles, tiles)
    row_tiles = -(-structure.lengths.size // launch.tile_m)
    ctas = row_tiles * -(-tiles // each)
    fitting = min(
        device.shared_per_multiprocessor // (shared_bytes(structure, launch) + 1024),
        device.threads_per_multiprocessor // (32 * launch.warps),
        _REGISTER_FILE // (32 * launch.warps * _REGISTERS),
    )
    resident = max(1, fitting)
    busy = min(resident, -(-ctas // device.multiprocessors))  # CTAs of a multiprocessor at a time
    rounds = -(-ctas // (device.multiprocessors * resident))
    entries = structure.nnz / row_tiles * 1e-3
    vectors = launch.tile_n * structure.item // 128
    panel = launch.chunk_k * launch.tile_n * structure.item * 1e-6
    gathers = rounds * busy * each * entries * (4.06 * vectors + 1.41) / 5.47
    return (
        1.0,
        rounds,
        rounds * each * chunks,  # steps
        rounds * busy * entries,  # entries staged by a multiprocessor
        rounds * busy * panel,  # panels that nothing overlaps
        rounds * busy * each * chunks * panel,
        gathers,
        gathers if chunks > 1 else 0.0,  # rows of a chunk are less even
        rounds * each * float(structure.lengths.max(initial=0)) * 1e-3,
        row_tiles * tiles * launch.tile_m * launch.tile_n * 1e-6,  # elements of C
    )


def _direct_terms(structure: Structure, launch: Launch, n: int, device: DeviceLimits) -> tuple[float, ...]:
    tiles, rows = -(-n // launch.tile_n), structure.lengths.size
    warps = rows * tiles * launch.split
    resident = device.multiprocessors * 32
    longest = math.ceil(float(structure.lengths.max(initial=0)) / (32 * launch.split))
    mean = structure.nnz / rows / launch.split
    lanes = launch.tile_n * structure.item // 16
    rounds = math.ceil(warps / resident)
    return (
        1.0,
        float(longest),
        longest * lanes / 8.0,  # loads of B, one after the other
        rounds * mean * lanes / 256.0,
        warps / resident * launch.split,
        warps / (device.multiprocessors * launch.warps) / 8.0,  # CTAs
        structure.nnz * tiles * launch.tile_n * structure.item / 4 * 1e-6,
        max(0.0, structure.nnz * n - 4e6) * 1e-6,  # what the L2 cache brings once the start is over
        structure.nnz * tiles * 1e-6,
    )


def _pieces_terms(structure: Structure, launch: Launch, n: int, device: DeviceLimits) -> tuple[float, ...]:
    tiles, pieces = -(-n // launch.tile_n), structure.pieces(launch.length).total
    slots = slots_of(launch, structure.item)
    ctas = (structure.units + 1.1 * pieces / slots) * tiles  # rows fill the CTAs of a unit, but for the last
    held = max(1, min(32, _REGISTER_FILE // (32 * launch.warps * (24 + 4 * launch.length))))
    rounds = max(1.0, ctas / (device.multiprocessors * held))
    return (
        1.0,
        rounds,
        ctas * launch.warps / device.multiprocessors * 1e-1,
        structure.nnz * tiles * launch.tile_n * structure.item / 4 * 1e-6,
        pieces * tiles * 1e-4,
        structure.pieces(launch.length).most * 1e-1,
    )


_TERMS = {
    "panel": (_panel_terms, _PANEL_COSTS),
    "direct": (_direct_terms, _DIRECT_COSTS),
    "pieces": (_pieces_terms, _PIECES_COSTS),
}


def predict_us(structure: Structure, launch: Launch, n: int, device: DeviceLimits) -> float:
    """Microseconds that a product should take with a launch."""
    terms, costs = _TERMS[launch.form]
    return float(np.dot(terms(structure, launch, n, device), costs))
