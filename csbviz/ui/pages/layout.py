"""The layer in Compressed Sparse Blocks: block shape, one block, and bytes in every format."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from csbviz import figures
from csbviz.ui import data, state
from csbviz.ui.components.charts import draw
from csbviz.ui.components.columns import split
from csbviz.ui.components.header import open_page
from csbviz.ui.components.numbers import numbers
from csbviz.ui.components.picture import picture
from csbviz.ui.settings import BLOCK_SIDES, ORDERS
from csbviz.ui.text import count, percent, shape, size

_ORDER_TITLES = {"row": "Row", "col": "Column", "morton": "Morton"}


def _set_block(side: int) -> None:
    """Take the moved slider's value; linked sliders move together."""
    value = st.session_state[f"w.block.{side}"]
    other = value if state.settings().linked else st.session_state[f"w.block.{1 - side}"]
    state.update(block=(value, other) if side == 0 else (other, value))


def _set_auto(block: tuple[int, int]) -> None:
    if st.session_state["w.block.auto"]:
        state.update(block=None)
    else:
        state.update(block=block, linked=block[0] == block[1])


def _set_linked(block: tuple[int, int]) -> None:
    if st.session_state["w.linked"]:
        state.update(linked=True, block=(block[0], block[0]))
    else:
        state.update(linked=False)


def _controls(view: data.View) -> None:
    chosen, layer, block = view.settings, view.layer, view.block
    automatic = chosen.block is None
    square = block[0] == block[1] and (automatic or chosen.linked)
    state.show("w.block.auto", automatic)
    st.toggle(
        f"Automatic: {shape(data.auto_block(layer, chosen.device))}",
        key="w.block.auto",
        on_change=_set_auto,
        args=(block,),
        help="The library's choice from the layer's shape, its nonzeros and the workers of the device. "
        "Switch it off to choose the block shape yourself.",
    )
    state.show("w.linked", square)
    st.toggle(
        "Square blocks",
        key="w.linked",
        disabled=automatic,
        on_change=_set_linked,
        args=(block,),
        help="Move both sides together. Blocks may also be rectangular.",
    )
    for side, name, length in ((0, "Block rows", layer.rows), (1, "Block columns", layer.cols)):
        longest = max(layer.rows, layer.cols) if square else length
        state.show(f"w.block.{side}", block[side])
        st.select_slider(
            name,
            sorted({*data.block_sides(longest), block[side]}),
            key=f"w.block.{side}",
            disabled=automatic,
            on_change=_set_block,
            args=(side,),
            help="A power of two, so that an index inside a block is a fixed number of bits.",
        )
    st.segmented_control(
        "Order in a block",
        ORDERS,
        required=True,
        format_func=_ORDER_TITLES.get,
        help="Of the entries in a block. Row favours A·B, column Aᵀ·B; Z-Morton keeps both near in memory.",
        **state.bind("order"),
    )


def _set_at() -> None:
    state.update(at=(st.session_state["w.at.0"], st.session_state["w.at.1"]))


def _selected_block(view: data.View) -> tuple[int, int]:
    """The block of the settings, else the fullest one."""
    from csbviz.formats.block_facts import heaviest_block

    return view.settings.at or view.kept("heaviest", lambda: heaviest_block(view.csb))


def _block_card(view: data.View, at: tuple[int, int]) -> None:
    from csbviz.formats.block_facts import block_facts

    facts = block_facts(view.csb, *at)
    rows, cols = view.csb.grid
    with st.container(border=True):
        title = f"**Block {at[0]}, {at[1]}**"
        st.markdown(title if view.settings.at else f"{title} · the fullest; click another in the picture")
        for axis in (0, 1):
            state.show(f"w.at.{axis}", at[axis])
        first, second = st.columns(2)
        first.number_input(
            "Block row", 0, rows - 1, step=1, key="w.at.0", on_change=_set_at, disabled=rows == 1
        )
        second.number_input(
            "Block column", 0, cols - 1, step=1, key="w.at.1", on_change=_set_at, disabled=cols == 1
        )
        numbers(
            [
                (
                    "Rows",
                    f"{count(facts.rows[0])}–{count(facts.rows[1] - 1)}",
                    "First and last row of the matrix in it.",
                ),
                (
                    "Columns",
                    f"{count(facts.cols[0])}–{count(facts.cols[1] - 1)}",
                    "First and last column in it.",
                ),
                ("Nonzeros", count(facts.nnz), None),
                ("Density", percent(facts.density), "Nonzeros / positions of the block."),
                ("Bytes", size(facts.bytes), "Values and in-block indices of its entries."),
                (
                    "Of its block row",
                    percent(facts.row_share),
                    "Share of the work of its block row, which is a unit of A·B.",
                ),
                (
                    "Of its block column",
                    percent(facts.col_share),
                    "Share of its block column, which is a unit of Aᵀ·B.",
                ),
                (
                    "Of all work",
                    percent(facts.share, 2),
                    "Share of all nonzeros: every nonzero costs N multiply-adds.",
                ),
            ],
            per_row=2,
        )


def _size_rows(sizes: dict[str, Any]) -> pd.DataFrame:
    from csbviz.figures import FORMAT_TITLES

    rows = [
        {
            "Format": FORMAT_TITLES.get(name, name),
            "Values": entry.values,
            "Indices": entry.indices,
            "Pointers": entry.pointers,
            "Total": entry.total,
            "Note": entry.note,
        }
        for name, entry in sizes.items()
        if entry is not None
    ]
    return pd.DataFrame(rows)


def _bytes(view: data.View) -> None:
    sizes = view.sizes()
    left, right = split("bytes", 2)
    with left:
        st.subheader("Bytes in each format, float32 values", anchor=False)
        info = figures.get_format_bytes_info(sizes)
        draw("format_bytes", info)
        with st.expander("The same as a table"):
            number = st.column_config.NumberColumn
            st.dataframe(
                _size_rows(sizes),
                hide_index=True,
                column_config={
                    name: number(f"{name} (bytes)", format="localized")
                    for name in ("Values", "Indices", "Pointers", "Total")
                },
            )
    with right:
        st.subheader("Index bytes of a nonzero over the block side", anchor=False)
        side = view.block[0] if view.block[0] == view.block[1] else None
        info = figures.get_index_bytes_info(view.csr, view.index_bytes(BLOCK_SIDES), selected=side)
        draw("index_bytes", info)


def _page() -> None:
    view = open_page("CSB layout", "How is the layer cut into blocks, and what do the blocks cost in bytes?")
    controls, middle, right = split("picture", [2, 5, 3])
    with controls, st.container(border=True):
        _controls(view)
        rows, cols = view.csb.grid
        numbers(
            [
                (
                    "Blocks",
                    shape((rows, cols)),
                    "Block rows × block columns. A block row is a unit of work of A·B.",
                ),
                ("Mean nonzeros", f"{view.layer.nnz / (rows * cols):,.1f}", "Nonzeros per block."),
            ],
            per_row=1,
        )
    at = _selected_block(view)
    with middle:
        picture(view, "blocks", 660, at)
    with right:
        _block_card(view, at)
    _bytes(view)


_page()
