"""What callers hand in and get back: jobs named "module:callable", their state, their errors as sentences."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import CSBVizError, JobError, OptionError

__all__ = ["DEVICES", "JobSpec", "JobStatus", "resolve", "run_here", "sentence_of"]

DEVICES = ("cpu", "cuda")
_LONGEST_SENTENCE = 500  # characters of a foreign exception's message that a page can show


@dataclass(frozen=True)
class JobSpec:
    """A job to run.

    Attributes
    ----------
    name : str
        What to call it on a page.
    function : str
        "module:callable". It is imported where the job runs and called with `kwargs` and ``progress``, a
        callable ``progress(fraction, message)`` with a fraction from 0 to 1. What it returns must pickle.
    kwargs : dict
        Arguments; they must pickle.
    device : {"cpu", "cuda"}
        The device that the job needs for itself.
    """

    name: str
    function: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    def __post_init__(self) -> None:
        module, _, attribute = self.function.partition(":")
        if not module or not attribute:
            raise OptionError(f"A job's function is {self.function!r}; it must read 'module:callable'.")
        if self.device not in DEVICES:
            raise OptionError(f"A job's device is {self.device!r}; it must be 'cpu' or 'cuda'.")


@dataclass(frozen=True)
class JobStatus:
    """A job as it is now.

    Attributes
    ----------
    id, name : str
    state : {"queued", "running", "done", "failed", "cancelled"}
    fraction : float
        0 to 1, as the job last reported.
    message : str
        What the job, or the service, is doing.
    position : int
        Place in the queue, 1 = next; 0 when the job is not queued.
    result : object
        What the function returned; None unless the state is "done".
    error : str or None
        One sentence, when the state is "failed".
    seconds : float
        How long the job has run, or ran.
    """

    id: str
    name: str
    state: str
    fraction: float
    message: str
    position: int
    result: Any
    error: str | None
    seconds: float

    @property
    def finished(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


def resolve(function: str) -> Callable[..., Any]:
    """Import "module:callable".

    Raises
    ------
    JobError
        When there is no such module or callable.
    """
    module_name, _, path = function.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise JobError(
                f"The job's function {function!r} names a module that cannot be imported."
            ) from error
        raise
    for part in path.split("."):
        target = getattr(target, part, None)
        if target is None:
            raise JobError(f"The job's function {function!r} does not exist in its module.")
    if not callable(target):
        raise JobError(f"The job's function {function!r} is a {type(target).__name__} and cannot be called.")
    return target


def run_here(spec: JobSpec, progress: Callable[[float, str], None] | None = None) -> Any:
    """Run a job in this process, without queue or worker (the command line's way).

    Parameters
    ----------
    spec : JobSpec
    progress : callable, optional
        ``progress(fraction, message)``.

    Returns
    -------
    object
        What the function returns; its exceptions pass through.
    """
    return resolve(spec.function)(**spec.kwargs, progress=progress or _ignore)


def sentence_of(error: BaseException) -> str:
    """Say in one line what an exception says; errors of csbviz already are sentences."""
    text = " ".join(str(error).split())
    if isinstance(error, CSBVizError) and text:
        return text
    if len(text) > _LONGEST_SENTENCE:
        text = text[: _LONGEST_SENTENCE - 1] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _ignore(fraction: float, message: str = "") -> None:
    pass
