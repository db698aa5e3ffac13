"""The table of prunable layers, in which a row selects the layer."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from csbviz.models.opened import LayerInfo
from csbviz.ui import state
from csbviz.ui.text import shape

__all__ = ["layer_table"]

_ROW_HEIGHT = 35
_MOST_ROWS = 12
_DRAWN = "csbviz.layer_table"


def layer_table(layers: Sequence[LayerInfo], key: str, after: Sequence[LayerInfo] | None = None) -> None:
    """Draw the table; with `after`, the same layers pruned, it shows both.

    Parameters
    ----------
    layers : sequence of LayerInfo
        As loaded.
    key : str
        Key of the table on its page.
    after : sequence of LayerInfo, optional
        The same layers in the same order, pruned.
    """
    columns = {
        "Layer": [layer.label for layer in layers],
        "Kind": [layer.kind for layer in layers],
        "Shape": [shape(layer.shape) for layer in layers],
        "Matrix": [shape((layer.rows, layer.cols)) for layer in layers],
        "Weights": [layer.size for layer in layers],
    }
    if after is None:
        columns["Nonzeros"] = [layer.nnz for layer in layers]
        columns["Sparsity"] = [100 * layer.sparsity for layer in layers]
    else:
        del columns["Shape"], columns["Kind"], columns["Matrix"]
        columns["Kept"] = [layer.nnz for layer in after]
        columns["Before"] = [100 * layer.sparsity for layer in layers]
        columns["After"] = [100 * layer.sparsity for layer in after]
    st.dataframe(
        pd.DataFrame(columns),
        hide_index=True,
        height=_ROW_HEIGHT * (min(len(layers), _MOST_ROWS) + 1) + 3,
        row_height=_ROW_HEIGHT,
        column_config=_column_config(),
        alt="Prunable layers with their shapes, numbers of weights and sparsity",
        **_selection(layers, key),
    )


def _column_config() -> dict:
    number = st.column_config.NumberColumn
    return {
        "Layer": st.column_config.TextColumn("Layer", pinned=True),
        "Shape": st.column_config.TextColumn(
            "Shape", alignment="right", help="Shape of the weight in the file"
        ),
        "Matrix": st.column_config.TextColumn(
            "Matrix",
            alignment="right",
            help="Outputs × inputs: a convolution counts in · kernel height · width",
        ),
        "Weights": number("Weights", format="localized"),
        "Nonzeros": number("Nonzeros", format="localized", help="Weights that are not zero"),
        "Kept": number("Kept", format="localized", help="Weights that are not zero after pruning"),
        "Sparsity": number("Sparsity", format="%.1f %%", help="Share of the weights that are zero"),
        "Before": number("Before", format="%.1f %%", help="Sparsity as loaded"),
        "After": number("After", format="%.1f %%", help="Sparsity after pruning"),
    }


def _selection(layers: Sequence[LayerInfo], key: str) -> dict:
    """Arguments that tie the selected row to the setting.

    The browser keeps the selection of a table by its key. The key changes only when the layer was chosen
    elsewhere, so that a click in the table does not draw it anew.
    """
    names = [layer.name for layer in layers]
    chosen = state.settings().layer
    shown, turn = st.session_state.get(f"{_DRAWN}.{key}", (None, 0))
    if shown != chosen:
        turn += 1
        st.session_state[f"{_DRAWN}.{key}"] = (chosen, turn)
    element = f"{key}.{turn}"

    def select() -> None:
        rows = st.session_state[element]["selection"]["rows"]
        if rows and rows[0] < len(names):
            st.session_state[f"{_DRAWN}.{key}"] = (names[rows[0]], turn)
            state.update(layer=names[rows[0]])

    row = names.index(chosen) if chosen in names else 0
    return {
        "key": element,
        "on_select": select,
        "selection_mode": "single-row-required",
        "selection_default": {"selection": {"rows": [row]}},
    }
