"""Write a file so that others see it whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from csbviz.errors import InputError

__all__ = ["new_file"]


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give the path of a file that does not exist yet, and move it to `path` in one step after the block.

    What stood at `path` stays if the block fails; of the new file nothing is left then.

    Raises
    ------
    InputError
        The system refuses to write there.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
