"""Prune the model: how, how far, which layers; what is left, and what it does to the accuracy."""

from __future__ import annotations

import streamlit as st

from csbviz import figures
from csbviz.ui import data, state
from csbviz.ui.components import accuracy
from csbviz.ui.components.charts import draw
from csbviz.ui.components.columns import split
from csbviz.ui.components.header import open_page
from csbviz.ui.components.layer_table import layer_table
from csbviz.ui.components.numbers import numbers
from csbviz.ui.settings import MAX_SEED, METHODS, SCOPES
from csbviz.ui.text import count, percent, ratio

_METHOD_TITLES = {"none": "As loaded", "magnitude": "Magnitude", "random": "Random"}
_SCOPE_TITLES = {"global": "Whole model", "layer": "Each layer"}


def _controls(view: data.View) -> None:
    chosen = view.settings
    st.segmented_control(
        "Method",
        METHODS,
        required=True,
        format_func=_METHOD_TITLES.get,
        help="Magnitude drops the weights nearest to zero. Random drops any: every method must beat it.",
        **state.bind("method"),
    )
    st.segmented_control(
        "Scope",
        SCOPES,
        required=True,
        format_func=_SCOPE_TITLES.get,
        disabled=not view.is_pruned,
        help="One threshold for the whole model, so that layers end differently sparse, or one a layer.",
        **state.bind("scope"),
    )
    st.slider(
        "Sparsity",
        0.0,
        99.5,
        step=0.5,
        format="%.1f %%",
        disabled=not view.is_pruned,
        help="Share of the prunable weights that are set to zero.",
        **state.bind("sparsity", to_widget=lambda value: min(value, 99.5)),
    )
    labels = {layer.name: layer.label for layer in view.opened.layers}
    st.multiselect(
        "Locked layers",
        list(labels),
        format_func=labels.get,
        disabled=not view.is_pruned or len(labels) == 1,
        placeholder="None: all are pruned",
        help="Locked layers keep all their weights.",
        **state.bind(
            "locked",
            to_widget=lambda _: list(data.locked_layers(view.opened, chosen)),
            from_widget=lambda names: None if set(names) == set(view.opened.spared) else tuple(names),
        ),
    )
    st.number_input(
        "Seed",
        0,
        MAX_SEED,
        step=1,
        disabled=chosen.method != "random",
        help="Of the random method: the same seed drops the same weights.",
        **state.bind("seed"),
    )


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
    locked = set(data.locked_layers(before, view.settings))
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
        _controls(view)
        _download(view)
    with right:
        _totals(view)
        table, histogram = split("layers", [4, 3])
        with table:
            st.subheader("Layers before and after", anchor=False)
            layer_table(view.opened.layers, "pruned", after=view.pruned.layers)
        with histogram:
            st.subheader("Weights of the layer", anchor=False)
            _histogram(view)
        accuracy.card(view)


_page()
