"""The spy picture: drag a box to zoom in, click a block to select it."""

from __future__ import annotations

import streamlit as st

from csbviz.figures import spy
from csbviz.ui import data, state
from csbviz.ui.components.charts import chart, is_dark
from csbviz.ui.text import count, escape

__all__ = ["picture"]

PIXELS = 512


def picture(view: data.View, name: str, at: tuple[int, int] | None = None) -> None:
    """Draw the layer, or the part of it that is zoomed in on, with a caption.

    Parameters
    ----------
    view : View
    name : str
        Name of the picture on its page.
    at : (int, int), optional
        The block to frame as (block row, block column). With it the grid of blocks is drawn and a click selects
        a block; without it a drag zooms at once.
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
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"Rows **{count(rows[0])}–{count(rows[1] - 1)}**, columns **{count(cols[0])}–{count(cols[1] - 1)}** "
            f":gray[· {how}]",
            width="stretch",
        )
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
