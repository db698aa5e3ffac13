"""Checkpoints of a training run: a safetensors file of all tensors and a JSON file of the rest, in a folder.

The tensors are written first, under a name with the step; the JSON file that names them then replaces the
one before in a single step. Whenever the process ends, the folder holds one whole checkpoint.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from csbviz.errors import FileFormatError, InputError
from csbviz.pruning.training.settings import settings_of

__all__ = ["checkpoint_folder", "discard", "fingerprint", "load", "save", "saved_step"]

_FORMAT = 1
_FACTS = "checkpoint.json"
_NEUTRAL = ("checkpoint_seconds",)  # settings that do not change the result


def fingerprint(
    task: str, weights: Mapping[str, np.ndarray], method: str, settings: Mapping[str, Any] | None
) -> str:
    """Name a training run by all that decides its result.

    Returns
    -------
    str
        SHA-256 in hexadecimal of the task's name, the first weights, the method and its complete settings.
    """
    decisive = settings_of(method, settings).as_dict()
    for name in _NEUTRAL:
        del decisive[name]
    sha = hashlib.sha256(json.dumps([_FORMAT, task, method, decisive], sort_keys=True).encode())
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        sha.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
        sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def checkpoint_folder(
    task: str, weights: Mapping[str, np.ndarray], method: str, settings: Mapping[str, Any] | None = None
) -> str:
    """Give the folder in the user's cache for the checkpoints of a run, so that the same run finds it again.

    Nothing is created. The cache is ``$XDG_CACHE_HOME`` or ``~/.cache``.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    name = f"{task}-{method}-{fingerprint(task, weights, method, settings)[:16]}"
    return os.path.join(cache, "csbviz", "training", name)


def save(folder: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint in place of the one before.

    Parameters
    ----------
    folder : path
        It is created.
    tensors : mapping of str to numpy.ndarray
    facts : mapping
        JSON-safe; "step" among them.

    Raises
    ------
    InputError
        The system refuses to write there.
    """
    from safetensors.numpy import save as to_bytes

    folder = Path(folder)
    name = f"step-{facts['step']:09d}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_whole(folder / name, to_bytes({key: np.ascontiguousarray(x) for key, x in tensors.items()}))
        _write_whole(folder / _FACTS, json.dumps({**facts, "format": _FORMAT, "tensors": name}).encode())
        for old in folder.glob("step-*.safetensors"):
            if old.name != name:
                old.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"The checkpoint in {folder} cannot be written: {error.strerror or error}."
        ) from error


def load(folder: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Read the checkpoint of a folder; None when there is none.

    Raises
    ------
    FileFormatError
        There is one, but it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    facts = _facts(folder)
    if facts is None:
        return None
    try:
        return from_bytes((Path(folder) / str(facts["tensors"])).read_bytes()), facts
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise FileFormatError(_damaged(folder)) from error


def saved_step(folder: str | os.PathLike[str]) -> int | None:
    """Give the step of the checkpoint in a folder; None when there is none that can be read."""
    with contextlib.suppress(FileFormatError):
        facts = _facts(folder)
        return None if facts is None else facts["step"]
    return None


def discard(folder: str | os.PathLike[str]) -> None:
    """Remove a checkpoint; nothing happens when there is none, or when the folder is something else."""
    folder = Path(folder)
    if not (folder / _FACTS).is_file():
        return
    (folder / _FACTS).unlink()
    for path in (*folder.glob("step-*.safetensors"), *folder.glob(".*.part")):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the user keeps something else there
        folder.rmdir()


def _facts(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    path = Path(folder) / _FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise FileFormatError(_damaged(folder)) from error
    if (
        not isinstance(facts, dict)
        or facts.get("format") != _FORMAT
        or not isinstance(facts.get("step"), int)
    ):
        raise FileFormatError(_damaged(folder))
    return facts


def _damaged(folder: str | os.PathLike[str]) -> str:
    return (
        f"The checkpoint in {folder} is damaged; remove the folder to start the training from its beginning."
    )


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file that others see complete or not at all, also after a loss of power."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
