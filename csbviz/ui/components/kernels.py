"""The choice of kernels on the page Run, and why some of them cannot run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from csbviz.ui import data, state
from csbviz.ui.kernel_choice import ALL, FEW, chosen_names, default_names, families, words
from csbviz.ui.text import escape, plural

if TYPE_CHECKING:
    from csbviz.ops.registry import Kernel

__all__ = ["choices", "pick", "say_which_cannot_run", "wanted_names"]

_MODES = {"best": "Automatic and the best others", "all": "All", "own": "Chosen"}


def choices(view: data.View) -> tuple[list[Kernel], list[tuple[Kernel, str]]]:
    """The kernels that the settings speak of: those that can run here, and (kernel, reason) of others."""
    chosen = view.settings
    return data.kernel_choices(chosen.device, chosen.dtype, chosen.ops)


def wanted_names(view: data.View) -> list[str]:
    """Names of the kernels that a run takes."""
    ready, _ = choices(view)
    chosen = view.settings
    return chosen_names(chosen.kernels, ready, chosen.dtype, chosen.ops)


def pick(view: data.View) -> None:
    """Draw the choice: one row of kernels, or a row for each format where there are many."""
    ready, _ = choices(view)
    if not ready:
        return
    if len(ready) <= FEW:
        _pills("Kernels", ready, view)
        return
    mode = {None: "best", ALL: "all"}.get(view.settings.kernels, "own")
    state.show("w.kernels.mode", mode)
    st.segmented_control(
        "Kernels",
        list(_MODES),
        required=True,
        format_func=_MODES.get,
        key="w.kernels.mode",
        on_change=_set_mode,
        args=(tuple(wanted_names(view)),),
        help="Automatic is the library's own choice among its kernels, for each precision class. "
        "The others are the best of CSR and dense.",
    )


def pick_of_many(view: data.View) -> None:
    """Draw a row of kernels for each format, where kernels are chosen one by one."""
    ready, _ = choices(view)
    if len(ready) > FEW and view.settings.kernels not in (None, ALL):
        for title, members in families(ready).items():
            _pills(title, members, view, key=f"w.kernels.{title.lower()}")


def _set_mode(current: tuple[str, ...]) -> None:
    mode = st.session_state["w.kernels.mode"]
    state.update(kernels={"best": None, "all": ALL, "own": current}[mode])


def _pills(label: str, members: list[Kernel], view: data.View, key: str = "w.kernels") -> None:
    """Kernels to switch on and off; those of other rows stay as they are."""
    titles = {kernel.name: kernel.title for kernel in members}
    ready, _ = choices(view)
    every = [kernel.name for kernel in ready]
    wanted = wanted_names(view)
    dtype, ops = view.settings.dtype, view.settings.ops

    def from_widget(names: list[str]) -> tuple[str, ...] | None:
        found = [name for name in every if name in names or (name in wanted and name not in titles)]
        if len(ready) <= FEW and found == default_names(ready, dtype, ops):
            return None
        return tuple(found)

    st.pills(
        label,
        list(titles),
        selection_mode="multi",
        format_func=titles.get,
        help="\n".join(f"- **{escape(kernel.title)}**: {escape(words(kernel, dtype))}" for kernel in members),
        **state.bind(
            "kernels",
            to_widget=lambda _: [name for name in titles if name in wanted],
            from_widget=from_widget,
            key=key,
        ),
    )


def say_which_cannot_run(view: data.View) -> None:
    """Name the kernels that cannot run here, a paragraph for each reason."""
    ready, missing = choices(view)
    if not missing:
        return
    reasons: dict[str, list[str]] = {}
    for kernel, reason in missing:
        reasons.setdefault(reason, []).append(kernel.title)
    label = f"{plural(len(missing), 'kernel')} cannot run here"
    with st.expander(label, icon=":material/block:", expanded=not ready):
        for reason, titles in reasons.items():
            st.caption(f"**{escape(' · '.join(titles))}**: {escape(reason)}")
