"""Recorded runs of balance strategies on the page Balance: what each multiprocessor of a GPU really did."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from csbviz import figures
from csbviz.balance import STRATEGIES
from csbviz.balance.recording import (
    BalanceRecording,
    RecordedRun,
    load_recording,
    read_recording,
    recordings,
)
from csbviz.errors import CSBVizError
from csbviz.ui import state
from csbviz.ui.components import own_files
from csbviz.ui.components.charts import draw
from csbviz.ui.components.numbers import numbers
from csbviz.ui.text import OP_NAMES, count, escape, percent, ratio, shape, time_us

__all__ = ["show"]

_BEFORE = "in_order"
_KIND = "balance_recording"


def show() -> None:
    """Choose a recording and a strategy, and show it beside block rows in order."""
    known = _known()
    with st.container(border=True):
        with st.container(
            horizontal=True, gap="medium", vertical_alignment="bottom", key="controls-recording"
        ):
            recording = _choose(known) if known else None
            if recording:
                before = _before(recording)
                after = _choose_run(recording, before)
            own_files.open_button(_KIND, read_recording, lambda name: state.update(matrix=name, way=None))
        own_files.say_problem(_KIND)
        if state.settings().matrix not in (None, *known):
            st.warning(
                "The link names a recording that this session does not have: open its file here.",
                icon=":material/info:",
            )
        if recording is None:
            st.caption(
                "No recording comes with this installation. Open one of your own: "
                "`python -m csbviz record --strategies` writes it on a machine with an NVIDIA GPU."
            )
            return
        _say_what_it_is(recording)
    _facts(before, after)
    names = (before.title, after.title)
    st.subheader("How long every multiprocessor was busy, before and after", anchor=False)
    loads = before.multiprocessor_loads, after.multiprocessor_loads
    draw("balance_strip", figures.get_balance_strip_info(*loads, names, "multiprocessor", "µs"))
    timelines = {"before": before.timeline, "after": after.timeline}
    longest = max(timeline.makespan for timeline in timelines.values())
    for (name, timeline), run in zip(timelines.items(), (before, after), strict=True):
        if name == "before" or run is not before:
            st.subheader(f"Recorded timeline: {run.title}", anchor=False)
            info = figures.get_timeline_info(timeline, unit="µs", until=longest)
            draw("timeline", info, key=f"timeline.{name}")
    st.subheader("Every recorded strategy", anchor=False)
    _table(recording, before)


def _known() -> dict[str, BalanceRecording]:
    found = {}
    for name, path in recordings().items():
        try:
            found[name] = _loaded(str(path), path.stat().st_mtime_ns)
        except (CSBVizError, OSError) as error:
            own_files.report(_KIND, str(error))
    return found | own_files.kept(_KIND)


@st.cache_resource(max_entries=8, show_spinner=False)
def _loaded(path: str, changed: int) -> BalanceRecording:
    return load_recording(Path(path))


def _choose(known: dict[str, BalanceRecording]) -> BalanceRecording:
    wanted, names = state.settings().matrix, list(known)
    state.show("w.matrix", wanted if wanted in known else names[0])
    name = st.selectbox(
        "Recording",
        names,
        format_func=lambda name: known[name].title,
        width=430,
        key="w.matrix",
        on_change=lambda: state.update(matrix=st.session_state["w.matrix"]),
    )
    return known[name]


def _before(recording: BalanceRecording) -> RecordedRun:
    return next((run for run in recording.runs if run.strategy == _BEFORE), recording.runs[0])


def _choose_run(recording: BalanceRecording, before: RecordedRun) -> RecordedRun:
    runs = {f"{run.strategy}/{run.execution}": run for run in recording.runs}
    fastest = min(runs, key=lambda name: runs[name].median_us)
    wanted = state.settings().way
    st.selectbox(
        "Strategy, compared with block rows in order",
        list(runs),
        format_func=lambda name: f"{runs[name].title} ({time_us(runs[name].median_us)})",
        width=430,
        **state.bind("way", to_widget=lambda value: value if value in runs else fastest),
    )
    return runs[wanted if wanted in runs else fastest]


def _say_what_it_is(recording: BalanceRecording) -> None:
    matrix = recording.matrix
    product = OP_NAMES.get(recording.op, recording.op)
    note = recording.note[:1].upper() + recording.note[1:].rstrip(".")
    st.markdown(
        f":violet-badge[:material/history: Recorded on {escape(recording.device_name)}, "
        f"{escape(recording.date)}] Not measured on this machine."
    )
    st.caption(
        escape(
            f"{product} with N = {count(recording.n)} on {matrix.get('name', 'a matrix')} "
            f"({shape(matrix['shape'])}, {count(matrix['nnz'])} nonzeros, blocks "
            f"{shape(matrix['block_shape'])}), kernel {recording.kernel}. {note}. A worker is a place "
            "for a CTA on a multiprocessor; those of one multiprocessor lie side by side."
        )
    )


def _facts(before: RecordedRun, after: RecordedRun) -> None:
    share = 1 - 1 / after.imbalance
    numbers(
        [
            (
                "Time of the product",
                time_us(after.median_us),
                f"Median, measured without recording. In order: {time_us(before.median_us)}.",
            ),
            (
                "Against in order",
                ratio(before.median_us / after.median_us),
                "Speed over block rows in order.",
            ),
            (
                "λ, measured",
                f"{after.imbalance:.3f}",
                "Longest busy multiprocessor over the mean of all, in time. "
                f"In order: {before.imbalance:.3f}.",
            ),
            (
                "λ, planned",
                f"{after.planned_imbalance:.3f}",
                "Largest load over the mean, in nonzeros, as the plan was simulated beforehand on all places "
                "for CTAs that the GPU has: a place that gets nothing counts.",
            ),
            ("Idle", percent(share), "Share of the multiprocessors' time that is spent waiting, 1 − 1/λ."),
        ]
    )


def _table(recording: BalanceRecording, before: RecordedRun) -> None:
    rows = [
        {
            "Strategy": run.title,
            "Median": run.median_us,
            "Speed": before.median_us / run.median_us,
            "Measured": run.imbalance,
            "Planned": run.planned_imbalance,
            "Jobs": run.item.size,
            "Same": "yes" if STRATEGIES[run.strategy].deterministic else "no",
        }
        for run in sorted(recording.runs, key=lambda run: run.median_us)
    ]
    number = st.column_config.NumberColumn
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        alt="Time and imbalance of every recorded strategy, the fastest first",
        column_config={
            "Strategy": st.column_config.TextColumn("Strategy", width="large"),
            "Median": number("Median (µs)", format="%.4g"),
            "Speed": number("× in order", format="%.3g", help="Speed over block rows in order"),
            "Measured": number("λ measured", format="%.2f"),
            "Planned": number("λ planned", format="%.2f"),
            "Jobs": number("Jobs", format="localized", help="Items times tiles of columns"),
            "Same": st.column_config.TextColumn("Same bits", help="Whether two runs give bit-equal results"),
        },
    )
    st.caption(escape(f"Recorded on {recording.device_name}, {recording.date}."))
