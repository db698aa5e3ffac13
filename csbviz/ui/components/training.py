"""Train the opened network until it is sparse: settings, a background job, its live curve, its weights."""

from __future__ import annotations

from typing import Any

import streamlit as st

from csbviz import figures
from csbviz.errors import CSBVizError
from csbviz.ui import data, state
from csbviz.ui.components import jobs
from csbviz.ui.components.charts import draw
from csbviz.ui.components.columns import split
from csbviz.ui.components.numbers import numbers
from csbviz.ui.pruned import keep_trained, options_of
from csbviz.ui.settings import LOADED, TRAINED
from csbviz.ui.text import escape, percent, plural

__all__ = ["card"]

JOB = "training"
_USUAL = {"epochs": 2.0, "learning_rate": 1e-3, "rounds": 4, "strength": 1.0}
_KEY = "csbviz.training"


def card(view: data.View) -> None:
    """Show the settings and the last training, where the model has a task with training data."""
    from csbviz.tasks.accuracy import measurable_task

    task = None if view.opened.model is None else measurable_task(view.opened.model)
    if task is None or task.batches is None:
        st.caption(
            "Training needs data for the model: there is none here for this one. Open a sample with a task."
        )
        return
    left, right = split("training", [1, 3])
    with left:
        kwargs = _settings(view, task)
        _buttons(view, kwargs)
    with right:
        if jobs.active(JOB):
            jobs.watch(JOB, show=_live)
        jobs.say_how_it_ended(JOB)
        if not jobs.active(JOB):
            _result(view)


def _settings(view: data.View, task: Any) -> dict[str, Any]:
    """Draw the settings and give the arguments of the job."""
    from csbviz.pruning.training import TRAINING

    kept = st.session_state.setdefault(_KEY, {"method": "gradual"} | _USUAL)

    def bind(name: str) -> dict[str, Any]:
        key = f"w.training.{name}"
        state.show(key, kept[name])
        return {"key": key, "on_change": lambda: kept.update({name: st.session_state[key]})}

    st.selectbox(
        "Way of training",
        list(TRAINING),
        format_func={name: method.title for name, method in TRAINING.items()}.get,
        help="\n".join(f"- **{escape(m.title)}**: {escape(m.summary)}" for m in TRAINING.values()),
        **bind("method"),
    )
    method = TRAINING[kept["method"]]
    st.caption(escape(method.summary))
    first, second = st.columns(2)
    first.number_input("Epochs", 0.1, 20.0, step=0.5, format="%.1f", **bind("epochs"))
    second.number_input(
        "Learning rate", 1e-5, 0.1, step=5e-4, format="%.4f", help="At its highest.", **bind("learning_rate")
    )
    settings = {name: kept[name] for name in ("epochs", "learning_rate")} | {"seed": view.settings.seed}
    first, second = st.columns(2)
    first.number_input(
        "Rounds",
        1,
        20,
        step=1,
        disabled="rounds" not in method.settings,
        help="Cuts of iterative pruning; each is followed by training.",
        **bind("rounds"),
    )
    second.number_input(
        "Strength",
        0.01,
        20.0,
        step=0.5,
        disabled="strength" not in method.settings,
        help="Weight of the penalty: variational dropout and L0 come out as sparse as it makes them.",
        **bind("strength"),
    )
    settings |= {name: kept[name] for name in ("rounds", "strength") if name in method.settings}
    if method.asks_sparsity:
        chosen = view.settings
        rule = chosen.method if chosen.method not in (LOADED, TRAINED) else "magnitude"
        settings |= {
            "sparsity": min(chosen.sparsity, 99.5) / 100,
            "criterion": rule,
            "granularity": chosen.granularity,
            "options": {name: list(value) for name, value in options_of(chosen).items()} or None,
            "scope": chosen.scope,
        }
        st.caption(f"Criterion, granularity, scope and sparsity ({chosen.sparsity:g} %) are those set above.")
    else:
        st.caption("It is not asked for a sparsity: the strength decides.")
    return {
        "task": task.name,
        "weights": task.weights_of(view.opened.model),
        "method": kept["method"],
        "settings": settings,
    }


def _buttons(view: data.View, kwargs: dict[str, Any]) -> None:
    from csbviz.pruning.training import checkpoint_folder, saved_step, settings_of

    try:
        settings_of(kwargs["method"], kwargs["settings"])
        folder = checkpoint_folder(**kwargs)
        step = saved_step(folder)
    except CSBVizError as error:
        st.warning(escape(str(error)), icon=":material/info:")
        return
    st.button(
        "Train" if step is None else f"Go on from step {step:,}",
        key="train",
        type="primary",
        icon=":material/play_arrow:" if step is None else ":material/resume:",
        width="stretch",
        disabled=jobs.active(JOB),
        on_click=_start,
        args=(view, kwargs | {"checkpoint": folder}),
        help="It runs in the background and gives way to measurements. Cancelling keeps what is saved.",
    )
    if step is not None:
        st.button(
            "Start anew",
            key="train.anew",
            icon=":material/restart_alt:",
            width="stretch",
            disabled=jobs.active(JOB),
            on_click=_start_anew,
            args=(view, kwargs | {"checkpoint": folder}),
        )


def _start(view: data.View, kwargs: dict[str, Any]) -> None:
    title = f"Training of {view.opened.title}"
    jobs.hand_in(
        JOB,
        title,
        "csbviz.pruning.training:train",
        kwargs,
        "cpu",
        about=view.opened.digest,
        background=True,
        restarts=2,
    )


def _start_anew(view: data.View, kwargs: dict[str, Any]) -> None:
    from csbviz.pruning.training import discard

    discard(kwargs["checkpoint"])
    _start(view, kwargs)


def _live(partial: Any) -> None:
    """The curve so far, with the time that is left."""
    if not partial:
        st.caption("The curve begins when the first weights have been measured.")
        return
    left, saved = partial.get("seconds_left"), partial.get("saved_step")
    words = [f"Epoch {partial['epoch']:.2f} of {partial['epochs']:g}"]
    words.append("time left not known yet" if left is None else f"about {left:,.0f} s left")
    if saved is not None:
        words.append(f"saved at step {saved:,}")
    st.caption(" · ".join(words))
    metric = partial["metric"]
    before = (partial.get("before") or {}).get(metric)
    info = figures.get_training_curve_info(partial["curve"], partial["steps"], before, partial.get("target"))
    draw("training_curve", info, key="training_curve.live")


def _result(view: data.View) -> None:
    outcome = jobs.outcome(JOB)
    if outcome is None or outcome["about"] != view.opened.digest:
        st.caption(
            "Nothing was trained yet. The curve appears here: accuracy on held-out data, loss and sparsity "
            "over the steps."
        )
        return
    trained = outcome["result"]
    metric = next(iter(trained.after))
    before, after = trained.before[metric], trained.after[metric]
    numbers(
        [
            ("Before", percent(before, 2), "Of the weights as loaded, on all test examples."),
            ("After training", percent(after, 2), "On all test examples."),
            ("Change", f"{100 * (after - before):+.2f}".replace("-", "−"), "In percentage points."),
            ("Sparsity", percent(trained.sparsity), "Zeros among the weights that were to be pruned."),
            ("Time", f"{trained.seconds:,.0f} s", f"{plural(trained.steps, 'step')}, pauses left out."),
        ]
    )
    info = figures.get_training_curve_info(
        trained.curve, trained.steps, before, trained.settings.get("sparsity")
    )
    draw("training_curve", info, key="training_curve.done")
    st.button(
        "Use these weights on all pages",
        key="use.trained",
        icon=":material/check:",
        on_click=_use,
        args=(view, trained),
        help="They take the place of the pruned weights: layout, balance, run and download show them.",
    )


def _use(view: data.View, trained: Any) -> None:
    from csbviz.models.opened import of_model

    made = of_model(trained.model(view.opened.model), view.opened.title)
    words = f"trained ({trained.method}), {percent(trained.sparsity)} sparse, {trained.digest()[:8]}"
    keep_trained(view.opened, made, words)
    state.update(method=TRAINED)
