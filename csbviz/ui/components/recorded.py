"""Recordings on the page Run: runs that were measured elsewhere, in the same words and figures.

A recording stands by itself, with device and date beside every part of it; what is measured here is never
put among its numbers.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from csbviz.bench.names import VECTOR_OPS
from csbviz.bench.record import Record
from csbviz.bench.recordings import RecordedRun, Recording, load_recording, read_recording, shipped_recordings
from csbviz.bench.verdict import verdict
from csbviz.errors import CSBVizError
from csbviz.ui import data, state
from csbviz.ui.components import own_files, results
from csbviz.ui.settings import MAX_NS, OPS
from csbviz.ui.text import OP_NAMES, count, escape, percent, shape

__all__ = ["show"]

_KIND = "run_recording"


def show(view: data.View) -> None:
    """Choose a recording and one of its runs, and show it."""
    known = _known()
    with st.container(border=True):
        with st.container(
            horizontal=True, gap="medium", vertical_alignment="bottom", key="controls-recording"
        ):
            name = _choose_recording(known, view)
            run = _choose_run(known[name], view) if name else None
            own_files.open_button(_KIND, read_recording, lambda name: state.update(recording=name, run=None))
        own_files.say_problem(_KIND)
        if view.settings.recording not in (None, *known):
            st.warning(
                "The link names a recording that this session does not have: open its file here.",
                icon=":material/info:",
            )
        if run is None:
            st.caption(
                "No recording comes with this installation. Open one of your own: “Save as a recording” "
                "under a run, or `python -m csbviz record`, writes it."
            )
            return
        recording = known[name]
        records = _filtered(run, view)
        _say_what_it_is(recording, run, view)
    label = recording.label
    if records:
        results.show_recorded(records, verdict(records), label)
    else:
        st.info("Choose at least one operation and one N of the recording.", icon=":material/filter_alt:")


def _known() -> dict[str, Recording]:
    """Name → recording: those that come with the project, then those of this session."""
    found = {}
    for name, path in shipped_recordings().items():
        try:
            found[name] = _shipped(str(path), path.stat().st_mtime_ns)
        except (CSBVizError, OSError) as error:
            own_files.report(_KIND, str(error))
    return found | own_files.kept(_KIND)


@st.cache_resource(max_entries=16, show_spinner=False)
def _shipped(path: str, changed: int) -> Recording:
    return load_recording(Path(path))


def _choose_recording(known: dict[str, Recording], view: data.View) -> str | None:
    if not known:
        return None
    wanted = view.settings.recording
    names = list(known)
    fitting = next((name for name in names if _run_of_view(known[name], view)), names[0])
    state.show("w.recording", wanted if wanted in known else fitting)
    st.selectbox(
        "Recording",
        names,
        format_func=lambda name: f"{known[name].title} · {known[name].device_name}, {known[name].date}",
        width=430,
        key="w.recording",
        on_change=lambda: state.update(recording=st.session_state["w.recording"], run=None),
    )
    return st.session_state["w.recording"]


def _run_of_view(recording: Recording, view: data.View) -> RecordedRun | None:
    """The run of the layer that is open, whatever its weights are."""
    source = f"sample:{view.settings.model}"
    return next((run for run in recording.runs if (run.source, run.name) == (source, view.layer.name)), None)


def _choose_run(recording: Recording, view: data.View) -> RecordedRun:
    titles = {_key(place, run): _title(run) for place, run in enumerate(recording.runs)}
    runs = dict(zip(titles, recording.runs, strict=True))
    fitting = _run_of_view(recording, view)
    first = next(key for key, run in runs.items() if run is (fitting or recording.runs[0]))
    wanted = view.settings.run
    st.selectbox(
        "Layer or matrix",
        list(titles),
        format_func=titles.get,
        width=330,
        **state.bind("run", to_widget=lambda value: value if value in runs else first, key="w.run"),
    )
    return runs[wanted if wanted in runs else first]


def _key(place: int, run: RecordedRun) -> str:
    return f"{place + 1}. {run.name}"


def _title(run: RecordedRun) -> str:
    first = run.records[0]
    name = run.name.removesuffix(".weight")
    return f"{name} · {shape((first.m, first.k))}, {percent(first.sparsity)} sparse"


def _filtered(run: RecordedRun, view: data.View) -> list[Record]:
    """The records of the chosen operations and numbers of columns."""
    there = {_group(record.op) for record in run.records}
    ops = [op for op in OPS if op in there]
    ns = sorted({record.n for record in run.records if record.op not in VECTOR_OPS})
    with st.container(horizontal=True, gap="medium", key="controls-recorded"):
        wanted = [op for op in view.settings.ops if op in ops] or ops[:2]
        st.pills(
            "Operations",
            ops,
            selection_mode="multi",
            format_func=lambda op: "Layer" if op == "layer" else OP_NAMES[op],
            **state.bind(
                "ops",
                to_widget=lambda _: wanted,
                from_widget=lambda names: tuple(op for op in OPS if op in names),
                key="w.recorded.ops",
            ),
        )
        columns = [n for n in view.settings.ns if n in ns] or ns[-1:]
        if len(ns) > 1:
            st.pills(
                "N, columns of B",
                ns,
                selection_mode="multi",
                format_func=count,
                **state.bind(
                    "ns",
                    to_widget=lambda _: columns,
                    from_widget=lambda names: tuple(sorted(names))[:MAX_NS],
                    key="w.recorded.ns",
                ),
            )
    return [
        record
        for record in run.records
        if _group(record.op) in wanted and (record.op in VECTOR_OPS or record.n in columns)
    ]


def _group(op: str) -> str:
    """The parts of a layer are shown with the layer."""
    return op.partition(".")[0] if op.startswith("layer") else op


def _say_what_it_is(recording: Recording, run: RecordedRun, view: data.View) -> None:
    same = _run_of_view(recording, view) is run
    here = ""
    if same and run.weights == results.weights_in_words(view):
        here = " It is the layer that is open, pruned in the same way."
    elif same:
        here = " It is the layer that is open, with other weights."
    kept = [f"{name} {version}" for name, version in recording.versions.items() if name != "python"]
    weights = f" Weights: {escape(run.weights)}." if run.weights else ""
    st.markdown(
        f":violet-badge[:material/history: {escape(recording.label)}] "
        f"Not measured on this machine.{here}{weights}"
    )
    st.caption(escape(f"Versions: {', '.join(kept)}.") if kept else "")
