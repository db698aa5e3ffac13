"""Prune the model: how, how far, which layers; what is left, and what it does to the accuracy."""

from __future__ import annotations

import streamlit as st

from csbviz import figures
from csbviz.ui import data
from csbviz.ui.components import accuracy, compression, own_data, search, training
from csbviz.ui.components.charts import draw
from csbviz.ui.components.columns import split
from csbviz.ui.components.header import open_page
from csbviz.ui.components.layer_table import layer_table
from csbviz.ui.components.mask import mask
from csbviz.ui.components.numbers import numbers
from csbviz.ui.components.pruning_controls import controls
from csbviz.ui.text import count, percent, ratio


def _download(view: data.View) -> None:
    if view.pruned.model is None:
        return
    st.download_button(
        "Download the pruned model",
        data=view.pruned.model.to_bytes,
        file_name=f"{view.opened.model.name}-{view.settings.method}-{view.settings.sparsity:g}.safetensors",
        mime="application/octet-stream",
        icon=":material/download:",
        on_click="ignore",
        disabled=not view.is_pruned,
        help="A .safetensors file with every tensor of the model, in its own type.",
        width="stretch",
    )


def _totals(view: data.View) -> None:
    before, after = view.opened, view.pruned
    locked = set(data.locked_layers(before, view.settings)) if view.is_pruned else set()
    factor = ratio(before.size / after.nnz) if after.nnz else "all dropped"
    numbers(
        [
            (
                "Pruned layers",
                percent(after.sparsity_without(locked)),
                "Zeros among the weights of unlocked layers.",
            ),
            (
                "Whole model",
                percent(after.sparsity),
                "Zeros among all prunable weights, locked layers included.",
            ),
            ("This layer", percent(view.layer.sparsity), "Zeros among the weights of the chosen layer."),
            ("Weights kept", count(after.nnz), f"Of {count(before.size)} prunable weights."),
            ("Compression", factor, "Prunable weights / nonzeros. Indices are not counted: see CSB layout."),
        ]
    )


def _histogram(view: data.View) -> None:
    info = view.kept(
        "histogram.pruned", lambda: figures.get_weight_histogram_info(*view.values_before_and_after())
    )
    draw("weight_histogram", info)


def _page() -> None:
    view = open_page(
        "Prune", "Which weights can go? Set them to zero by a rule, and see what every layer keeps."
    )
    left, right = split("prune", [1, 3])
    with left, st.container(border=True, gap="small"):
        controls(view)
        _download(view)
    with right:
        _totals(view)
        table, picture = split("layers", 2)
        with table:
            st.subheader("Layers before and after", anchor=False)
            layer_table(view.opened.layers, "pruned", after=view.pruned.layers)
            accuracy.card(view)
            own_data.card(view)
            st.subheader("Weights of the layer", anchor=False)
            _histogram(view)
        with picture:
            st.subheader("What stayed of the layer", anchor=False)
            mask(view, 520)
    st.subheader("Further than one cut", anchor=False)
    cards = {
        "Train until it is sparse": training.card,
        "Deep Compression": compression.card,
        "Coarse search": search.card,
    }
    for tab, card in zip(st.tabs(list(cards), key="prune.cards"), cards.values(), strict=True):
        with tab:
            card(view)


_page()
