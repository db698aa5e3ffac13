"""The exceptions of csbviz: every message is one sentence that says what was found and what is needed."""

__all__ = [
    "CSBVizError",
    "FileFormatError",
    "InputError",
    "JobCancelled",
    "JobError",
    "MatrixError",
    "OptionError",
    "UnavailableError",
]


class CSBVizError(Exception):
    """Base of every error that csbviz raises on purpose."""


class InputError(CSBVizError, ValueError):
    """Something the user handed in cannot be used."""


class FileFormatError(InputError):
    """A file is of another kind than its name says, truncated, too large or unsafe."""


class MatrixError(InputError):
    """A matrix has a wrong shape, an index out of range, or values that are not finite."""


class OptionError(InputError):
    """An option has a value outside of what it accepts."""


class UnavailableError(CSBVizError):
    """A kernel or device cannot run on this machine; the message says why."""


class JobError(CSBVizError):
    """A job of the measurement service failed; the message says how."""


class JobCancelled(JobError):
    """A job was cancelled before it finished."""
