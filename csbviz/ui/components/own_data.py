"""The accuracy of a user's own ONNX model on the user's own data, before and after pruning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from csbviz.errors import CSBVizError
from csbviz.tasks import task_of
from csbviz.ui import data
from csbviz.ui.components import jobs
from csbviz.ui.components.numbers import numbers
from csbviz.ui.components.results import weights_in_words
from csbviz.ui.text import count, escape, percent

if TYPE_CHECKING:
    import numpy as np

    from csbviz.tasks.own_data import OwnData

__all__ = ["SCRIPT", "card", "keep_original"]

JOB = "own.accuracy"
MAX_UPLOAD_MB = 200
_ORIGINAL = "csbviz.own.original"
_DATA = "csbviz.own.data"
_PROBLEM = "csbviz.own.problem"
_TURN = "csbviz.own.turn"
_MEASURED = "csbviz.own.measured"
_LOADED = "as loaded"
_TITLES = {"top1": "top-1", "top5": "top-5"}
SCRIPT = """\
import numpy as np, torch

inputs, labels = next(iter(torch.utils.data.DataLoader(test_set, batch_size=1000)))
np.savez_compressed("data.npz", inputs=inputs.numpy(), labels=labels.numpy())
names = {"input_names": ["inputs"], "output_names": ["scores"], "dynamo": False}
axes = {"inputs": {0: "n"}, "scores": {0: "n"}}
torch.onnx.export(model.eval(), (inputs[:1],), "model.onnx", dynamic_axes=axes, **names)
"""
"""What makes both files; the guide has the same lines, and a test runs them."""


def keep_original(content: bytes, name: str, digest: str) -> None:
    """Keep the bytes of an opened ONNX file: its graph is what runs, and where pruned weights go back.

    Parameters
    ----------
    content : bytes
    name : str
        File name; of a file of another kind nothing is kept.
    digest : str
        Of the opened model.
    """
    if name.lower().endswith(".onnx"):
        st.session_state[_ORIGINAL] = (digest, content)
    else:
        st.session_state.pop(_ORIGINAL, None)


def card(view: data.View) -> None:
    """Offer to measure a model that there is no data for; nothing for all other models and matrices."""
    if view.opened.model is None or task_of(view.opened.model) is not None:
        return
    st.subheader("Accuracy on your own data", anchor=False)
    with st.container(border=True):
        original = _original(view)
        if original is None:
            st.caption(
                "There is no data for this model. Open it as an .onnx file, which holds its graph too, and "
                "give examples with their labels: then its accuracy is measured before and after pruning."
            )
        else:
            _data_row(view, original)
            if held := _data(view):
                _accuracy(view, original, held)
            _download(view, original)
        with st.expander("How to make the two files", icon=":material/help:"):
            st.markdown(
                "**The model** (.onnx, all in one file) takes a batch of examples and gives a score for each "
                "class, of shape (examples, classes). It is run by onnxruntime with the pruned weights in it."
                "\n\n**The data** (.npz) holds `labels`, the class of each example as an integer from 0 on, "
                "and `inputs`, the examples just as the model takes them: scaled, in its type, the examples "
                "along the first axis. A model of several inputs needs an array for each, by its name. Take "
                "examples that the model was not trained on."
            )
            st.code(SCRIPT, language="python")


def _original(view: data.View) -> bytes | None:
    digest, content = st.session_state.get(_ORIGINAL, ("", b""))
    return content if digest == view.opened.digest else None


def _data(view: data.View) -> OwnData | None:
    digest, held = st.session_state.get(_DATA, ("", None))
    return held if digest == view.opened.digest else None


def _data_row(view: data.View, original: bytes) -> None:
    key = f"upload.own.{st.session_state.setdefault(_TURN, 0)}"
    st.file_uploader(
        "Inputs and labels (.npz)",
        type=["npz"],
        key=key,
        max_upload_size=MAX_UPLOAD_MB,
        on_change=_take,
        args=(key, original, view.opened.digest),
    )
    if problem := st.session_state.get(_PROBLEM):
        st.error(escape(problem), icon=":material/error:")


def _take(key: str, original: bytes, digest: str) -> None:
    """Read the uploaded data and hold it against the model; when it does not fit, what was held stays."""
    from csbviz.tasks.onnx_runner import ports
    from csbviz.tasks.own_data import check_data, read_data

    file = st.session_state.get(key)
    if file is None:
        return
    st.session_state[_TURN] += 1
    st.session_state.pop(_PROBLEM, None)
    try:
        held = read_data(file.getvalue(), file.name)
        check_data(held, ports(original, "the model")[0], "the model")
    except CSBVizError as error:
        st.session_state[_PROBLEM] = str(error)
    except MemoryError:
        st.session_state[_PROBLEM] = f"{file.name} needs more memory than this machine has."
    else:
        st.session_state[_DATA] = (digest, held)


def _accuracy(view: data.View, original: bytes, held: OwnData) -> None:
    measured, words = _measured(view, held), weights_in_words(view)
    before, after = measured.get(_LOADED), measured.get(words)
    st.caption(f"{escape(held.name)}: {count(len(held.labels))} examples.")
    for metric in [name for name in _TITLES if name in (before or after or {"top1": None})]:
        title = _TITLES[metric]
        numbers(
            [
                (
                    f"As loaded, {title}",
                    _shown(before, metric),
                    "Share of your examples that the model gets right.",
                ),
                (f"Pruned, {title}", _shown(after, metric), "The same, with the weights pruned."),
                ("Change", _change(before, after, metric), "In percentage points."),
            ]
        )
    if jobs.active(JOB):
        jobs.watch(JOB)
    else:
        st.button(
            "Measure the accuracy",
            key="measure.own",
            icon=":material/fact_check:",
            disabled=before is not None and after is not None,
            on_click=_start,
            args=(view, original, held),
        )
    jobs.say_how_it_ended(JOB)


def _about(view: data.View, held: OwnData) -> tuple[str, str]:
    return view.opened.digest, held.digest


def _measured(view: data.View, held: OwnData) -> dict[str, dict[str, float]]:
    """What this session has measured of the model on this data: weights in words → metrics."""
    about = _about(view, held)
    known = st.session_state.setdefault(_MEASURED, {}).setdefault(about, {})
    outcome = jobs.outcome(JOB)
    if outcome and outcome["about"] == about:
        known.update(outcome["result"])
    return known


def _start(view: data.View, original: bytes, held: OwnData) -> None:
    known = _measured(view, held)
    versions = {_LOADED: {}, weights_in_words(view): _changed(view)}
    kwargs = {
        "model": original,
        "data": held,
        "versions": {name: weights for name, weights in versions.items() if name not in known},
        "name": view.opened.title,
    }
    function = "csbviz.tasks.own:measure_versions"
    jobs.hand_in(JOB, "Accuracy on own data", function, kwargs, "cpu", about=_about(view, held))


def _changed(view: data.View) -> Mapping[str, np.ndarray]:
    """The weights that pruning changed."""
    before, after = view.opened.model, view.pruned.model
    return {
        layer.name: layer.weight()
        for layer in after.prunable_layers()
        if layer.tensor is not before.layer(layer.name).tensor
    }


def _download(view: data.View, original: bytes) -> None:
    def content() -> bytes:
        from csbviz.models import write_onnx

        return write_onnx.to_bytes(original, view.pruned.model)

    st.download_button(
        "Download the pruned ONNX model",
        data=content,
        file_name=f"{view.opened.model.name}-pruned.onnx",
        mime="application/octet-stream",
        icon=":material/download:",
        key="download.onnx",
        on_click="ignore",
        disabled=not view.is_pruned,
        help="Your file with the pruned weights in it; everything else is as it was.",
    )


def _shown(found: Mapping[str, Any] | None, metric: str) -> str:
    return "not measured" if found is None else percent(found[metric], 2)


def _change(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, metric: str) -> str:
    if before is None or after is None:
        return "–"
    return f"{100 * (after[metric] - before[metric]):+.2f}".replace("-", "−")
