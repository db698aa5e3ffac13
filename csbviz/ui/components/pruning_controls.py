"""How the model is pruned: criterion, units, scope, sparsity, locked layers, seed."""

from __future__ import annotations

from typing import Any

import streamlit as st

from csbviz.ui import data, state
from csbviz.ui.components import jobs
from csbviz.ui.components.mask import CLOSE_UP
from csbviz.ui.pruned import evidence_of, keep_evidence, trained_of, unit_of
from csbviz.ui.settings import LOADED, MAX_GROUP, MAX_SEED, MAX_UNIT, SCOPES, TRAINED
from csbviz.ui.text import escape, list_of, shape

__all__ = ["controls"]

_EVIDENCE = "evidence"
_SCOPE_TITLES = {"global": "Whole model", "layer": "Each layer"}
_PRESETS = ((1, 2), (2, 4), (1, 4), (4, 8))
_NEEDS = {
    "gradients": "gradients of the loss",
    "input_norms": "how large a layer's inputs are",
    "second_moments": "how a layer's inputs go together",
}


def controls(view: data.View) -> None:
    """Draw the controls of pruning, and what they still need."""
    _criterion(view)
    by_rule = view.settings.method not in (LOADED, TRAINED)
    _units(view, by_rule)
    groups = view.settings.granularity == "nm"
    st.segmented_control(
        "Scope",
        SCOPES,
        required=True,
        format_func=_SCOPE_TITLES.get,
        disabled=not by_rule or groups,
        help="One threshold for the whole model, so that layers end differently sparse, or one a layer.",
        **state.bind("scope"),
    )
    st.slider(
        "Sparsity",
        0.0,
        99.5,
        step=0.5,
        format="%.1f %%",
        disabled=not by_rule or groups,
        help="Share of the units that are set to zero, exact to one unit. N:M decides it by itself.",
        **state.bind("sparsity", to_widget=lambda value: min(value, 99.5)),
    )
    _locked(view, by_rule)
    st.number_input(
        "Seed",
        0,
        MAX_SEED,
        step=1,
        disabled=view.settings.method != "random",
        help="Of the random criterion: the same seed drops the same units.",
        **state.bind("seed"),
    )


def _criterion(view: data.View) -> None:
    from csbviz.pruning.registry import METHODS

    titles = {LOADED: "None: as loaded"} | {name: method.title for name, method in METHODS.items()}
    if trained_of(view.opened) is not None or view.settings.method == TRAINED:
        titles[TRAINED] = "Weights made here"
    st.selectbox(
        "Criterion",
        list(titles),
        format_func=titles.get,
        help="\n".join(f"- **{escape(m.title)}**: {escape(m.summary)}" for m in METHODS.values()),
        **state.bind("method"),
    )
    _evidence(view)


def _evidence(view: data.View) -> None:
    """Offer to collect what the criterion must know of the data, in a job."""
    from csbviz.pruning.registry import METHODS

    _take_evidence()
    method = METHODS.get(view.settings.method)
    if method is None or not method.needs or evidence_of(view.opened, method.needs) is not None:
        if view.problem:
            st.warning(escape(view.problem), icon=":material/info:")
        return
    task = _task(view)
    if task is None:
        st.warning(escape(view.problem), icon=":material/info:")
        return
    needs = list_of(_NEEDS[name] for name in method.needs)
    st.caption(f"Needs {needs}, from 512 training examples of {escape(task.title)}.")
    if jobs.active(_EVIDENCE):
        jobs.watch(_EVIDENCE)
    else:
        st.button(
            "Look at the data",
            key="collect",
            type="primary",
            icon=":material/dataset:",
            width="stretch",
            on_click=_collect,
            args=(view, method.needs),
        )
    jobs.say_how_it_ended(_EVIDENCE)


def _task(view: data.View) -> Any:
    from csbviz.tasks.accuracy import measurable_task

    return None if view.opened.model is None else measurable_task(view.opened.model)


def _collect(view: data.View, needs: tuple[str, ...]) -> None:
    task = _task(view)
    kwargs = {"task": task.name, "weights": task.weights_of(view.opened.model), "needs": list(needs)}
    about = (view.opened.digest, needs)
    jobs.hand_in(
        _EVIDENCE, "What the data says", "csbviz.pruning.evidence:collect_for", kwargs, "cpu", about=about
    )


def _take_evidence() -> None:
    """Keep what the job has brought, and draw the page again with it."""
    if outcome := jobs.take(_EVIDENCE):
        keep_evidence(*outcome["about"], outcome["result"])
        st.rerun()


def _units(view: data.View, by_rule: bool) -> None:
    from csbviz.pruning.registry import GRANULARITIES

    bound = state.bind("granularity")
    st.selectbox(
        "Granularity",
        list(GRANULARITIES),
        format_func={name: each.title for name, each in GRANULARITIES.items()}.get,
        disabled=not by_rule,
        help="What goes together.\n"
        + "\n".join(f"- **{escape(g.title)}**: {escape(g.summary)}" for g in GRANULARITIES.values()),
        **(bound | {"on_change": _set_granularity}),
    )
    if view.settings.granularity == "nm":
        _nm(view, by_rule)
    elif view.settings.granularity == "block":
        _block(view, by_rule)


def _set_granularity() -> None:
    """Take the choice; N:M can only be seen from near, all others first as a whole."""
    chosen, near = st.session_state[state.widget_key("granularity")], ((0, CLOSE_UP[0]), (0, CLOSE_UP[1]))
    shown = state.settings()
    changes: dict[str, Any] = {"granularity": chosen}
    if chosen == "nm" and shown.rows is None and shown.cols is None:
        changes |= {"rows": near[0], "cols": near[1]}
    elif chosen != "nm" and (shown.rows, shown.cols) == near:
        changes |= {"rows": None, "cols": None}
    state.update(**changes)


def _nm(view: data.View, by_rule: bool) -> None:
    kept, group = view.settings.nm
    state.show("w.nm.preset", (kept, group) if (kept, group) in _PRESETS else None)
    st.segmented_control(
        "N:M",
        _PRESETS,
        format_func=lambda pair: "{}:{}".format(*pair),
        key="w.nm.preset",
        disabled=not by_rule,
        on_change=_set_preset,
        help="Of every M neighbours in a row N stay. 2:4 is what sparse tensor cores read.",
    )
    first, second = st.columns(2)
    for column, part, label, most in ((first, 0, "N stay", group), (second, 1, "of M", MAX_GROUP)):
        key = f"w.nm.{part}"
        state.show(key, view.settings.nm[part])
        column.number_input(label, 1, most, step=1, key=key, disabled=not by_rule, on_change=_set_nm)


def _set_preset() -> None:
    if pair := st.session_state["w.nm.preset"]:
        state.update(nm=tuple(pair))


def _set_nm() -> None:
    kept, group = (st.session_state[f"w.nm.{part}"] for part in (0, 1))
    state.update(nm=(min(kept, group), group))


def _block(view: data.View, by_rule: bool) -> None:
    follows = view.settings.unit is None
    sides = unit_of(view.settings)
    whose = "As the CSB layout" if view.settings.block else "Usual size"
    state.show("w.unit.auto", follows)
    st.toggle(
        f"{whose}: {shape(sides)}" if follows else "As the CSB layout",
        key="w.unit.auto",
        disabled=not by_rule,
        on_change=_set_auto,
        args=(sides,),
        help="Blocks on the grid of CSB. Where the page CSB layout chooses its shape by itself, by what is "
        "left, 8 × 8 is pruned.",
    )
    for column, part, label in zip(st.columns(2), (0, 1), ("Rows", "Columns"), strict=True):
        key = f"w.unit.{part}"
        state.show(key, sides[part])
        column.number_input(
            label, 1, MAX_UNIT, step=1, key=key, disabled=follows or not by_rule, on_change=_set_unit
        )


def _set_auto(sides: tuple[int, int]) -> None:
    state.update(unit=None if st.session_state["w.unit.auto"] else sides)


def _set_unit() -> None:
    state.update(unit=tuple(st.session_state[f"w.unit.{part}"] for part in (0, 1)))


def _locked(view: data.View, by_rule: bool) -> None:
    labels = {layer.name: layer.label for layer in view.opened.layers}
    st.multiselect(
        "Locked layers",
        list(labels),
        format_func=labels.get,
        disabled=not by_rule or len(labels) == 1,
        placeholder="None: all are pruned",
        help="Locked layers keep all their weights.",
        **state.bind(
            "locked",
            to_widget=lambda _: list(data.locked_layers(view.opened, view.settings)),
            from_widget=lambda names: None if set(names) == set(view.opened.spared) else tuple(names),
        ),
    )
