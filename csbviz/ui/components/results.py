"""What a run found: the verdict first, then the measurements."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from csbviz import figures
from csbviz.bench.noise import spread, unsteady
from csbviz.bench.record import Record
from csbviz.figures.text import time_scale
from csbviz.ui import data
from csbviz.ui.components.charts import draw
from csbviz.ui.components.columns import split
from csbviz.ui.text import OP_NAMES, escape, list_of, percent, plural, shape, significant

__all__ = ["about", "plan_line", "show", "weights_in_words"]

_FORMATS = {"csb": "CSB", "csr": "CSR", "dense": "dense"}
_ROW_HEIGHT, _MOST_ROWS = 35, 24
_STATUS = {"ok": "verified", "wrong": "wrong result", "unavailable": "cannot run here", "failed": "failed"}


def about(view: data.View) -> dict[str, str]:
    """The settings that a run depends on as name → words: equal words, equal settings."""
    chosen = view.settings
    words = {
        "model": f"{view.opened.title} ({view.opened.digest[:8]})",
        "layer": view.layer.label,
        "weights": weights_in_words(view),
        "blocks": f"{shape(view.block)}, {chosen.order} order",
        "products": list_of([OP_NAMES[op] for op in chosen.ops]) or "none",
        "N": list_of([str(n) for n in chosen.ns]) or "none",
        "values": chosen.dtype,
        "device": {"cpu": "CPU", "cuda": "GPU"}[chosen.device],
        "kernels": "all" if chosen.kernels is None else list_of(list(chosen.kernels)) or "none",
        "balance": chosen.balance.replace("_", " "),
        "cache": chosen.mode,
    }
    if chosen.device == "cpu":
        words["threads"] = str(chosen.threads or data.default_workers("cpu"))
    return words


def weights_in_words(view: data.View) -> str:
    """How the weights were pruned; equal words for one model mean equal weights."""
    if not view.is_pruned:
        return "as loaded"
    chosen = view.settings
    scope = "whole model" if chosen.scope == "global" else "each layer"
    text = f"{chosen.method} {chosen.sparsity:g} %, {scope}"
    if chosen.method == "random":
        text += f", seed {chosen.seed}"
    if locked := data.locked_layers(view.opened, chosen):
        text += f", locked: {list_of(locked)}"
    return text


def plan_line(view: data.View) -> str:
    """One line on what Run will measure."""
    words = about(view)
    return (
        f"Measures {words['products']} on **{escape(words['layer'])}** "
        f"({percent(view.layer.sparsity)} sparse, blocks {words['blocks']}) "
        f"for N = {words['N']}, {words['values']}, {words['cache']}."
    )


def show(view: data.View, outcome: dict[str, Any] | None, running: bool) -> None:
    """Show the last outcome; say so when it is of other settings than the present ones."""
    if outcome is None:
        if not running:
            _nothing_yet()
        return
    _say_if_stale(outcome["about"], about(view))
    found = outcome["result"]
    records = [Record.from_dict(values) for values in found["records"]]
    _verdict(found["verdict"])
    if caution := found["verdict"].get("caution"):
        st.warning(escape(caution), icon=":material/airwave:")
    else:
        _say_if_unsteady(records)
    timed = [record for record in records if record.ok]
    st.subheader("Measurements", anchor=False)
    _table(records)
    if timed:
        left, right = split("bars", 2)
        with left:
            st.subheader("Time of one product", anchor=False)
            draw("run_times", figures.get_run_times_info(timed))
        with right:
            st.subheader("Speed-up", anchor=False)
            draw("speedups", figures.get_speedups_info(timed))


def _nothing_yet() -> None:
    with st.container(border=True):
        st.markdown("**No run yet.** Press *Run*: the verdict appears here in one sentence, with its reason.")
        st.caption(
            "CSB is timed against CSR and dense on the chosen layer, all in one run on one device and in a "
            "process of its own. A kernel with a wrong result is reported and never timed."
        )


def _say_if_stale(then: dict[str, str], now: dict[str, str]) -> None:
    changed = [name for name in now | then if then.get(name) != now.get(name)]
    if changed:
        words = "; ".join(f"{name}: {escape(then.get(name, 'none'))}" for name in changed)
        st.warning(
            f"These results are of earlier settings ({words}). Press Run to measure the present ones.",
            icon=":material/history:",
        )


def _say_if_unsteady(records: list[Record]) -> None:
    worst = unsteady(records)
    if worst:
        name = f"{worst[0].title}, {OP_NAMES[worst[0].op]}, N = {worst[0].n}"
        share = percent(spread(worst[0]), 0)
        st.warning(
            f"The times of {plural(len(worst), 'measurement')} are unsteady (quartiles {share} of the median "
            f"apart for {escape(name)}): something else used the machine, so run it again.",
            icon=":material/airwave:",
        )


def _verdict(verdict: dict[str, Any]) -> None:
    with st.container(border=True, key="verdict", gap="xsmall"):
        st.caption("THE VERDICT")
        st.subheader(escape(verdict["sentence"]), anchor=False)
        if verdict["reason"]:
            st.markdown(f"**Why:** {escape(verdict['reason'])}")
        for problem in verdict["problems"]:
            st.error(escape(problem), icon=":material/error:")
        if len(verdict["cases"]) > 2:
            _cases(verdict["cases"])


def _cases(cases: list[dict[str, Any]]) -> None:
    with st.expander(f"The verdict for each of {len(cases)} cases"):
        for case in cases:
            name = f"{OP_NAMES[case['op']]}, N = {case['n']}"
            st.markdown(f"**{name}: {_who_is_fastest(case)}.** {escape(case['reason'])}")


def _who_is_fastest(case: dict[str, Any]) -> str:
    first, level = _FORMATS[case["winner"]], [_FORMATS[name] for name in case["level"]]
    return f"{list_of([first, *level])} are equally fast" if level else f"{first} is fastest"


def _table(records: list[Record]) -> None:
    scale, unit = time_scale(record.median_us for record in records if record.ok)
    number = st.column_config.NumberColumn
    st.dataframe(
        pd.DataFrame([_row(record, scale) for record in records]),
        hide_index=True,
        height=_ROW_HEIGHT * (min(len(records), _MOST_ROWS) + 1) + 3,
        row_height=_ROW_HEIGHT,
        placeholder="",
        alt="Median time, quartiles, speed-ups, error, rate and bytes of every kernel",
        column_config={
            "Product": st.column_config.TextColumn("Product", width=70),
            "N": number("N", format="localized", width=60),
            "Kernel": st.column_config.TextColumn("Kernel", pinned=False),
            "Median": number(f"Median ({unit})", format="%.4g"),
            "Quartiles": st.column_config.TextColumn(f"Quartiles ({unit})", alignment="right"),
            "CSR": number("× CSR", format="%.3g", help="Speed-up over the fastest CSR kernel with one copy"),
            "dense": number(
                "× dense", format="%.3g", help="Speed-up over the fastest dense kernel of this precision"
            ),
            "Error": number("Rel. error", format="%.1e", help="‖C − C₆₄‖ / ‖C₆₄‖ against a float64 product"),
            "Rate": number("GFLOP/s", format="%.1f", help="2 · nonzeros · N / median"),
            "Bytes": number("KiB", format="%.1f", help="Matrix and plan that the kernel reads"),
            "λ": number("λ", format="%.2f", help="Largest load / mean load of the workers"),
            "Status": st.column_config.TextColumn("Status", width="large"),
        },
    )
    if timed := [record for record in records if record.ok]:
        first = timed[0]
        threads = f", {first.threads} threads" if first.threads else ""
        st.caption(
            escape(f"{first.device_name}{threads}, {first.mode}, {first.dtype}, measured {first.when}.")
        )


def _row(record: Record, scale: float) -> dict[str, Any]:
    threads = " · 1 thread" if record.threads == 1 and record.device == "cpu" else ""
    balance = f" · {record.balance.replace('_', ' ')}" if record.balance and record.format == "csb" else ""
    row = {
        "Product": OP_NAMES[record.op],
        "N": record.n,
        "Kernel": f"{record.title}{balance}{threads}",
        "Median": None,
        "Quartiles": "",
        "CSR": record.speedup_vs_csr,
        "dense": record.speedup_vs_dense,
        "Error": record.rel_error,
        "Rate": 1e3 * record.tflops if record.tflops is not None else None,
        "Bytes": record.bytes / 1024 if record.bytes is not None else None,
        "λ": record.imbalance,
        "Status": _STATUS[record.status] + (f": {record.message}" if record.message else ""),
    }
    if record.ok:
        row["Median"] = record.median_us / scale
        row["Quartiles"] = f"{significant(record.p25_us / scale)} – {significant(record.p75_us / scale)}"
    return row
