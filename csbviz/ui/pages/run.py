"""Run the kernels on the layer: the verdict, and the measurements that it was computed from."""

from __future__ import annotations

from typing import Any

import streamlit as st

from csbviz.balance import STRATEGIES
from csbviz.ui import data, state, warm
from csbviz.ui.components import jobs, kernels, recorded, results, tuning
from csbviz.ui.components.header import open_page
from csbviz.ui.settings import DEVICES, MAX_NS, MODES, NS, OPS, Settings
from csbviz.ui.text import OP_NAMES, escape

JOB = "bench"
_DEVICE_TITLES = {"cpu": "CPU", "cuda": "GPU (CUDA)"}
_MODE_TITLES = {"warm": "Warm", "cold": "Cold"}
_BALANCE_TITLES = {"auto": "Automatic"} | {name: entry.title for name, entry in STRATEGIES.items()}
_SOURCE_TITLES = {"here": "Measure here", "recorded": "Look at a recording"}
_OP_TITLES = OP_NAMES | {"layer": "Layer"}
_VECTORS = {"A@x", "A.T@x"}
_LAYER_DTYPES = ("float32", "float64")


def _set_device() -> None:
    """Take the chosen device; the page Balance then speaks of its workers."""
    device = st.session_state["w.device"]
    changes: dict[str, Any] = {"device": device, "kernels": None, "units": device, "workers": None}
    if state.settings().dtype not in data.dtypes_of(device):
        changes["dtype"] = "float32"
    state.update(**changes)


def _what(view: data.View) -> None:
    """The first row of controls: what is multiplied, and where."""
    chosen = view.settings
    most = data.default_workers("cpu")
    with st.container(horizontal=True, gap="medium", key="controls-what"):
        st.segmented_control(
            "Device",
            DEVICES,
            required=True,
            format_func=_DEVICE_TITLES.get,
            key="w.device",
            on_change=_set_device,
        )
        st.pills(
            "Operations",
            OPS,
            selection_mode="multi",
            format_func=_OP_TITLES.get,
            help=(
                "- **A·B** is a layer's forward pass, **Aᵀ·B** its backward pass, from one stored copy.\n"
                "- **A·x**, **Aᵀ·x**: the same with one vector, as for a single token.\n"
                "- **Layer**: forward and backward pass of a whole layer in PyTorch, with the gradient of "
                "its weights, against a dense layer and a CSR layer that keeps two copies."
            ),
            **state.bind(
                "ops", to_widget=list, from_widget=lambda names: tuple(op for op in OPS if op in names)
            ),
        )
        known = data.dtypes_of(chosen.device)
        st.segmented_control(
            "Values",
            known if chosen.dtype in known else (*known, chosen.dtype),
            required=True,
            help="The weights are rounded to this type. Only kernels of one precision class are compared: "
            "fp32, TF32, fp16 and bf16 each have a dense product of their own to beat.",
            **state.bind("dtype"),
        )
        st.segmented_control(
            "Cache",
            MODES,
            required=True,
            format_func=_MODE_TITLES.get,
            help="Warm: operands may lie in the cache from the repeat before. Cold: they never do.",
            **state.bind("mode"),
        )
        if chosen.device == "cpu":
            st.number_input(
                "Threads",
                1,
                most,
                step=1,
                width=130,
                help="One number for all contenders. SciPy's product always has one thread, and says so.",
                **state.bind("threads", to_widget=lambda value: min(value or most, most)),
            )


def _how(view: data.View) -> None:
    """The second row of controls: sizes, balance, kernels."""
    chosen = view.settings
    with st.container(horizontal=True, gap="medium", key="controls-how"):
        if not chosen.ops or set(chosen.ops) - _VECTORS:  # a product with a vector has no N to choose
            st.multiselect(
                "N, columns of B",
                sorted({*NS, *chosen.ns}),
                max_selections=MAX_NS,
                width=250,
                help="Tokens, pixels or images that go through the layer at once.",
                **state.bind("ns", to_widget=list, from_widget=lambda names: tuple(sorted(names))),
            )
        st.selectbox(
            "Balance of CSB",
            list(_BALANCE_TITLES),
            format_func=_BALANCE_TITLES.get,
            width=230,
            help="The same choice as on the page Balance. On a GPU the kernel “gathered rows” executes a "
            "named strategy; kernels that deal out their work in their own way are not changed by it.",
            **state.bind("balance"),
        )
        kernels.pick(view)
    kernels.pick_of_many(view)


def _request(view: data.View) -> dict[str, Any]:
    chosen = view.settings
    return {
        "ops": list(chosen.ops),
        "ns": list(chosen.ns) or [1],
        "device": chosen.device,
        "kernels": kernels.wanted_names(view),
        "balances": [chosen.balance],
        "threads": chosen.threads if chosen.device == "cpu" else None,
        "mode": chosen.mode,
    }


def _start(view: data.View) -> None:
    chosen = view.settings
    kwargs = {
        "csr": view.csr,
        "request": _request(view),
        "name": view.layer.label,
        "block_shape": view.block,
        "order": chosen.order,
        "dtype": chosen.dtype,
    }
    title = f"{view.opened.title}, {view.layer.label}"
    jobs.hand_in(JOB, title, "csbviz.bench.jobs:run_bench", kwargs, chosen.device, about=results.about(view))


def _blocked(view: data.View) -> str | None:
    """Why nothing can be run as things are set, or None."""
    chosen = view.settings
    if not chosen.ops:
        return "Choose at least one operation."
    if not chosen.ns and set(chosen.ops) - _VECTORS:
        return "Choose at least one N."
    if reason := data.device_obstacle(chosen.device):
        return f"No kernel can run on this device: {reason}"
    if "layer" in chosen.ops and chosen.dtype not in _LAYER_DTYPES:
        return f"A layer is timed with {' or '.join(_LAYER_DTYPES)} values; {chosen.dtype} is chosen."
    return None if chosen.ops == ("layer",) else _without_kernels(view, chosen)


def _without_kernels(view: data.View, chosen: Settings) -> str | None:
    ready, missing = kernels.choices(view)
    if not ready and missing:
        return f"No kernel can run on this device: {missing[0][1]}"
    if not ready:
        return f"No kernel on this device multiplies {chosen.dtype} values like this."
    return None if kernels.wanted_names(view) else "Choose at least one kernel that can run here."


def _measure_here(view: data.View) -> None:
    state.show("w.device", view.settings.device)
    reason = _blocked(view)
    with st.container(border=True):
        _what(view)
        _how(view)
        kernels.say_which_cannot_run(view)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                "Run",
                type="primary",
                icon=":material/play_arrow:",
                key="run",
                disabled=reason is not None or jobs.active(JOB),
                on_click=_start,
                args=(view,),
            )
            if jobs.active(JOB):
                jobs.watch(JOB)
            else:
                st.caption(escape(reason) if reason else results.plan_line(view))
        jobs.say_how_it_ended(JOB)
    results.show(view, jobs.outcome(JOB), running=jobs.active(JOB))
    tuning.card(view, blocked=reason is not None)
    if reason is None:
        warm.start_worker(view.settings.device)


def _page() -> None:
    view = open_page(
        "Run", "Is sparse faster here? Every kernel is verified against float64, then timed in turn."
    )
    st.segmented_control(
        "Where the results come from",
        list(_SOURCE_TITLES),
        required=True,
        format_func=_SOURCE_TITLES.get,
        label_visibility="collapsed",
        **state.bind("source"),
    )
    if view.settings.source == "recorded":
        recorded.show(view)
    else:
        _measure_here(view)


_page()
