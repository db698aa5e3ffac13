"""The picture of a mask: which units of a layer stayed, and what each was worth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..pruning.unit_map import UnitMap
from . import text
from .blocks import Frame, colour_bar, frame_for, frame_layout
from .raster import check_window, colour_top, round_ticks
from .theme import blend, density_scale, figure, look

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["MaskInfo", "caption", "get_mask_info", "plot_mask"]

MIN_GROUP_PIXELS = 8
"""Groups of N:M narrower than this on the screen get no borders."""

_GAP_PIXELS = 6  # units smaller than this on the screen lie side by side without a gap


class MaskInfo(NamedTuple):
    """What the picture of a mask shows.

    Attributes
    ----------
    shape, block : (int, int)
        Of the matrix, and of a unit's block in it.
    noun, score : str
        What a unit is and what its score is, as in `UnitMap`.
    count : int
        Units of the layer (for heads: of the whole attention).
    blocks, kept : int
        Blocks of the units in this layer, and how many stayed.
    rows, cols : (int, int)
        The visible window as half-open ranges of the matrix; whole blocks.
    cell : (int, int)
        Block rows and block columns of one cell of the picture; those at its edges may be fewer.
    values : float32[cells down, cells across]
        With one block a cell its score, below zero where it went (and never 0); else the share of blocks that
        stayed, 0 to 1.
    top : float
        End of the colour scale.
    lowest_kept, highest_gone : float
        Scores of the whole layer; NaN when nothing stayed, or nothing went.
    empty_rows, empty_cols : int
        Block rows and block columns of the whole layer in which nothing stayed.
    group : (int, int) or None
        With N:M, how many of how many neighbours stay.
    """

    shape: tuple[int, int]
    block: tuple[int, int]
    noun: str
    score: str
    count: int
    blocks: int
    kept: int
    rows: tuple[int, int]
    cols: tuple[int, int]
    cell: tuple[int, int]
    values: np.ndarray
    top: float
    lowest_kept: float
    highest_gone: float
    empty_rows: int
    empty_cols: int
    group: tuple[int, int] | None

    @property
    def single(self) -> bool:
        """Every cell is one unit's block."""
        return self.cell == (1, 1)


def get_mask_info(
    units: UnitMap,
    rows: tuple[int, int] | None = None,
    cols: tuple[int, int] | None = None,
    pixels: int = 512,
) -> MaskInfo:
    """Say for each unit, or for cells of several, what stayed.

    Parameters
    ----------
    units : UnitMap
        From `csbviz.pruning.unit_map.unit_map`.
    rows, cols : (int, int), optional
        Half-open window of the matrix, widened to whole units; all of it by default.
    pixels : int
        Most cells along either side.

    Returns
    -------
    MaskInfo

    Raises
    ------
    OptionError
        The window does not fit the matrix.
    """
    spans, windows = [], []
    for window, length, side, what in zip(
        (rows, cols), units.shape, units.block, ("rows", "columns"), strict=True
    ):
        begin, end = check_window(window, length, what)
        first, last = begin // side, -(-end // side)
        spans.append(slice(first, last))
        windows.append((first * side, min(last * side, length)))
    kept, scores = units.kept[tuple(spans)], units.scores[tuple(spans)]
    cell = tuple(max(1, -(-side // pixels)) for side in kept.shape)
    if cell == (1, 1):
        stayed = kept.astype(bool)
        top = colour_top(scores[stayed])
        values = np.where(stayed, np.maximum(scores, 1e-6 * top), -np.maximum(scores, 1e-6 * top))
    else:
        values, top = _shares(kept, cell), 1.0
    whole = units.kept
    low, high = units.scores[whole], units.scores[~whole]
    return MaskInfo(
        shape=units.shape,
        block=units.block,
        noun=units.noun,
        score=units.score,
        count=units.count,
        blocks=whole.size,
        kept=int(np.count_nonzero(whole)),
        rows=windows[0],
        cols=windows[1],
        cell=cell,
        values=values.astype(np.float32),
        top=float(top),
        lowest_kept=float(low.min()) if low.size else math.nan,
        highest_gone=float(high.max()) if high.size else math.nan,
        empty_rows=int(np.count_nonzero(~whole.any(axis=1))),
        empty_cols=int(np.count_nonzero(~whole.any(axis=0))),
        group=units.group,
    )


def _shares(kept: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """Share of True in each cell; float64[cells down, cells across]."""
    down, across = (np.arange(0, length, side) for length, side in zip(kept.shape, cell, strict=True))
    counts = np.add.reduceat(np.add.reduceat(kept, down, axis=0, dtype=np.int64), across, axis=1)
    sides = [
        np.diff(np.append(edges, length)) for edges, length in zip((down, across), kept.shape, strict=True)
    ]
    return counts / np.outer(*sides)


def plot_mask(info: MaskInfo, dark: bool = False, dragmode: str = "pan") -> go.Figure:
    """Draw the picture. A box selection gives ranges of rows and columns, as in the spy picture."""
    frame = frame_for(info.rows[1] - info.rows[0], info.cols[1] - info.cols[0])
    y_border, x_border = ((window[0] - 0.5, window[1] - 0.5) for window in (info.rows, info.cols))
    fig = figure(dark, frame.height, dragmode=dragmode)
    sides = [side * each for side, each in zip(info.block, info.cell, strict=True)]
    gap = 1 if min(sides[0] * frame.row_pixels, sides[1] * frame.col_pixels) >= _GAP_PIXELS else 0
    fig.add_heatmap(
        z=info.values,
        x=_edges(info.cols, sides[1]),
        y=_edges(info.rows, sides[0]),
        xgap=gap,
        ygap=gap,
        hovertemplate=_hover(info),
        **(_scores(info, dark) if info.single else _share(info, dark)),
    )
    _add_groups(fig, info, frame, dark)
    title = (
        f"Score of what stayed: {info.score}"
        if info.single
        else f"Share of {info.noun}s kept in a pixel ({text.shape(info.cell)} {info.noun}s)"
    )
    fig.update_layout(frame_layout(frame, y_border, x_border, dark, ("Row", "Column"), title))
    return fig


def _scores(info: MaskInfo, dark: bool) -> dict:
    """Colours of single units: one for all that went, a ramp for what stayed."""
    theme = look(dark)
    gone = blend(theme.soft, theme.background, 0.3)
    ramp = [[0.5 + 0.5 * i / (len(theme.ramp) - 1), color] for i, color in enumerate(theme.ramp)]
    ticks = [tick for tick in round_ticks(info.top) if tick > 0]
    ticks = ticks[1::2] if len(ticks) > 2 else ticks  # half of the bar is short
    return {
        "zmin": -info.top,
        "zmax": info.top,
        "colorscale": [[0.0, gone], [0.5, gone], *ramp],
        "colorbar": colour_bar(
            dark,
            tickvals=[-info.top / 2, *ticks],
            ticktext=["went", *(f"{tick:g}" for tick in ticks)],
            tickangle=0,
        ),
    }


def _share(info: MaskInfo, dark: bool) -> dict:
    ticks = round_ticks(1.0)
    return {
        "zmin": 0,
        "zmax": 1,
        "colorscale": density_scale(dark, 1 / math.prod(info.cell)),
        "colorbar": colour_bar(dark, tickvals=ticks, ticktext=[text.percent_tick(tick) for tick in ticks]),
    }


def _hover(info: MaskInfo) -> str:
    where = ""
    for what, axis, side, each in zip(("row", "column"), "yx", info.block, info.cell, strict=True):
        reach = (side * each - 1) / 2
        where += f"{what}s %{{{axis}}} ± {reach:g}<br>" if reach else f"{what} %{{{axis}}}<br>"
    if info.single:
        return f"{info.noun}<br>{where}{info.score} %{{z:(.3g}}<br>(in brackets: went)<extra></extra>"
    return f"{where}%{{z:.1%}} of the {info.noun}s kept<extra></extra>"


def _add_groups(fig: go.Figure, info: MaskInfo, frame: Frame, dark: bool) -> None:
    """Borders between the groups of N:M, where they are wide enough."""
    if info.group is None or info.group[1] * frame.col_pixels < MIN_GROUP_PIXELS:
        return
    x, y = [], []
    first = -(-(info.cols[0] + 1) // info.group[1]) * info.group[1]
    for edge in range(first, info.cols[1], info.group[1]):
        x += [edge - 0.5, edge - 0.5, None]
        y += [info.rows[0] - 0.5, info.rows[1] - 0.5, None]
    line = {"color": look(dark).muted, "width": 1}
    fig.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False, name="groups")


def _edges(window: tuple[int, int], side: int) -> np.ndarray:
    return np.append(np.arange(window[0], window[1], side), window[1]) - 0.5


def caption(info: MaskInfo) -> str:
    """What to look for in the picture."""
    whose = "" if info.blocks == info.count else f" of the {text.plural(info.count, info.noun)}"
    what = text.plural(info.blocks, "block" if whose else info.noun) + whose
    parts = [f"{text.count(info.kept)} of {what} stayed ({text.percent(info.kept / info.blocks)})."]
    if info.group is not None:
        parts.append(f"{info.group[0]} of every {info.group[1]} neighbours in a row, so no row stands out.")
    elif info.kept == info.blocks:
        parts.append("Nothing went.")
    elif info.kept == 0:
        parts.append("The whole layer went: nothing passes through it any more.")
    elif info.lowest_kept >= info.highest_gone:
        parts.append(
            f"What stayed scores at least {text.significant(info.lowest_kept)}, what went at most "
            f"{text.significant(info.highest_gone)} ({info.score}): look where the high scores lie."
        )
    else:
        parts.append(
            f"The scores ({info.score}) did not decide: {text.significant(info.highest_gone)} went while "
            f"{text.significant(info.lowest_kept)} stayed."
        )
    if 0 < info.kept < info.blocks:
        parts.append(_empty(info))
    if not info.single:
        parts.append(f"Zoom in to see single {info.noun}s.")
    return " ".join(part for part in parts if part)


def _empty(info: MaskInfo) -> str:
    """Say what whole rows or columns of units mean, where some are empty."""
    found = []
    down, across = -(-info.shape[0] // info.block[0]), -(-info.shape[1] // info.block[1])
    if info.empty_rows and across > 1:
        found.append(text.plural(info.empty_rows, "row"))
    if info.empty_cols and down > 1:
        found.append(text.plural(info.empty_cols, "column"))
    if not found:
        return ""
    return f"{text.list_of(found)} of the picture went altogether: outputs or inputs without any use."
