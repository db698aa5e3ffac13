"""How the work of the layer is shared among threads or multiprocessors, before and after balancing."""

from __future__ import annotations

import streamlit as st

from csbviz import figures
from csbviz.balance import STRATEGIES, Timeline
from csbviz.ui import data, state
from csbviz.ui.components import recorded_balance
from csbviz.ui.components.charts import draw
from csbviz.ui.components.columns import split
from csbviz.ui.components.header import open_page
from csbviz.ui.components.numbers import numbers
from csbviz.ui.settings import DEVICES, DIRECTIONS, MAX_TILES, MAX_WORKERS, Settings
from csbviz.ui.text import OP_NAMES, count, percent, significant

_BEFORE = "in_order"
_WORKER = {"cpu": "thread", "cuda": "multiprocessor"}
_UNIT_TITLES = {"cpu": "CPU threads", "cuda": "GPU multiprocessors"}
_PLAYED_TITLES = {"simulated": "Simulate this layer", "recorded": "Look at a recording"}


def _controls(view: data.View) -> None:
    chosen = view.settings
    st.segmented_control(
        "Direction",
        DIRECTIONS,
        required=True,
        format_func=OP_NAMES.get,
        help="A·B shares out block rows; Aᵀ·B shares out block columns of the same stored copy.",
        **state.bind("direction"),
    )
    taken = STRATEGIES[_strategy(view, "auto")].title
    titles = {"auto": "Automatic"} | {name: strategy.title for name, strategy in STRATEGIES.items()}
    st.radio(
        "Strategy",
        list(titles),
        format_func=titles.get,
        captions=[f"Here: {taken}.", *(strategy.summary for strategy in STRATEGIES.values())],
        help="Automatic deals out whole block rows, and cuts them only where that is too uneven.",
        **state.bind("balance"),
    )
    st.segmented_control(
        "Workers are",
        DEVICES,
        required=True,
        format_func=_UNIT_TITLES.get,
        help="A thread is told beforehand what to do. A multiprocessor takes the next item when it is free.",
        key="w.units",
        on_change=lambda: state.update(units=st.session_state["w.units"], workers=None),
    )
    workers, tiles = st.columns(2)
    with workers:
        st.number_input(
            "Workers, P",
            1,
            MAX_WORKERS,
            step=1,
            help="Threads, or multiprocessors × resident blocks of threads on each (an H100 has 132).",
            **state.bind("workers", to_widget=lambda value: value or data.default_workers(chosen.units)),
        )
    with tiles:
        st.number_input(
            "Column tiles",
            1,
            MAX_TILES,
            step=1,
            disabled=chosen.units == "cpu",
            help="A GPU cuts the N columns of B into tiles; each item runs once a tile: G = items × tiles.",
            **state.bind("tiles"),
        )


def _workers(chosen: Settings) -> tuple[int, bool, int]:
    """Number of workers, whether each is told beforehand what to do, and tiles of columns."""
    static = chosen.units == "cpu"
    return chosen.workers or data.default_workers(chosen.units), static, 1 if static else chosen.tiles


def _strategy(view: data.View, name: str) -> str:
    """The strategy of that name, or the one that "auto" stands for."""
    if name != "auto":
        return name
    return view.automatic_strategy(view.settings.direction == "A.T@B", *_workers(view.settings))


def _timeline(view: data.View, name: str) -> Timeline:
    return view.timeline(name, view.settings.direction == "A.T@B", *_workers(view.settings))


def _facts(before, after) -> None:
    lower, upper = after.bounds

    def gain(name: str) -> str:
        return f"In order: {getattr(before, name):.2f}."

    numbers(
        [
            (
                "λ, imbalance",
                f"{after.imbalance:.3f}",
                f"Largest load / mean load of the workers. {gain('imbalance')}",
            ),
            (
                "Efficiency, 1/λ",
                percent(after.efficiency),
                "Share of the workers' time that is spent working.",
            ),
            (
                "Waves, W",
                count(after.waves),
                f"⌈G / P⌉ with G = {count(after.ctas)} and P = {count(after.workers)}. "
                "If all items took the same time, the efficiency would be "
                f"(G / P) / W = {percent(after.wave_efficiency)}.",
            ),
            (
                "Tail",
                percent(after.tail_share),
                "Share of the time during which at least one worker has nothing left.",
            ),
            (
                "CoV of items",
                significant(after.variation, 2),
                "σ / μ of the items' work: 0 when all are equal.",
            ),
            (
                "Time T",
                count(after.makespan),
                f"In nonzeros. No schedule is shorter than max(Σw / P, max w) = {count(lower)}; "
                "one that hands work to whoever is free is never longer than "
                f"Σw / P + (1 − 1/P) · max w = {count(upper)}.",
            ),
        ]
    )


def _simulated(view: data.View) -> None:
    left, right = split("balance", [1, 3])
    state.show("w.units", view.settings.units)
    with left, st.container(border=True):
        _controls(view)
    strategy = _strategy(view, view.settings.balance)
    before, after = _timeline(view, _BEFORE), _timeline(view, strategy)
    with right:
        _facts(before, after)
        title = STRATEGIES[strategy].title
        st.subheader("Load of every worker, before and after", anchor=False)
        info = figures.get_balance_strip_info(
            before, after, names=(STRATEGIES[_BEFORE].title, title), worker=_WORKER[view.settings.units]
        )
        draw("balance_strip", info)
        st.subheader(f"Simulated timeline: {title}", anchor=False)
        info = figures.get_timeline_info(after)
        draw("timeline", info)


def _page() -> None:
    view = open_page(
        "Balance", "Do all workers finish together, or do most of them wait for the fullest block row?"
    )
    st.segmented_control(
        "What is shown",
        list(_PLAYED_TITLES),
        required=True,
        format_func=_PLAYED_TITLES.get,
        label_visibility="collapsed",
        **state.bind("played"),
    )
    if view.settings.played == "recorded":
        recorded_balance.show()
    else:
        _simulated(view)


_page()
