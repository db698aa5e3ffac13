"""What pruning costs in accuracy and brings in time: studies of criteria and granularities."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from csbviz import figures
from csbviz.errors import CSBVizError
from csbviz.figures.tradeoff import TradeoffInfo
from csbviz.tasks.accuracy import measurable_task
from csbviz.ui import data
from csbviz.ui.components import jobs, study
from csbviz.ui.components.charts import draw
from csbviz.ui.components.header import open_page
from csbviz.ui.text import escape

_SOURCES = {"recorded": "Recorded studies", "here": "Measure here"}
_SOURCE = "csbviz.accuracy.source"


def _chosen_source() -> str:
    kept = st.session_state.setdefault(_SOURCE, "recorded")
    st.session_state.setdefault("accuracy.source", kept)

    def keep() -> None:
        st.session_state[_SOURCE] = st.session_state["accuracy.source"]

    return st.segmented_control(
        "Where the results come from",
        list(_SOURCES),
        required=True,
        format_func=_SOURCES.get,
        label_visibility="collapsed",
        key="accuracy.source",
        on_change=keep,
    )


def _info(found: dict[str, Any]) -> TradeoffInfo:
    from csbviz.pruning.study import summary
    from csbviz.tasks import task_named

    metric = found["metric"]
    titles = {each.name: each.title for each in task_named(found["task"]).metrics}
    rows = summary(found["records"], metric)
    return figures.get_tradeoff_info(rows, found.get("times", ()), titles[metric], found.get("chance", 0.0))


def _show(found: dict[str, Any], key: str) -> None:
    try:
        info = _info(found)
    except CSBVizError as error:
        st.error(escape(str(error)), icon=":material/error:")
        return
    draw("tradeoff", info, key=f"tradeoff.{key}")


def _table(found: dict[str, Any], key: str) -> None:
    info = _info(found)
    rows = pd.DataFrame(
        [
            {
                "Granularity and criterion": series.title,
                "Sparsity": 100 * point.sparsity,
                info.metric: 100 * point.mean,
                "± std": 100 * point.std,
                "Seeds": point.runs,
                "Compression": point.compression,
                "Theoretical speed-up": point.speedup,
                "CSB kernels": point.time,
                "Pareto front": point.front,
            }
            for series in info.series
            for point in series.points
        ]
    )
    if rows.empty:
        return
    if not info.timed:
        rows = rows.drop(columns="CSB kernels")
    number, share = st.column_config.NumberColumn, "%.1f %%"
    st.subheader("Operating points", anchor=False)
    st.dataframe(
        rows,
        hide_index=True,
        column_config={
            "Granularity and criterion": st.column_config.TextColumn(pinned=True),
            "Sparsity": number(format=share, help="Zeros among the weights of the pruned layers."),
            info.metric: number(format="%.2f %%"),
            "± std": number(format="%.2f", help="Standard deviation over the seeds, in percentage points."),
            "Compression": number(format="%.2f×", help="Parameters / parameters kept. No indices counted."),
            "Theoretical speed-up": number(
                format="%.2f×", help="Dense operations / operations left: what no kernel has to reach."
            ),
            "CSB kernels": number(
                "CSB kernels (µs)", format="%.1f", help="Measured: the two largest layers."
            ),
        },
        alt="Operating points with accuracy, compression, theoretical speed-up and measured time",
    )
    st.download_button(
        "Download as CSV",
        data=rows.to_csv(index=False),
        file_name="pruning-study.csv",
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
        key=f"csv.{key}",
    )


def _recorded(view: data.View) -> None:
    known = study.recorded()
    if not known:
        st.info("No study comes with this installation: measure one here.", icon=":material/science:")
        return
    task = None if view.opened.model is None else measurable_task(view.opened.model)
    names = list(known)
    names.sort(key=lambda name: (not known[name]["times"], -len(known[name]["records"])))
    fitting = next((name for name in names if task and known[name]["task"] == task.name), names[0])
    if st.session_state.get("accuracy.study") not in names:
        st.session_state["accuracy.study"] = st.session_state.get("csbviz.accuracy.study", fitting)

    def keep() -> None:
        st.session_state["csbviz.accuracy.study"] = st.session_state["accuracy.study"]

    name = st.selectbox("Study", names, key="accuracy.study", on_change=keep, width=480)
    _show(known[name], "recorded")
    _table(known[name], "recorded")


def _here(view: data.View) -> None:
    task = None if view.opened.model is None else measurable_task(view.opened.model)
    if task is None:
        st.info(
            "Accuracy needs data for the model, and there is none here for this one: open a sample with a "
            "task, or look at the recorded studies.",
            icon=":material/info:",
        )
        return
    with st.container(border=True):
        study.controls(view, task)
        if jobs.active(study.JOB):
            jobs.watch(study.JOB, show=_live)
        jobs.say_how_it_ended(study.JOB)
    found = study.measured(view)
    if found is None or jobs.active(study.JOB):
        if not jobs.active(study.JOB):
            st.caption("Nothing was measured here yet: the trade-off appears in this place, point by point.")
        return
    study.time_kernels(view, task, found)
    _show(found, "here")
    _table(found, "here")


def _live(partial: Any) -> None:
    if partial and partial["records"]:
        st.caption(f"{len(partial['records'])} of {partial['points']} operating points")
        _show(partial, "live")


def _page() -> None:
    view = open_page(
        "Accuracy", "What does each granularity cost in accuracy, and what does it bring in measured time?"
    )
    if _chosen_source() == "recorded":
        _recorded(view)
    else:
        _here(view)


_page()
