"""The top of every page: its title, what is selected, and sentences that wait to be read."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from csbviz.errors import CSBVizError
from csbviz.ui import data, state, warm
from csbviz.ui.components import columns
from csbviz.ui.pruned import unit_of
from csbviz.ui.settings import TRAINED, Settings
from csbviz.ui.text import count, escape, percent, shape

__all__ = ["open_page"]

_STYLE = f"""
<style>
.stMainBlockContainer {{padding: 4.3rem 1.75rem 3rem; max-width: 1600px;}}
.stMainBlockContainer h2 {{padding: 0;}}
.st-key-selection {{padding: 0.4rem 0.9rem;}}
[class*="st-key-controls"] {{row-gap: 0.5rem; column-gap: 2.25rem;}}
.st-key-verdict {{border-left: 5px solid #ba3807;}}
.st-key-verdict-recorded {{border-left: 5px dashed #7d46bc;}}
{columns.STYLE}
</style>
"""


def open_page(title: str, lead: str, before: Callable[[], None] | None = None) -> data.View:
    """Draw the top of a page and return what is selected; without anything to show, the page ends here.

    Parameters
    ----------
    title, lead : str
        Name of the page, and one sentence on what it answers. Markdown of the app's own.
    before : callable, optional
        Draws what comes between the title and the selection.
    """
    st.html(_STYLE)
    state.enter(title)
    state.sync_url()
    view = data.view()
    state.sync_url()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.header(title, anchor=False, width="content")
        st.markdown(f":gray[{lead}]", width="stretch")
    sentences = state.notes()
    if view is not None and view.problem and title != "Prune":  # that page says it beside its controls
        sentences.append(view.problem)
    if sentences:
        st.warning("  \n".join(map(escape, sentences)), icon=":material/info:")
    if before:
        before()
    warm.start()
    if view is None:
        _empty()
        st.stop()
    _selection(view)
    _check_layer(view)
    return view


def _check_layer(view: data.View) -> None:
    """End the page with a sentence when the layer cannot be shown, such as one that holds NaN."""
    try:
        view.csr  # noqa: B018  (kept by the cache: the page asks for it again)
    except CSBVizError as error:
        st.error(f"{escape(str(error))} Choose another layer or model.", icon=":material/error:")
        st.stop()


def _selection(view: data.View) -> None:
    """The bar that names model, layer, sparsity and blocks, with the layer to choose."""
    names = [layer.name for layer in view.opened.layers]
    with st.container(
        border=True, horizontal=True, vertical_alignment="center", gap="small", key="selection"
    ):
        st.markdown(f"**{escape(view.opened.title)}**", width="content")
        st.selectbox(
            "Layer",
            names,
            format_func={layer.name: layer.label for layer in view.opened.layers}.get,
            label_visibility="collapsed",
            width=300,
            disabled=len(names) == 1,
            **state.bind("layer", key="w.layer"),
        )
        st.markdown(_badges(view))


def _badges(view: data.View) -> str:
    layer = view.layer
    how = "as loaded"
    if view.is_pruned:
        how = _how(view.settings)
    blocks = shape(view.block) + (" auto" if view.settings.block is None else "")
    badges = (
        ("gray", f"{shape((layer.rows, layer.cols))} weights"),
        ("blue", f"{percent(layer.sparsity)} sparse · {how}"),
        ("gray", f"{count(layer.nnz)} nonzeros"),
        ("violet", f"blocks {blocks}"),
    )
    return " ".join(f":{colour}-badge[{text}]" for colour, text in badges)


def _how(chosen: Settings) -> str:
    """Method, units and scope of the pruning in a few words."""
    if chosen.method == TRAINED:
        return "trained here"
    units = {
        "weight": "",
        "nm": " in {}:{}".format(*chosen.nm),
        "block": f" in blocks {shape(unit_of(chosen))}",
    }.get(chosen.granularity, f" in {chosen.granularity}s")
    scope = "whole model" if chosen.scope == "global" else "each layer"
    return f"pruned by {chosen.method}{units}, {scope}"


def _empty() -> None:
    with st.container(border=True):
        st.subheader("No model is open", anchor=False)
        st.write(
            "Pick a sample or upload a model or matrix file on the first page; every page then shows it."
        )
        st.page_link("csbviz/ui/pages/model.py", label="Open a model", icon=":material/deployed_code:")
