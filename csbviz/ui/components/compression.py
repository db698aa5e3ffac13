"""Deep Compression of the pruned model: bits, a job, size and accuracy after each stage, the file."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from csbviz import figures
from csbviz.ui import data, state
from csbviz.ui.components import jobs
from csbviz.ui.components.charts import draw
from csbviz.ui.components.columns import split
from csbviz.ui.components.results import weights_in_words
from csbviz.ui.text import escape, plural

__all__ = ["card"]

JOB = "compression"
_BITS = "csbviz.compression.bits"


def card(view: data.View) -> None:
    """Draw the settings and the last result for the opened model."""
    if view.opened.model is None:
        st.caption("Deep Compression codes whole models; a single matrix is open.")
        return
    left, right = split("compression", [1, 3])
    with left:
        bits = _bits()
        st.caption(f"The weights to code: {escape(weights_in_words(view))}.")
        st.button(
            "Compress",
            key="compress",
            type="primary",
            icon=":material/compress:",
            width="stretch",
            disabled=not view.is_pruned or jobs.active(JOB),
            on_click=_start,
            args=(view, bits),
            help="Share the values by k-means, then code values and gaps by Huffman.",
        )
        if not view.is_pruned:
            st.caption("Prune first: zeros are what it lives on.")
    with right:
        if jobs.active(JOB):
            jobs.watch(JOB)
        jobs.say_how_it_ended(JOB)
        outcome = jobs.outcome(JOB)
        if outcome is not None and outcome["about"][0] == view.opened.digest:
            _result(outcome["about"][1], outcome["result"])
        elif not jobs.active(JOB):
            st.caption("Nothing was compressed yet: size and accuracy after each stage appear here.")


def _bits() -> dict[str, int]:
    kept = st.session_state.setdefault(_BITS, {"conv_bits": 8, "linear_bits": 5})
    entries = (
        ("conv_bits", "Bits of convolutions", "2 to this power values are shared in each convolution."),
        ("linear_bits", "Bits of other layers", "The same for linear, recurrent and embedding weights."),
    )
    for name, label, words in entries:
        key = f"w.compression.{name}"
        state.show(key, kept[name])

        def keep(name: str = name, key: str = key) -> None:
            kept[name] = st.session_state[key]

        st.slider(label, 1, 8, key=key, on_change=keep, help=words)
    return dict(kept)


def _start(view: data.View, bits: dict[str, int]) -> None:
    kwargs = {"model": view.pruned.model, "dense": view.opened.model, "sparsity": None, **bits}
    words = f"{weights_in_words(view)}; {bits['conv_bits']} and {bits['linear_bits']} bits"
    jobs.hand_in(
        JOB,
        f"Compression of {view.opened.title}",
        "csbviz.pruning.compression:compress_stages",
        kwargs,
        "cpu",
        about=(view.opened.digest, words),
    )


def _result(words: str, result: dict[str, Any]) -> None:
    st.markdown(f"**{escape(words)}**")
    draw("stages", figures.get_stages_info(result["stages"], result["metric"]))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Download the compressed model",
            data=result["file"],
            file_name=f"{result['model']}.csbz",
            mime="application/octet-stream",
            icon=":material/download:",
            on_click="ignore",
            key="download.csbz",
            width="content",
        )
        if result["exact"]:
            st.caption(
                "Decoded again, it gives the quantised weights bit for bit. Page Model opens the file."
            )
    with st.expander(f"{plural(len(result['layers']), 'layer')} in bits and bytes"):
        st.dataframe(
            pd.DataFrame(
                {
                    "Layer": [layer["name"].removesuffix(".weight") for layer in result["layers"]],
                    "Nonzeros": [layer["nnz"] for layer in result["layers"]],
                    "Centroids": [layer["centroids"] for layer in result["layers"]],
                    "Code bits": [layer["code_bits"] for layer in result["layers"]],
                    "Gap bits": [layer["gap_bits"] for layer in result["layers"]],
                    "Dense": [layer["bytes_dense"] for layer in result["layers"]],
                    "Coded": [layer["bytes"] for layer in result["layers"]],
                }
            ),
            hide_index=True,
            column_config=_columns(),
            alt="Layers with their nonzeros, code books, mean bits and bytes",
        )


def _columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "Nonzeros": number(format="localized"),
        "Code bits": number(format="%.2f", help="Mean bits of a value after Huffman coding."),
        "Gap bits": number(format="%.2f", help="Mean bits of the distance to the value before."),
        "Dense": number("Dense (bytes)", format="localized"),
        "Coded": number("Coded (bytes)", format="localized"),
    }
