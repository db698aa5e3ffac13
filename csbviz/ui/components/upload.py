"""Sample cards and the upload of a file."""

from __future__ import annotations

from typing import Any

import streamlit as st

from csbviz.errors import CSBVizError
from csbviz.models.opened import MATRIX_SUFFIXES, MODEL_SUFFIXES
from csbviz.ui import data, state
from csbviz.ui.components import own_data
from csbviz.ui.text import escape

__all__ = ["sample_card", "upload_card"]

MAX_UPLOAD_MB = 500
_TURN = "csbviz.upload_turn"
_RESULT = "csbviz.upload_result"


def sample_card(sample: Any) -> None:
    """One sample model: what it is, where it comes from, and a button that opens it."""
    is_open = state.settings().model == sample.id
    with st.container(border=True, height="stretch", vertical_alignment="distribute"):
        with st.container():
            st.markdown(f"**{escape(sample.title)}**")
            st.caption(escape(sample.description))
            st.caption(f"{escape(sample.origin)} {escape(sample.licence)}.")
            if sample.accuracy:
                st.caption(f"Accuracy: {escape(sample.accuracy)}.")
            if not sample.available:
                st.caption(f":material/info: {escape(sample.reason)}")
        st.button(
            "Opened" if is_open else "Open",
            key=f"open.{sample.id}",
            icon=":material/check:" if is_open else ":material/folder_open:",
            disabled=is_open or not sample.available,
            on_click=_open_sample,
            args=(sample.id,),
        )


def _open_sample(sample_id: str) -> None:
    st.session_state.pop(_RESULT, None)
    state.update(model=sample_id)


def upload_card() -> None:
    """The card that takes a file; a file that cannot be used leaves everything as it is."""
    turn = st.session_state.setdefault(_TURN, 0)
    key = f"upload.{turn}"
    with st.container(border=True, height="stretch"):
        st.markdown("**Your own model or matrix**")
        st.file_uploader(
            "Upload a model or matrix",
            key=key,
            max_upload_size=MAX_UPLOAD_MB,
            label_visibility="collapsed",
            on_change=_take,
            args=(key,),
        )
        kind, sentence = st.session_state.get(_RESULT, ("hint", ""))
        if kind == "error":
            st.error(escape(sentence), icon=":material/error:")
        elif kind == "done":
            st.success(escape(sentence), icon=":material/check:")
        else:
            st.caption(
                f"Models: {', '.join(MODEL_SUFFIXES)}. Matrices: {', '.join(MATRIX_SUFFIXES)}, "
                "each also .gz. Code in a file is never run."
            )


def _take(key: str) -> None:
    """Open the uploaded file, remember what to say of it, and let the browser's copy go."""
    file = st.session_state.get(key)
    if file is None:
        return
    st.session_state[_TURN] += 1
    try:
        data.add_upload(file.getvalue(), file.name)
    except CSBVizError as error:
        st.session_state[_RESULT] = ("error", f"{error} What was open stays open.")
    except MemoryError:
        st.session_state[_RESULT] = ("error", f"{file.name} needs more memory than this machine has.")
    else:
        own_data.keep_original(file.getvalue(), file.name, data.uploaded().digest)
        layers = len(data.uploaded().layers)
        st.session_state[_RESULT] = (
            "done",
            f"{file.name} is open: {layers} prunable layer{'s'[: layers != 1]}.",
        )
