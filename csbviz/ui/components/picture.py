"""The spy picture: drag a box to zoom in, click a block to select it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from csbviz.figures import spy
from csbviz.ui import data, state
from csbviz.ui.components.charts import chart, is_dark
from csbviz.ui.text import count, escape

__all__ = ["picture"]

PIXELS = 512


def picture(view: data.View, name: str, width: int, at: tuple[int, int] | None = None) -> None:
    """Draw the layer, or the part of it that is zoomed in on, with a caption.

    Parameters
    ----------
    view : View
    name : str
        Name of the picture on its page.
    width : int
        About how many pixels it has across on a usual screen.
    at : (int, int), optional
        The block to frame as (block row, block column). With it the grid of blocks is drawn and a click
        selects a block; without it a drag zooms at once.
    """
    rows, cols = view.settings.rows, view.settings.cols
    block = view.block if at else None
    info = view.kept(
        "spy",
        lambda: spy.get_spy_info(view.csr, rows, cols, block_shape=block, pixels=PIXELS, selected=at),
        rows,
        cols,
        block,
        at,
    )
    figure = spy.plot_spy(info, dark=is_dark(), dragmode="pan" if block else "select")
    _fit(figure, info, width)
    key = f"{name}.{view.layer.name}.{rows}.{cols}.{block}"

    def select() -> None:
        selection = st.session_state[key]["selection"]
        if selection["box"]:
            box = selection["box"][0]
            _zoom(info, *spy.window_from_box(info, box["x"], box["y"]))
        elif block and selection["points"]:
            block_row, block_col, *_ = selection["points"][0]["customdata"]
            state.update(at=(int(block_row), int(block_col)))

    _zoom_bar(info, name, bool(block))
    caption = spy.caption(info)
    modes = ("points", "box") if block else ("box",)
    chart(figure, key, caption, toolbar=True, on_select=select, selection_mode=modes)
    st.caption(escape(caption))


def _zoom_bar(info: spy.SpyInfo, name: str, blocks: bool) -> None:
    rows, cols = info.raster.rows, info.raster.cols
    how = "Click a block; to zoom, pick the box tool and drag" if blocks else "Drag a box to zoom in"
    shown = [f"**{count(low)}–{count(high - 1)}**" for low, high in (rows, cols)]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"Rows {shown[0]}, columns {shown[1]} :gray[· {how}]", width="stretch")
        st.button(
            "Whole layer",
            key=f"reset.{name}",
            icon=":material/zoom_out_map:",
            disabled=(rows, cols) == ((0, info.shape[0]), (0, info.shape[1])),
            on_click=state.update,
            kwargs={"rows": None, "cols": None},
        )


def _zoom(info: spy.SpyInfo, rows: tuple[int, int], cols: tuple[int, int]) -> None:
    state.update(
        rows=None if rows == (0, info.shape[0]) else rows,
        cols=None if cols == (0, info.shape[1]) else cols,
    )


def _fit(figure: Any, info: spy.SpyInfo, width: int) -> None:
    """Take away the height that a picture of fixed proportions would leave empty in its column."""
    layout = figure.layout
    (top, bottom), (left, right) = info.raster.rows, info.raster.cols
    around = layout.margin.t + layout.margin.b
    inside = layout.height - around
    drawn = inside * (right - left) / ((bottom - top) * (layout.yaxis.scaleratio or 1))
    room = width - layout.margin.l - layout.margin.r
    if drawn > room:
        layout.height = around + round(inside * room / drawn)
