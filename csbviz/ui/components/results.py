"""What a run found: the verdict first, then the measurements."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from csbviz import figures
from csbviz.bench.names import VECTOR_OPS, op_in_words
from csbviz.bench.noise import spread, unsteady
from csbviz.bench.record import Record, by_case
from csbviz.bench.recordings import RecordedRun, make_recording, recording_text, shipped_recordings
from csbviz.figures.text import time_scale
from csbviz.ui import data, pruned
from csbviz.ui.components.charts import draw
from csbviz.ui.components.columns import split
from csbviz.ui.kernel_choice import ALL
from csbviz.ui.text import OP_NAMES, class_name, escape, list_of, percent, plural, shape, significant

if TYPE_CHECKING:
    from csbviz.bench.verdict import Verdict

__all__ = ["about", "plan_line", "show", "show_recorded", "weights_in_words"]

_FORMATS = {"csb": "CSB", "csr": "CSR", "dense": "dense"}
_ROW_HEIGHT, _MOST_ROWS = 35, 24
_STATUS = {"ok": "verified", "wrong": "wrong result", "unavailable": "cannot run", "failed": "failed"}


def about(view: data.View) -> dict[str, str]:
    """The settings that a run depends on as name → words: equal words, equal settings."""
    chosen = view.settings
    words = {
        "model": f"{view.opened.title} ({view.opened.digest[:8]})",
        "layer": view.layer.label,
        "weights": weights_in_words(view),
        "blocks": f"{shape(view.block)}, {chosen.order} order",
        "operations": list_of([OP_NAMES[op] for op in chosen.ops]) or "none",
        "N": list_of([str(n) for n in chosen.ns]) or "none",
        "values": chosen.dtype,
        "device": {"cpu": "CPU", "cuda": "GPU"}[chosen.device],
        "kernels": _kernels_in_words(chosen.kernels),
        "balance": chosen.balance.replace("_", " "),
        "cache": chosen.mode,
    }
    if chosen.device == "cpu":
        words["threads"] = str(chosen.threads or data.default_workers("cpu"))
    if chosen.ops and set(chosen.ops) <= set(VECTOR_OPS):
        del words["N"]
    return words


def _kernels_in_words(names: tuple[str, ...] | None) -> str:
    if names is None:
        return "automatic"
    return "all" if names == ALL else list_of(list(names)) or "none"


def weights_in_words(view: data.View) -> str:
    """How the weights were pruned; equal words for one model mean equal weights."""
    return pruned.weights_in_words(view.opened, view.settings, view.is_pruned)


def plan_line(view: data.View) -> str:
    """One line on what Run will measure."""
    words = about(view)
    columns = f"for N = {words['N']}, " if "N" in words else ""
    return (
        f"Measures {list_of(map(op_in_words, view.settings.ops))} on **{escape(words['layer'])}** "
        f"({percent(view.layer.sparsity)} sparse, blocks {words['blocks']}) "
        f"{columns}{words['values']}, {words['cache']}."
    )


def show(view: data.View, outcome: dict[str, Any] | None, running: bool) -> None:
    """Show the last outcome; say so when it is of other settings than the present ones."""
    if outcome is None:
        if not running:
            _nothing_yet()
        return
    _say_if_stale(outcome["about"], about(view))
    found = outcome["result"]
    records = [Record.from_dict(values) for values in found["records"]]
    _verdict(found["verdict"])
    if caution := found["verdict"].get("caution"):
        st.warning(escape(caution), icon=":material/airwave:")
    else:
        _say_if_unsteady(records)
    _measurements(records)
    _offer_recording(outcome, records)


def show_recorded(records: list[Record], verdict: Verdict, label: str) -> None:
    """Show recorded records in the same way, with where and when they were recorded beside them.

    Parameters
    ----------
    records : list of Record
    verdict : Verdict
        Of these records.
    label : str
        "Recorded on …, date".
    """
    _verdict(asdict(verdict), label)
    _measurements(records, label)


def _measurements(records: list[Record], label: str = "") -> None:
    timed = [record for record in records if record.ok]
    st.subheader("Measurements", anchor=False)
    _table(records, label)
    if timed:
        drawn = _worth_drawing(timed)
        left, right = split("bars", 2)
        with left:
            st.subheader("Time of one operation", anchor=False)
            draw("run_times", figures.get_run_times_info(drawn))
        with right:
            st.subheader("Speed-up", anchor=False)
            draw("speedups", figures.get_speedups_info(drawn))


def _worth_drawing(timed: list[Record]) -> list[Record]:
    """The records of cases in which something is compared, or all where there is no such case.

    Dense of a less exact class alone is a number for the table and the verdict, not a picture.
    """
    cases = by_case(timed).values()
    raced = [record for case in cases if len(case) > 1 for record in case]
    return raced or timed


def _offer_recording(outcome: dict[str, Any], records: list[Record]) -> None:
    """A button that saves what is shown, for another machine or another day."""
    if not any(record.ok for record in records):
        return
    words = outcome["about"]
    title = f"{words['model'].rsplit(' (', 1)[0]}, {words['layer']}"
    run = RecordedRun(words["layer"], tuple(records), "", words["weights"])
    recording = make_recording(title[:200], [run], dict(words), outcome["result"].get("device"))
    st.download_button(
        "Save as a recording",
        recording_text(recording),
        file_name=f"csbviz-{recording.date}.json",
        mime="application/json",
        icon=":material/download:",
        help="A JSON file with every time, the device and the date. “Look at a recording” opens it again.",
        on_click="ignore",
        key="save.recording",
    )


def _nothing_yet() -> None:
    with st.container(border=True):
        st.markdown("**No run yet.** Press *Run*: the verdict appears here in one sentence, with its reason.")
        st.caption(
            "CSB is timed against CSR and dense on the chosen layer, all in one run on one device and in a "
            "process of its own. A kernel with a wrong result is reported and never timed."
        )
        if shipped_recordings():
            st.caption("*Look at a recording* shows runs that were measured on another machine.")


def _say_if_stale(then: dict[str, str], now: dict[str, str]) -> None:
    changed = [name for name in now | then if then.get(name) != now.get(name)]
    if changed:
        words = "; ".join(f"{name}: {escape(then.get(name, 'none'))}" for name in changed)
        st.warning(
            f"These results are of earlier settings ({words}). Press Run to measure the present ones.",
            icon=":material/history:",
        )


def _say_if_unsteady(records: list[Record]) -> None:
    worst = unsteady(records)
    if worst:
        name = f"{worst[0].title}, {_case_name(worst[0].op, worst[0].n)}"
        share = percent(spread(worst[0]), 0)
        st.warning(
            f"The times of {plural(len(worst), 'measurement')} are unsteady (quartiles {share} of the median "
            f"apart for {escape(name)}): something else used the machine, so run it again.",
            icon=":material/airwave:",
        )


def _verdict(verdict: dict[str, Any], label: str = "") -> None:
    with st.container(border=True, key="verdict-recorded" if label else "verdict", gap="xsmall"):
        st.caption(f"THE VERDICT · {escape(label.upper())}" if label else "THE VERDICT")
        st.subheader(escape(verdict["sentence"]), anchor=False)
        if verdict.get("less_exact"):
            st.markdown(escape(verdict["less_exact"]))
        if verdict["reason"]:
            st.markdown(f"**Why:** {escape(verdict['reason'])}")
        for problem in verdict["problems"]:
            st.error(escape(problem), icon=":material/error:")
        if len(verdict["cases"]) > 2:
            _cases(verdict["cases"])


def _cases(cases: list[dict[str, Any]]) -> None:
    with st.expander(f"The verdict for each of {len(cases)} cases"):
        classes = {case["precision"] for case in cases}
        for case in cases:
            name = _case_name(case["op"], case["n"])
            if len(classes) > 1:
                name += f" in {class_name(case['precision'])}"
            st.markdown(f"**{name}: {_who_is_fastest(case)}.** {escape(case['reason'])}")


def _case_name(op: str, n: int) -> str:
    return OP_NAMES[op] if op in VECTOR_OPS else f"{OP_NAMES[op]}, N = {n}"


def _who_is_fastest(case: dict[str, Any]) -> str:
    first, level = _FORMATS[case["winner"]], [_FORMATS[name] for name in case["level"]]
    return f"{list_of([first, *level])} are equally fast" if level else f"{first} is fastest"


def _table(records: list[Record], label: str = "") -> None:
    scale, unit = time_scale(record.median_us for record in records if record.ok)
    number = st.column_config.NumberColumn
    frame = pd.DataFrame([_row(record, scale) for record in records])
    if len({record.precision for record in records}) == 1:
        frame = frame.drop(columns="Class")
    if frame["λ"].isna().all():
        frame = frame.drop(columns="λ")
    st.dataframe(
        frame,
        hide_index=True,
        height=_ROW_HEIGHT * (min(len(records), _MOST_ROWS) + 1) + 3,
        row_height=_ROW_HEIGHT,
        placeholder="",
        alt="Median time, quartiles, speed-ups, error, rate and bytes of every kernel",
        column_config={
            "Operation": st.column_config.TextColumn("Operation", width=85),
            "N": number("N", format="localized", width=60),
            "Class": st.column_config.TextColumn(
                "Class", width=60, help="Precision class: only kernels of one class are compared"
            ),
            "Kernel": st.column_config.TextColumn("Kernel", pinned=False, width=250),
            "Status": st.column_config.TextColumn("Status", width=95),
            "Median": number(f"Median ({unit})", format="%.4g"),
            "Quartiles": st.column_config.TextColumn(f"Quartiles ({unit})", alignment="right"),
            "CSR": number("× CSR", format="%.3g", help="Speed-up over the fastest CSR kernel with one copy"),
            "dense": number(
                "× dense", format="%.3g", help="Speed-up over the fastest dense kernel of this precision"
            ),
            "Error": number("Rel. error", format="%.1e", help="‖C − C₆₄‖ / ‖C₆₄‖ against a float64 product"),
            "Rate": number("GFLOP/s", format="%.1f", help="2 · nonzeros · N / median"),
            "Bytes": number("KiB", format="%.1f", help="Matrix and plan that the kernel reads"),
            "λ": number("λ", format="%.2f", help="Largest load / mean load of the workers"),
        },
    )
    if timed := [record for record in records if record.ok]:
        first = timed[0]
        threads = f", {first.threads} threads" if first.threads else ""
        dtypes = list_of(dict.fromkeys(record.dtype for record in timed))
        when = f"{label}." if label else f"Measured here {first.when}."
        st.caption(escape(f"{first.device_name}{threads}, {first.mode}, {dtypes}. {when}"))
    for kernel, cases, message in _without_times(records):
        st.caption(f"**{escape(kernel)}** has no time for {escape(cases)}: {escape(message)}")


def _without_times(records: list[Record]) -> list[tuple[str, str, str]]:
    """Kernels that cannot run, for which cases, and why: a cell of the table is too narrow for that."""
    found: dict[tuple[str, str], list[str]] = {}
    for record in records:
        if record.status == "unavailable":
            found.setdefault((record.title, record.message), []).append(_case_name(record.op, record.n))
    return [(kernel, list_of(cases), message) for (kernel, message), cases in found.items()]


def _status(record: Record) -> str:
    why = f": {record.message}" if record.status in ("wrong", "failed") else ""
    return _STATUS[record.status] + why


def _row(record: Record, scale: float) -> dict[str, Any]:
    threads = " · 1 thread" if record.threads == 1 and record.device == "cpu" else ""
    planned = record.format == "csb" and record.balance not in (None, "auto")
    balance = f" · {record.balance.replace('_', ' ')}" if planned else ""
    row = {
        "Operation": OP_NAMES[record.op],
        "N": record.n,
        "Class": class_name(record.precision),
        "Kernel": f"{record.title}{balance}{threads}",
        "Status": _status(record),
        "Median": None,
        "Quartiles": "",
        "CSR": record.speedup_vs_csr,
        "dense": record.speedup_vs_dense,
        "Error": record.rel_error,
        "Rate": 1e3 * record.tflops if record.tflops is not None else None,
        "Bytes": record.bytes / 1024 if record.bytes is not None else None,
        "λ": record.imbalance,
    }
    if record.ok:
        row["Median"] = record.median_us / scale
        row["Quartiles"] = f"{significant(record.p25_us / scale)} – {significant(record.p75_us / scale)}"
    return row
