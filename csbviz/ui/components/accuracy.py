"""The accuracy of the model before and after pruning, measured in a job."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from csbviz.tasks.accuracy import measurable_task, measure_versions
from csbviz.ui import data
from csbviz.ui.components import jobs
from csbviz.ui.components.numbers import numbers
from csbviz.ui.components.results import weights_in_words
from csbviz.ui.text import percent

__all__ = ["card"]

JOB = "accuracy"
_MEASURED = "csbviz.accuracies"
_LOADED = "as loaded"


def card(view: data.View) -> None:
    """Show the accuracy of the chosen weights, or offer to measure it, where there is a test set."""
    task = None if view.opened.model is None else measurable_task(view.opened.model)
    if task is None:
        return
    measured = _measured(view)
    words = weights_in_words(view)
    st.subheader(f"{task.metric.title} of the {task.title} on test data", anchor=False)
    before, after = measured.get(_LOADED), measured.get(words)
    with st.container(border=True):
        numbers(
            [
                ("As loaded", _shown(before), "Share of the test examples that the model gets right."),
                ("Pruned", _shown(after), "The same, with the weights as the other pages show them."),
                ("Change", _change(before, after), "In percentage points."),
            ]
        )
        if jobs.active(JOB):
            jobs.watch(JOB)
        else:
            st.button(
                "Measure the accuracy",
                key="measure.accuracy",
                icon=":material/fact_check:",
                disabled=before is not None and after is not None,
                on_click=_start,
                args=(view,),
            )
        jobs.say_how_it_ended(JOB)
        _history(view, measured)


def _measured(view: data.View) -> dict[str, float]:
    """What this session has measured of the opened model: weights in words → share of right answers."""
    known = st.session_state.setdefault(_MEASURED, {}).setdefault(view.opened.digest, {})
    outcome = jobs.outcome(JOB)
    if outcome and outcome["about"] == view.opened.digest:
        metric = measurable_task(view.opened.model).metric.name
        known.update({name: found[metric] for name, found in outcome["result"].items()})
    return known


def _start(view: data.View) -> None:
    task = measurable_task(view.opened.model)
    known, words = _measured(view), weights_in_words(view)
    versions = {_LOADED: view.opened.model, words: view.pruned.model}
    kwargs = {
        "task": task.name,
        "versions": {name: task.weights_of(model) for name, model in versions.items() if name not in known},
    }
    function = f"{measure_versions.__module__}:{measure_versions.__name__}"
    jobs.hand_in(JOB, "Accuracy", function, kwargs, "cpu", about=view.opened.digest)


def _history(view: data.View, measured: dict[str, float]) -> None:
    others = [name for name in measured if name not in (_LOADED, weights_in_words(view))]
    if others:
        with st.expander(f"Measured before: {len(others)}"):
            st.dataframe(
                pd.DataFrame({"Weights": others, "Accuracy": [100 * measured[name] for name in others]}),
                hide_index=True,
                column_config={"Accuracy": st.column_config.NumberColumn(format="%.2f %%")},
            )


def _shown(value: float | None) -> str:
    return "not measured" if value is None else percent(value, 2)


def _change(before: float | None, after: float | None) -> str:
    return "–" if before is None or after is None else f"{100 * (after - before):+.2f}".replace("-", "−")
