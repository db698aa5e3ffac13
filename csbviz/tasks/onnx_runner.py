"""Run an ONNX model from memory with onnxruntime on the CPU: opens no other file, asks for memory first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from csbviz.errors import FileFormatError, InputError
from csbviz.models import read_onnx
from csbviz.models.content import Content, open_content, reason_of, shown

__all__ = ["Port", "Runner", "check_memory", "ports", "working_bytes"]

_COPIES = 3
"""How often the weights lie in memory at most: the file, the session's, and packed for its products."""


@dataclass(frozen=True)
class Port:
    """An input or output of a model.

    Attributes
    ----------
    name : str
    dtype : str
        NumPy's name of the type; "" for what is no tensor of numbers.
    shape : tuple of (int or None), or None
        None for an axis of any length; None in all when the file does not tell.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


def ports(model: bytes, name: str = "the ONNX model") -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Tell what a model takes and gives, without running it.

    Parameters
    ----------
    model : bytes
        Of an .onnx file.
    name : str
        What to call it in messages.

    Returns
    -------
    inputs, outputs : tuple of Port

    Raises
    ------
    FileFormatError
        Damaged, or with values in other files.
    """
    content = _content(model, name)
    found = read_onnx.signature(content, read_onnx.parse(content))
    inputs, outputs = (
        tuple(Port(port, dtype, shape) for port, (dtype, shape) in side.items()) for side in found
    )
    return inputs, outputs


def working_bytes(model: bytes, shapes: Mapping[str, tuple[int, ...]], name: str = "the ONNX model") -> int:
    """Estimate the bytes that a model's values between input and output take for inputs of these shapes."""
    return read_onnx.working_bytes(read_onnx.parse(_content(model, name)), shapes)


class Runner:
    """A model ready to run.

    Parameters
    ----------
    model : bytes
        Of an .onnx file that holds all its values.
    threads : int, optional
        Threads of a product; the cores that this process may use when left out.
    name : str
        What to call it in messages.

    Attributes
    ----------
    inputs, outputs : tuple of Port

    Raises
    ------
    FileFormatError
        Damaged, with values in other files, or with operators that onnxruntime cannot run.
    InputError
        The memory that is free does not suffice.
    """

    def __init__(self, model: bytes, threads: int | None = None, name: str = "the ONNX model") -> None:
        self.name = name
        # onnxruntime would open other files of the working directory, so `ports` looks for them before.
        self.inputs, self.outputs = ports(model, name)
        check_memory(_COPIES * len(model), name)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or _cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what goes wrong comes as an exception
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no class
            raise FileFormatError(f"{name} cannot be run by onnxruntime: {_reason(error)}.") from error

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[Any]:
        """Run the model once.

        Parameters
        ----------
        feeds : mapping of str to numpy.ndarray
            Name of the input → values of its type and shape.

        Returns
        -------
        list
            What each of `outputs` gives.

        Raises
        ------
        InputError
            onnxruntime refuses these inputs, or fails.
        """
        try:
            return self._session.run(None, dict(feeds))
        except Exception as error:  # as above
            raise InputError(f"{self.name} fails on these inputs: {_reason(error)}.") from error


def check_memory(needed: int, name: str) -> None:
    """Compare the bytes that are needed with those that are free.

    Raises
    ------
    InputError
        They do not suffice.
    """
    import psutil

    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{name} needs about {needed / 2**20:,.0f} MiB to run, and {free / 2**20:,.0f} MiB are free; "
            "close other programs or take a smaller model."
        )


def _content(model: bytes, name: str) -> Content:
    content = open_content(model, name)
    return Content(name, content.data)  # `open_content` cuts a name at its slashes


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reason(error: Exception) -> str:
    return shown(reason_of(error), 160)
