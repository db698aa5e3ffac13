"""Files of recordings: JSON that csbviz wrote, or that somebody says it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from csbviz.errors import FileFormatError

__all__ = ["MAX_BYTES", "parse_recorded", "read_recorded"]

MAX_BYTES = 8 << 20
"""Largest file that is read."""


def read_recorded(path: str | Path) -> bytes:
    """The contents of a file, as far as `parse_recorded` looks at them.

    Raises
    ------
    FileFormatError
        If it cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise FileFormatError(f"{path} is not there; a recording (.json) is needed.") from None
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read ({error.strerror}).") from error


def parse_recorded(data: bytes | str, name: str, what: str, kind: str, version: int) -> dict[str, Any]:
    """The object that a recording is, of the right kind and version; nothing else of it is checked.

    Parameters
    ----------
    data : bytes or str
        JSON.
    name : str
        How messages call it.
    what : str
        What it should be a recording of, for messages.
    kind : str
        What its "kind" must be.
    version : int
        The newest "version" that is understood; they count from 1.

    Raises
    ------
    FileFormatError
        If it is too large, no JSON, or something else.
    """
    if len(data) > MAX_BYTES:
        raise FileFormatError(
            f"{name} is larger than {MAX_BYTES >> 20} MiB, the most that a recording may have."
        )
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise FileFormatError(f"{name} is no JSON; a recording written by csbviz is needed.") from None
    if not isinstance(found, dict) or found.get("kind") != kind:
        raise FileFormatError(f"{name} is no recording of {what}: its kind is not “{kind}”.")
    own = found.get("version")
    if not isinstance(own, int) or isinstance(own, bool) or not 1 <= own <= version:
        raise FileFormatError(f"{name} has version {own!r}; this csbviz reads up to version {version}.")
    return found
