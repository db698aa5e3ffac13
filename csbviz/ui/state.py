"""The session: one frozen :class:`Settings`, kept in step with the URL and with the widgets.

Widgets forget their values when their page is left, and the URL is emptied then; so the settings in the
session are the truth. A widget is given its value from them before it is drawn (:func:`bind`) and writes back
in its callback; the URL is written after every change (:func:`sync_url`). When the URL is not what was
written last, the user edited it or went back in the browser's history, and it is read in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import streamlit as st

from csbviz.ui.settings import Settings, from_query, to_query

__all__ = ["bind", "enter", "notes", "say", "settings", "settle", "show", "sync_url", "update", "widget_key"]

_SETTINGS = "csbviz.settings"
_WRITTEN = "csbviz.query_written"
_CHANGED = "csbviz.changed"
_NOTES = "csbviz.notes"
_PAGE = "csbviz.page"
_IS_NEW = "csbviz.page_is_new"

_DEPENDENT: dict[str, dict[str, Any]] = {
    "model": {
        "layer": None,
        "method": None,
        "locked": None,
        "block": None,
        "rows": None,
        "cols": None,
        "at": None,
    },
    "layer": {"rows": None, "cols": None, "at": None},
    "block": {"at": None},
}
"""What a change of one setting puts back to its default, because it spoke of the old choice."""


def settings() -> Settings:
    """The settings of this session."""
    if _SETTINGS not in st.session_state:
        st.session_state[_SETTINGS] = Settings()
    return st.session_state[_SETTINGS]


def update(**changes: Any) -> None:
    """Change settings; what depended on a changed one goes back to its default unless it is given too."""
    current = settings()
    dependent: dict[str, Any] = {}
    for name, value in changes.items():
        if getattr(current, name) != value:
            dependent |= _DEPENDENT.get(name, {})
    changed = replace(current, **(dependent | changes))
    if changed != current:
        st.session_state[_SETTINGS] = changed
        st.session_state[_CHANGED] = True
        st.session_state[_NOTES] = []


def enter(page: str) -> None:
    """Note which page is being drawn, before any of its widgets is."""
    st.session_state[_IS_NEW] = st.session_state.get(_PAGE) != page
    st.session_state[_PAGE] = page


def say(sentence: str) -> None:
    """Show a sentence at the top of the page until the next change of a setting."""
    kept = st.session_state.setdefault(_NOTES, [])
    if sentence not in kept:
        kept.append(sentence)


def notes() -> list[str]:
    """The sentences that are waiting to be read."""
    return list(st.session_state.get(_NOTES, []))


def sync_url() -> None:
    """Read the URL when somebody else changed it, else write the settings into it.

    A change that comes with this run wins over the URL: the browser sends the address that it has, and while
    a slider is moved quickly that is still the one of a step before.
    """
    shown = st.query_params.to_dict()
    written = st.session_state.get(_WRITTEN)
    changed = st.session_state.pop(_CHANGED, False)
    if shown and shown != written and not changed:
        found, sentences = from_query(shown)
        st.session_state[_SETTINGS] = found
        st.session_state[_NOTES] = []
        for sentence in sentences:
            say(sentence)
    wanted = to_query(settings())
    if wanted != shown:
        st.query_params.from_dict(wanted)
    st.session_state[_WRITTEN] = wanted


def widget_key(name: str) -> str:
    """The session key of the widget that shows a setting."""
    return f"w.{name}"


def show(key: str, value: Any) -> None:
    """Give the widget of that key a value before it is drawn.

    A widget that has it already is left alone: the browser would take a value that is sent to it over what
    the user has typed or dragged since. On a page that has just been opened every widget is new, though the
    value of its namesake on the page before is still there.
    """
    if st.session_state.get(_IS_NEW) or key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def bind(
    name: str,
    to_widget: Callable[[Any], Any] | None = None,
    from_widget: Callable[[Any], Any] | None = None,
    key: str | None = None,
) -> dict[str, Any]:
    """Give the ``key`` and ``on_change`` that tie a widget to a setting.

    Parameters
    ----------
    name : str
        A field of `Settings`.
    to_widget, from_widget : callable, optional
        Translate the setting into the widget's value and back.
    key : str, optional
        Key of the widget, where a page shows a setting twice.
    """
    key = key or widget_key(name)
    value = getattr(settings(), name)
    show(key, to_widget(value) if to_widget else value)

    def write_back() -> None:
        chosen = st.session_state[key]
        update(**{name: from_widget(chosen) if from_widget else chosen})

    return {"key": key, "on_change": write_back}


def settle(**changes: Any) -> None:
    """Correct settings that do not fit the opened model, without dropping the sentences that say so."""
    st.session_state[_SETTINGS] = replace(settings(), **changes)
