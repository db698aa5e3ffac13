"""The coarse search: many random masks of kernels or feature maps, the best one retrained."""

from __future__ import annotations

from typing import Any

import streamlit as st

from csbviz import figures
from csbviz.ui import data, state
from csbviz.ui.components import jobs
from csbviz.ui.components.charts import draw
from csbviz.ui.components.columns import split
from csbviz.ui.components.numbers import numbers
from csbviz.ui.pruned import keep_trained
from csbviz.ui.settings import TRAINED
from csbviz.ui.text import percent

__all__ = ["card"]

JOB = "search"
_KEPT = "csbviz.search"
_UNITS = {"kernel": "Kernels", "filter": "Feature maps"}


def card(view: data.View) -> None:
    """Draw the settings, the candidates and the best one, where the model has convolutions and a task."""
    from csbviz.tasks.accuracy import measurable_task

    task = None if view.opened.model is None else measurable_task(view.opened.model)
    if task is None or task.batches is None or not any("conv" in layer.kind for layer in view.opened.layers):
        st.caption("The search prunes convolutions and needs training data: open the sample CNN to try it.")
        return
    left, right = split("search", [1, 3])
    with left:
        kwargs = _settings()
        st.button(
            "Search",
            key="search",
            type="primary",
            icon=":material/casino:",
            width="stretch",
            disabled=jobs.active(JOB),
            on_click=_start,
            args=(view, task, kwargs),
            help="It runs in the background and gives way to measurements.",
        )
    with right:
        if jobs.active(JOB):
            jobs.watch(JOB, show=_live)
        jobs.say_how_it_ended(JOB)
        outcome = jobs.outcome(JOB)
        if jobs.active(JOB):
            return
        if outcome is not None and outcome["about"] == view.opened.digest:
            _result(view, outcome["result"])
        else:
            st.caption("Nothing was searched yet: every candidate appears here as a point.")


def _settings() -> dict[str, Any]:
    usual = {"granularity": "kernel", "sparsity": 85, "count": 100, "epochs": 1.0}
    kept = st.session_state.setdefault(_KEPT, usual)

    def bind(name: str) -> dict[str, Any]:
        key = f"w.search.{name}"
        state.show(key, kept[name])
        return {"key": key, "on_change": lambda: kept.update({name: st.session_state[key]})}

    st.segmented_control("Units", list(_UNITS), required=True, format_func=_UNITS.get, **bind("granularity"))
    st.slider("Units that go", 10, 95, step=5, format="%d %%", **bind("sparsity"))
    first, second = st.columns(2)
    first.number_input("Candidates", 5, 500, step=5, **bind("count"))
    second.number_input(
        "Epochs after", 0.0, 10.0, step=0.5, format="%.1f", help="Training of the best one.", **bind("epochs")
    )
    return {
        "granularity": kept["granularity"],
        "sparsity": kept["sparsity"] / 100,
        "count": int(kept["count"]),
        "retrain": {"epochs": kept["epochs"]} if kept["epochs"] else None,
    }


def _start(view: data.View, task: Any, kwargs: dict[str, Any]) -> None:
    whole = {
        "task": task.name,
        "weights": task.weights_of(view.opened.model),
        "seed": view.settings.seed,
        **kwargs,
    }
    jobs.hand_in(
        JOB,
        f"Search in {view.opened.title}",
        "csbviz.pruning.search:search",
        whole,
        "cpu",
        about=view.opened.digest,
        background=True,
    )


def _live(partial: Any) -> None:
    if not partial or not partial["candidates"]:
        st.caption("The first candidates are being measured.")
        return
    draw("candidates", figures.get_candidates_info(partial["candidates"]), key="candidates.live")
    training = partial.get("training")
    if training and training["curve"]:
        info = figures.get_training_curve_info(training["curve"], training["steps"])
        draw("training_curve", info, key="search.curve")


def _result(view: data.View, found: Any) -> None:
    task_metric = next(iter(found.before))
    after = found.after or found.pruned
    numbers(
        [
            ("Before", percent(found.before[task_metric], 2), "Accuracy on all test examples."),
            ("Best mask", percent(found.pruned[task_metric], 2), "Pruned, not trained again."),
            ("Retrained", percent(after[task_metric], 2) if found.after else "–", "After training."),
            ("Sparsity", percent(found.sparsity_reached), "Of the convolutions."),
        ]
    )
    draw("candidates", figures.get_candidates_info(found.candidates))
    st.button(
        "Use these weights on all pages",
        key="use.search",
        icon=":material/check:",
        on_click=_use,
        args=(view, found),
    )


def _use(view: data.View, found: Any) -> None:
    from csbviz.models.opened import of_model

    step = {
        "step": "search",
        "granularity": found.granularity,
        "sparsity": found.sparsity,
        "seed": found.seed,
    }
    made = of_model(view.opened.model.with_weights(found.weights, made_by=step), view.opened.title)
    share = percent(found.sparsity_reached)
    keep_trained(view.opened, made, f"coarse search ({found.granularity}), {share}, {made.digest[:8]}")
    state.update(method=TRAINED)
