"""What callers hand in and get back: jobs named "module:callable", their state, their errors as sentences."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import CSBVizError, JobError, OptionError

__all__ = ["DEVICES", "JobSpec", "JobStatus", "Paused", "resolve", "run_here", "sentence_of"]

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
        callable ``progress(fraction, message, partial=None)`` with a fraction from 0 to 1 and, if the job has
        results on the way, a small picklable one. What the function returns must pickle.
    kwargs : dict
        Arguments; they must pickle.
    device : {"cpu", "cuda"}
        The device that the job needs for itself.
    background : bool
        Long work that gives way: jobs that are not in the background go ahead of it in the queue, and while
        it runs ``progress.wanted()`` is True as soon as one of them waits for its machine. It then saves what
        it has and returns ``progress.paused(kwargs)``; the service goes on with it by itself.
    restarts : int
        How often the job is put back into the queue, with its last arguments, after its worker process was
        lost: for a job that goes on from what it saved.
    """

    name: str
    function: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    background: bool = False
    restarts: int = 0

    def __post_init__(self) -> None:
        module, _, attribute = self.function.partition(":")
        if not module or not attribute:
            raise OptionError(f"A job's function is {self.function!r}; it must read 'module:callable'.")
        if self.device not in DEVICES:
            raise OptionError(f"A job's device is {self.device!r}; it must be 'cpu' or 'cuda'.")
        if isinstance(self.restarts, bool) or not isinstance(self.restarts, int) or self.restarts < 0:
            raise OptionError(f"A job's restarts are {self.restarts!r}; it must be a whole number ≥ 0.")


@dataclass(frozen=True)
class Paused:
    """What a job returns that stops on the way, to go on later.

    Attributes
    ----------
    kwargs : dict or None
        The arguments to go on with; None for those of this run.
    """

    kwargs: dict[str, Any] | None = None


@dataclass(frozen=True)
class JobStatus:
    """A job as it is now.

    Attributes
    ----------
    id, name : str
    state : {"queued", "running", "paused", "done", "failed", "cancelled"}
        A paused job is in the queue again and goes on by itself.
    fraction : float
        0 to 1, as the job last reported.
    message : str
        What the job, or the service, is doing.
    position : int
        Place in the queue, 1 = next; 0 when the job is not in it.
    result : object
        What the function returned; None unless the state is "done".
    error : str or None
        One sentence, when the state is "failed".
    seconds : float
        How long the job has run, or ran, pauses left out.
    partial : object
        The last result on the way that the job reported; it stays when the job is cancelled or fails.
    background : bool
        As in `JobSpec`.
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
    partial: Any = None
    background: bool = False

    @property
    def finished(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


class _Here:
    """The ``progress`` of a job that runs without a service: nothing ever waits for it."""

    def __init__(self, report: Callable[[float, str], None] | None) -> None:
        self._report = report

    def __call__(self, fraction: float, message: str = "", partial: Any = None) -> None:
        if self._report is not None:
            self._report(fraction, message)

    def wanted(self) -> bool:
        return False

    def paused(self, kwargs: dict[str, Any] | None = None) -> Paused:
        return Paused(kwargs)


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
        ``progress(fraction, message)``; results on the way are left out.

    Returns
    -------
    object
        What the function returns; its exceptions pass through.
    """
    return resolve(spec.function)(**spec.kwargs, progress=_Here(progress))


def sentence_of(error: BaseException) -> str:
    """Say in one line what an exception says; errors of csbviz already are sentences."""
    text = " ".join(str(error).split())
    if isinstance(error, CSBVizError) and text:
        return text
    if len(text) > _LONGEST_SENTENCE:
        text = text[: _LONGEST_SENTENCE - 1] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
