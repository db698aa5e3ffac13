"""Tuning on the page Run: every variant of the CSB kernels for one product, the fastest first."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from csbviz.bench.names import VECTOR_OPS
from csbviz.ui import data
from csbviz.ui.components import jobs, results
from csbviz.ui.text import OP_NAMES, escape, plural, ratio, time_us

__all__ = ["card"]

JOB = "tune"
BUDGET_SECONDS = 30.0
"""After this many seconds no further variant is begun; the kernels' own choices come first."""

_SHOWN = 40
_STATUS = {"ok": "verified", "wrong": "wrong result", "failed": "failed"}


def card(view: data.View, blocked: bool) -> None:
    """Offer to tune one of the chosen products, and show what was found."""
    ops = [op for op in view.settings.ops if op != "layer"]
    outcome, busy = jobs.outcome(JOB), jobs.active(JOB)
    if not ops:
        return
    opened = busy or outcome is not None
    with st.expander("Tune: time every variant of the CSB kernels", icon=":material/tune:", expanded=opened):
        st.caption(
            "A variant is a kernel with one setting of its parameters, such as its tile and its split. Each "
            f"is verified, then timed; the search ends after {BUDGET_SECONDS:.0f} seconds."
        )
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            op = st.selectbox("Operation", ops, format_func=OP_NAMES.get, width=130, key="tune.op")
            n = 1
            if op not in VECTOR_OPS:
                n = st.selectbox("N", view.settings.ns or (128,), width=110, key="tune.n")
            st.button(
                "Tune",
                key="tune",
                icon=":material/tune:",
                disabled=blocked or busy,
                on_click=_start,
                args=(view, op, n),
            )
        if busy:
            jobs.watch(JOB)
        jobs.say_how_it_ended(JOB)
        if outcome:
            _found(outcome)


def _start(view: data.View, op: str, n: int) -> None:
    chosen = view.settings
    request = {"op": op, "n": n, "device": chosen.device, "budget_s": BUDGET_SECONDS}
    if chosen.device == "cpu":
        request["threads"] = chosen.threads
    kwargs = {
        "csr": view.csr,
        "request": request,
        "block_shape": view.block,
        "order": chosen.order,
        "dtype": chosen.dtype,
    }
    case = OP_NAMES[op] if op in VECTOR_OPS else f"{OP_NAMES[op]}, N = {n}"
    where = results.about(view)
    about = f"{case} of {where['layer']} ({where['weights']}), {where['values']}, on the {where['device']}"
    jobs.hand_in(JOB, f"Tuning {about}", "csbviz.bench.jobs:run_tune", kwargs, chosen.device, about=about)


def _found(outcome: dict[str, Any]) -> None:
    found = outcome["result"]
    variants, place = found["variants"], found["automatic"]
    good = [variant for variant in variants if variant["status"] == "ok"]
    own = variants[place]["median_us"] if place is not None else None
    st.markdown(f"**{escape(outcome['about'])}.** {escape(_in_short(good, own, len(variants)))}")
    st.dataframe(
        pd.DataFrame([_row(variant, own, i == place) for i, variant in enumerate(variants[:_SHOWN])]),
        hide_index=True,
        placeholder="",
        alt="Every measured variant with its time, the fastest first",
        column_config={
            "Status": st.column_config.TextColumn("Status", width=95),
            "Median": st.column_config.NumberColumn("Median (µs)", format="%.4g"),
            "Speed": st.column_config.NumberColumn(
                "× automatic", format="%.3g", help="Speed over the variant that the library takes by itself"
            ),
            "Settings": st.column_config.TextColumn("Settings", width="large"),
        },
    )
    if len(variants) > _SHOWN:
        st.caption(f"The {_SHOWN} fastest of {len(variants)} variants.")


def _in_short(good: list[dict], own: float | None, count: int) -> str:
    if not good:
        return "No variant gave a right result."
    best = good[0]["median_us"]
    text = f"{plural(count, 'variant')} measured, the fastest takes {time_us(best)}"
    if own is None:
        return f"{text}; what the library takes by itself was not among them."
    if own <= 1.02 * best:
        return f"{text}: the library's own choice is among the fastest."
    return f"{text}, {ratio(own / best)} as fast as the library's own choice ({time_us(own)})."


def _row(variant: dict[str, Any], own: float | None, automatic: bool) -> dict[str, Any]:
    used = {name: value for name, value in variant["used"].items() if name != "block_shape"}
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in used.items())
    time = variant["median_us"]
    return {
        "Kernel": variant["kernel"] + (" · automatic" if automatic else ""),
        "Status": _STATUS[variant["status"]] + (f": {variant['message']}" if variant["message"] else ""),
        "Median": time,
        "Speed": own / time if own and time else None,
        "Settings": settings,
    }
