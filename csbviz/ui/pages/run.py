"""Run the kernels on the layer: the verdict, and the measurements that it was computed from."""

from __future__ import annotations

from typing import Any

import streamlit as st

from csbviz.balance import STRATEGIES
from csbviz.ui import data, state, warm
from csbviz.ui.components import jobs, results
from csbviz.ui.components.header import open_page
from csbviz.ui.settings import DEVICES, DTYPES, MAX_NS, MODES, NS, OPS, Settings
from csbviz.ui.text import OP_NAMES, escape, plural

JOB = "bench"
_DEVICE_TITLES = {"cpu": "CPU", "cuda": "GPU (CUDA)"}
_MODE_TITLES = {"warm": "Warm", "cold": "Cold"}
_BALANCE_TITLES = {"auto": "Automatic"} | {name: entry.title for name, entry in STRATEGIES.items()}


def _set_device() -> None:
    """Take the chosen device; the page Balance then speaks of its workers."""
    device = st.session_state["w.device"]
    state.update(device=device, kernels=None, units=device, workers=None)


def _what(view: data.View) -> None:
    """The first row of controls: what is multiplied, and where."""
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
            "Products",
            OPS,
            selection_mode="multi",
            format_func=OP_NAMES.get,
            help="A·B is a layer's forward pass, Aᵀ·B its backward pass, from the same stored copy.",
            **state.bind(
                "ops", to_widget=list, from_widget=lambda chosen: tuple(op for op in OPS if op in chosen)
            ),
        )
        st.segmented_control("Values", DTYPES, required=True, **state.bind("dtype"))
        st.segmented_control(
            "Cache",
            MODES,
            required=True,
            format_func=_MODE_TITLES.get,
            help="Warm: operands may lie in the cache from the repeat before. Cold: they never do.",
            **state.bind("mode"),
        )
        st.number_input(
            "Threads",
            1,
            most,
            step=1,
            width=130,
            disabled=view.settings.device == "cuda",
            help="One number for all contenders. SciPy's product always has one thread, and says so.",
            **state.bind("threads", to_widget=lambda value: min(value or most, most)),
        )


def _how(view: data.View) -> None:
    """The second row of controls: sizes, balance, kernels."""
    with st.container(horizontal=True, gap="medium", key="controls-how"):
        st.multiselect(
            "N, columns of B",
            sorted({*NS, *view.settings.ns}),
            max_selections=MAX_NS,
            width=250,
            help="Tokens, pixels or images that go through the layer at once.",
            **state.bind("ns", to_widget=list, from_widget=lambda chosen: tuple(sorted(chosen))),
        )
        st.selectbox(
            "Balance of CSB",
            list(_BALANCE_TITLES),
            format_func=_BALANCE_TITLES.get,
            width=230,
            help="The same choice as on the page Balance.",
            **state.bind("balance"),
        )
        _kernels(view)


def _kernels(view: data.View) -> None:
    ready, _ = data.kernel_choices(view.settings.device, view.settings.dtype)
    if not ready:
        return
    titles = {kernel.name: kernel.title for kernel in ready}
    wanted = view.settings.kernels
    chosen = [name for name in (titles if wanted is None else wanted) if name in titles]
    st.pills(
        "Kernels",
        list(titles),
        selection_mode="multi",
        format_func=titles.get,
        help="\n".join(f"- **{escape(kernel.title)}**: {escape(kernel.summary)}" for kernel in ready) or None,
        **state.bind(
            "kernels",
            to_widget=lambda _: chosen,
            from_widget=lambda names: None if set(names) == set(titles) else tuple(names),
        ),
    )


def _unavailable(view: data.View) -> None:
    """Name the kernels that cannot run here, each with its reason."""
    ready, missing = data.kernel_choices(view.settings.device, view.settings.dtype)
    if missing:
        with st.expander(
            f"{plural(len(missing), 'kernel')} cannot run here", icon=":material/block:", expanded=not ready
        ):
            for kernel, reason in missing:
                st.caption(f"**{escape(kernel.title)}**: {escape(reason)}")


def _request(chosen: Settings) -> dict[str, Any]:
    kernels = None
    if chosen.kernels is not None:
        ready, _ = data.kernel_choices(chosen.device, chosen.dtype)
        kernels = [kernel.name for kernel in ready if kernel.name in chosen.kernels]
    return {
        "ops": list(chosen.ops),
        "ns": list(chosen.ns),
        "device": chosen.device,
        "kernels": kernels,
        "balances": [chosen.balance],
        "threads": chosen.threads if chosen.device == "cpu" else None,
        "mode": chosen.mode,
    }


def _start(view: data.View) -> None:
    chosen = view.settings
    kwargs = {
        "csr": view.csr,
        "request": _request(chosen),
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
        return "Choose at least one product."
    if not chosen.ns:
        return "Choose at least one N."
    ready, missing = data.kernel_choices(chosen.device, chosen.dtype)
    if not ready:
        return (
            f"No kernel can run on this device: {missing[0][1]}"
            if missing
            else "No kernel fits these settings."
        )
    if chosen.kernels is not None and not set(chosen.kernels) & {kernel.name for kernel in ready}:
        return "Choose at least one kernel that can run here."
    return None


def _page() -> None:
    view = open_page(
        "Run", "Is sparse faster here? Every kernel is verified against float64, then timed in turn."
    )
    state.show("w.device", view.settings.device)
    with st.container(border=True):
        _what(view)
        _how(view)
        _unavailable(view)
        reason = _blocked(view)
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
    if reason is None:
        warm.start_worker(view.settings.device)


_page()
