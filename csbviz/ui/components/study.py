"""Studies of pruning: those that come along, and one that is measured here in the background."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import streamlit as st

from csbviz.ui import data
from csbviz.ui.components import jobs
from csbviz.ui.text import escape, percent

__all__ = ["JOB", "TIMES_JOB", "controls", "measured", "recorded", "time_kernels"]

JOB, TIMES_JOB = "study", "study.times"
FOLDER = Path(__file__).resolve().parents[3] / "docs" / "data"
_TIMES_MODULE = "csbviz.bench.study_times"
_UNITS = {
    "Single weights": "weight",
    "1:4": {"nm": (1, 4)},
    "2:4": {"nm": (2, 4)},
    "Blocks 4 × 4": {"block": (4, 4)},
    "Blocks 8 × 8": {"block": (8, 8)},
    "Kernels": "kernel",
    "Filters": "filter",
    "Rows": "row",
    "Columns": "column",
}


_SUBJECTS = {
    "cnn": "criteria",
    "g2p": "criteria",
    "minilm": "criteria",
    "units": "granularities",
    "training": "ways of training",
}
"""What the files are about, for people."""


def recorded() -> dict[str, dict[str, Any]]:
    """Title → study, of the files that come along: ``{"task", "metric", "records", "times", "chance"}``."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(FOLDER.glob("pruning_*.json")):
        found |= _read(str(path), path.stat().st_mtime_ns)
    return found


@st.cache_resource(max_entries=16, show_spinner=False)
def _read(path: str, changed: int) -> dict[str, dict[str, Any]]:
    """One study for each task of a file; files of another kind give none."""
    from csbviz.tasks import TASKS

    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    whole = content if isinstance(content, dict) else {"records": content}
    needed = {"task", "method", "granularity", "metrics", "sparsity_reached"}
    records = [r for r in whole.get("records", ()) if isinstance(r, dict) and needed <= set(r)]
    found = {}
    name = Path(path).stem.removeprefix("pruning_").replace("_", " ")
    name = _SUBJECTS.get(name, name)
    for task in dict.fromkeys(record["task"] for record in records):
        known = TASKS.get(task)
        if known is None:
            continue
        times = [time for time in whole.get("times", ()) if time.get("task", task) == task]
        found[f"{known.title} · {name}"] = {
            "task": task,
            "metric": known.metric.name,
            "chance": known.metric.chance,
            "records": [_completed(record) for record in records if record["task"] == task],
            "times": times,
        }
    return found


def _completed(record: dict[str, Any]) -> dict[str, Any]:
    """A record with all that a summary reads.

    One in which nothing was pruned is the dense control, whichever criterion it names; trained networks,
    which name no digest of their weights, each stand for themselves.
    """
    dense = not record["sparsity_reached"] and record.get("case", "").startswith("dense")
    usual = {"scope": "global", "layers": None, "digest": str(record.get("case", ""))}
    return usual | record | ({"method": "dense"} if dense else {})


def measured(view: data.View) -> dict[str, Any] | None:
    """The study of the opened model that was measured last in this session, with its times."""
    outcome = jobs.outcome(JOB)
    if outcome is None or outcome["about"] != view.opened.digest:
        return None
    timed = jobs.outcome(TIMES_JOB)
    same = timed is not None and timed["about"] == (view.opened.digest, len(outcome["result"]["records"]))
    return {"times": timed["result"]["times"] if same else [], **outcome["result"]}


def controls(view: data.View, task: Any) -> None:
    """What a new study takes, and the button that starts it."""
    from csbviz.pruning.registry import METHODS
    from csbviz.pruning.study import SPARSITIES

    methods = [name for name in METHODS if name != "random"]
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom", key="controls-study"):
        chosen = st.multiselect(
            "Criteria",
            methods,
            default=["magnitude"],
            format_func={name: method.title for name, method in METHODS.items()}.get,
            key="study.methods",
            width=330,
            help="The dense control and the random baseline of each granularity are always measured too.",
        )
        units = st.multiselect(
            "Granularities",
            list(_UNITS),
            default=["Single weights", "Blocks 8 × 8", "Rows"],
            key="study.units",
            width=420,
        )
        seeds = st.number_input("Seeds", 1, 10, 3, step=1, key="study.seeds", width=110)
        limit = st.segmented_control(
            "Test examples",
            ["500", "All"],
            default="500",
            required=True,
            key="study.limit",
            help="500 are a quick look; report what all give.",
        )
        kwargs = {
            "task": task.name,
            "methods": tuple(chosen),
            "granularities": tuple(_UNITS[name] for name in units),
            "sparsities": tuple(SPARSITIES),
            "seeds": tuple(range(int(seeds))),
            "limit": None if limit == "All" else int(limit),
            "scope": view.settings.scope,
        }
        st.button(
            "Start the study",
            key="study.start",
            type="primary",
            icon=":material/science:",
            disabled=not chosen or not units or jobs.active(JOB),
            on_click=_start,
            args=(view, task, kwargs),
        )
    scope = "whole model" if view.settings.scope == "global" else "each layer"
    st.caption(
        f"{len(SPARSITIES)} sparsities from {percent(SPARSITIES[0], 0)} to {percent(SPARSITIES[-1], 0)}, "
        f"scope {scope}, on test data of {escape(task.title)}. "
        "It runs in the background and gives way to measurements."
    )


def _start(view: data.View, task: Any, kwargs: dict[str, Any]) -> None:
    whole = kwargs | {"weights": task.weights_of(view.opened.model)}
    title = f"Study of {view.opened.title}"
    jobs.hand_in(
        JOB, title, "csbviz.pruning.study:study", whole, "cpu", about=view.opened.digest, background=True
    )


def time_kernels(view: data.View, task: Any, study: dict[str, Any]) -> None:
    """Offer to time the kernels at the measured points of one seed."""
    if importlib.util.find_spec(_TIMES_MODULE) is None:
        return
    if jobs.active(TIMES_JOB):
        jobs.watch(TIMES_JOB)
    elif not study["times"]:
        st.button(
            "Time the kernels at these points",
            key="study.time",
            icon=":material/speed:",
            on_click=_time,
            args=(view, task, study),
            help="CSB, CSR and dense kernels of the two layers with the most work, N = 128, on this CPU.",
        )
    jobs.say_how_it_ended(TIMES_JOB)


def _time(view: data.View, task: Any, study: dict[str, Any]) -> None:
    records = [record for record in study["records"] if record["seed"] == 0 and record["method"] != "dense"]
    kwargs = {
        "task": task.name,
        "weights": task.weights_of(view.opened.model),
        "records": records,
        "min_time": 0.02,
    }
    about = (view.opened.digest, len(study["records"]))
    jobs.hand_in(TIMES_JOB, "Kernel times", f"{_TIMES_MODULE}:measure_points", kwargs, "cpu", about=about)
