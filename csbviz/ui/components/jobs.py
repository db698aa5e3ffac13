"""A job of the measurement service on a page: hand in, watch, cancel.

The script never waits for a job. A fragment asks the service once in a while and draws the page anew when the
job has ended; the id of the job is all that the session keeps until then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import streamlit as st

from csbviz.errors import CSBVizError
from csbviz.ui.text import OP_NAMES, escape

__all__ = ["active", "hand_in", "outcome", "say_how_it_ended", "take", "watch"]

_POLL_SECONDS = 0.8
_ENDED = ("done", "failed", "cancelled")


def _slot(name: str) -> str:
    return f"csbviz.job.{name}"


def hand_in(
    name: str,
    title: str,
    function: str,
    kwargs: dict[str, Any],
    device: str,
    about: Any = None,
    background: bool = False,
    restarts: int = 0,
) -> None:
    """Submit a job and remember it under `name`.

    Parameters
    ----------
    name : str
        One job at a time is kept under it in this session.
    title : str
        Name of the job for people.
    function : str
        ``"module:callable"``, run in the worker process.
    kwargs : dict
        Its arguments.
    device : str
        "cpu" or "cuda".
    about : object, optional
        What the caller wants back with the outcome, such as the settings of the run.
    background, restarts : bool, int
        As in `csbviz.service.JobSpec`: long work that gives way, and that goes on after its process was lost.
    background, restarts
        As in `JobSpec`: long work that gives way to other jobs, and how often it starts again.
    """
    from csbviz.service import JobSpec, get_service

    try:
        job = get_service().submit(JobSpec(title, function, kwargs, device, background, restarts))
    except CSBVizError as error:
        st.session_state[_slot(name)] = {"id": None, "about": about, "error": str(error), "state": "failed"}
    else:
        st.session_state[_slot(name)] = {
            "id": job,
            "about": about,
            "state": "queued",
            "since": time.monotonic(),
        }


def active(name: str) -> bool:
    """True while the job waits, runs or pauses."""
    return st.session_state.get(_slot(name), {}).get("state") in ("queued", "running", "paused")


def outcome(name: str) -> dict[str, Any] | None:
    """The last outcome: ``{"about", "result"}`` of the last job that succeeded, or None."""
    return st.session_state.get(_slot(name) + ".done")


def take(name: str) -> dict[str, Any] | None:
    """The last outcome, once: it is for a caller who keeps it, such as large weights."""
    return st.session_state.pop(_slot(name) + ".done", None)


def watch(name: str, show: Callable[[Any], None] | None = None) -> None:
    """Show how far the active job is, with a button that cancels it.

    Parameters
    ----------
    name : str
    show : callable, optional
        ``show(partial)`` draws the job's last result on the way, None before the first.
    """
    _poll(name, show)


def say_how_it_ended(name: str) -> None:
    """Say what went wrong with the last job, if anything did."""
    kept = st.session_state.get(_slot(name), {})
    if kept.get("state") == "failed":
        st.error(escape(_in_words(kept["error"])), icon=":material/error:")
    elif kept.get("state") == "cancelled":
        st.info("It was cancelled; earlier results stay.", icon=":material/cancel:")


@st.fragment(run_every=_POLL_SECONDS)
def _poll(name: str, show: Callable[[Any], None] | None) -> None:
    from csbviz.service import get_service

    kept = st.session_state[_slot(name)]
    service = get_service()
    try:
        status = service.status(kept["id"])
    except CSBVizError as error:
        kept |= {"state": "failed", "error": str(error)}
        st.rerun()
    kept["state"] = status.state
    if status.state in _ENDED:
        _finish(name, kept, status)
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center", key=f"job.{name}"):
        st.progress(min(max(status.fraction or 0.0, 0.0), 1.0), text=_line(status, service), width="stretch")
        st.button(
            "Cancel",
            key=f"cancel.{name}",
            icon=":material/cancel:",
            on_click=_cancel,
            args=(kept["id"],),
        )
    if show is not None:
        show(status.partial)


def _line(status: Any, service: Any) -> str:
    if status.state == "queued":
        if any(job.state == "running" for job in service.jobs()):
            return f"Number {status.position} in the queue: another job is being measured"
        return "Starting the worker process, which takes a few seconds the first time"
    if status.state == "paused":
        return f"{escape(status.message)}; it goes on by itself, as number {status.position} in the queue"
    return f"{escape(_in_words(status.message or 'Running'))} · {status.seconds or 0:.0f} s"


def _in_words(text: str) -> str:
    """The products as people write them."""
    for op in ("A.T@B", "A@B", "A.T@x", "A@x"):
        text = text.replace(op, OP_NAMES[op])
    return text


def _cancel(job: str) -> None:
    from csbviz.service import get_service

    try:
        get_service().cancel(job)
    except CSBVizError as error:
        st.toast(escape(str(error)))


def _finish(name: str, kept: dict[str, Any], status: Any) -> None:
    if status.state == "done":
        st.session_state[_slot(name) + ".done"] = {"about": kept["about"], "result": status.result}
    elif status.state == "failed":
        kept["error"] = status.error or "The job failed without saying why."
