"""The first page: open a model, see its layers, choose one."""

from __future__ import annotations

import streamlit as st

from csbviz import figures
from csbviz.ui import data
from csbviz.ui.components.charts import draw
from csbviz.ui.components.columns import split
from csbviz.ui.components.header import open_page
from csbviz.ui.components.layer_table import layer_table
from csbviz.ui.components.upload import sample_card, upload_card
from csbviz.ui.text import count, escape, percent, size


def _cards() -> None:
    samples = data.samples()
    columns = st.columns(len(samples) + 1)
    for column, sample in zip(columns, samples, strict=False):
        with column:
            sample_card(sample)
    with columns[-1]:
        upload_card()


def _histogram(view: data.View) -> None:
    info = view.kept(
        "histogram", lambda: figures.get_weight_histogram_info(view.opened.values(view.layer.name))
    )
    draw("weight_histogram", info)


def _page() -> None:
    view = open_page(
        "Model",
        "Is sparse faster here, by how much, and why? Open a network, prune it, see its blocks, run it.",
        before=_cards,
    )
    left, right = split("layers", [3, 2])
    with left:
        st.subheader("Layers that can be pruned", anchor=False)
        opened = view.opened
        st.caption(
            f"{escape(opened.title)}: {count(opened.size)} weights in {len(opened.layers)} layers, "
            f"{percent(opened.sparsity)} zero as loaded, {size(4 * opened.size)} as float32. "
            "Click a row to look at it."
        )
        layer_table(opened.layers, "layers")
    with right:
        st.subheader("Weights of the layer, as loaded", anchor=False)
        _histogram(view)


_page()
