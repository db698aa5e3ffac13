"""Recordings that a user opens from files: kept for the session, and listed beside those that come along."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import streamlit as st

from csbviz.errors import CSBVizError
from csbviz.ui.text import escape

__all__ = ["kept", "open_button", "report", "say_problem"]

MAX_UPLOAD_MB = 8
_MOST_FILES = 4
_PREFIX = "file-"


def _slot(kind: str, what: str) -> str:
    return f"csbviz.{kind}.{what}"


def kept(kind: str) -> dict[str, Any]:
    """Name → what was read, of the files of that kind that were opened in this session."""
    return st.session_state.get(_slot(kind, "files"), {})


def open_button(kind: str, read: Callable[[bytes, str], Any], select: Callable[[str], None]) -> None:
    """A button that opens a file.

    Parameters
    ----------
    kind : str
        Files of one kind are kept together under it.
    read : callable
        ``read(content, file name)`` makes of it what is kept; it raises `CSBVizError` for a file that it
        cannot use, and then what was shown stays.
    select : callable
        ``select(name)`` makes it the one that is shown.
    """
    key = f"upload.{kind}.{st.session_state.setdefault(_slot(kind, 'turn'), 0)}"
    with st.popover("Open a recording", icon=":material/upload_file:"):
        st.file_uploader(
            "A recording (.json)",
            type=["json"],
            key=key,
            max_upload_size=MAX_UPLOAD_MB,
            on_change=_take,
            args=(kind, key, read, select),
        )


def report(kind: str, problem: str) -> None:
    """Keep a sentence about a file for `say_problem`."""
    st.session_state[_slot(kind, "problem")] = problem


def say_problem(kind: str) -> None:
    """Say what was wrong with the last file, if anything was."""
    if problem := st.session_state.get(_slot(kind, "problem")):
        st.error(escape(problem), icon=":material/error:")


def _take(kind: str, key: str, read: Callable, select: Callable) -> None:
    file = st.session_state.get(key)
    if file is None:
        return
    st.session_state[_slot(kind, "turn")] += 1
    st.session_state.pop(_slot(kind, "problem"), None)
    content = file.getvalue()
    try:
        found = read(content, file.name)
    except CSBVizError as error:
        report(kind, str(error))
        return
    name = _PREFIX + hashlib.sha256(content).hexdigest()[:16]
    files = kept(kind) | {name: found}
    st.session_state[_slot(kind, "files")] = dict(list(files.items())[-_MOST_FILES:])
    select(name)
