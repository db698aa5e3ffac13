"""NVRTC on demand: from a CUDA source to a binary for one architecture, kept on disk between processes.

CuPy's own compiler names the architecture itself and cannot ask for ``sm_90a``, whose instructions (wgmma)
exist on one architecture only; its NVRTC is used here with an architecture of our choice.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from csbviz.errors import UnavailableError

__all__ = ["Binary", "architecture", "compile_source"]

COMPILE_OPTIONS = ("-std=c++17", "-lineinfo")
"""Options of NVRTC besides the architecture. No fast math: NaN, Inf and rounding stay IEEE's."""


class Binary(NamedTuple):
    """What NVRTC made: the code (a cubin, or PTX as text) and the name of the kernel in it."""

    code: bytes
    name: str


def architecture(capability: tuple[int, int], newest: int, specific: bool = False) -> str:
    """NVRTC's name of the architecture to compile for.

    Parameters
    ----------
    capability : tuple of int
        Compute capability of the device.
    newest : int
        Newest architecture that this NVRTC knows, e.g. 120; newer devices translate its PTX.
    specific : bool
        Whether the source uses instructions of this very architecture, such as wgmma.
    """
    number = 10 * capability[0] + capability[1]
    if number > newest:
        return f"compute_{newest}"
    return f"sm_{number}{'a' if specific else ''}"


def compile_source(name: str, source: str, expression: str, target: str) -> Binary:
    """Compile one instantiation, or take it from the disk.

    Parameters
    ----------
    name : str
        Name of the file, for messages.
    source : str
        Its text.
    expression : str
        C++ name of the kernel, e.g. ``csb_add_partials<float>``.
    target : str
        ``sm_…`` for a cubin, ``compute_…`` for PTX.

    Raises
    ------
    UnavailableError
        If it does not compile; the message has the compiler's first error.
    """
    from cupy_backends.cuda.libs import nvrtc

    key = "\0".join((source, expression, target, *COMPILE_OPTIONS, str(nvrtc.getVersion())))
    path = _cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()}.cubin"
    with contextlib.suppress(OSError, ValueError):
        lowered, _, code = path.read_bytes().partition(b"\n")
        if code:
            return Binary(code, lowered.decode())
    binary = _compile(nvrtc, name, source, expression, target)
    _keep(path, binary)
    return binary


def _compile(nvrtc, name: str, source: str, expression: str, target: str) -> Binary:
    program = nvrtc.createProgram(source, name, (), ())
    try:
        nvrtc.addNameExpression(program, expression)
        nvrtc.compileProgram(program, (*COMPILE_OPTIONS, f"-arch={target}"))
        lowered = nvrtc.getLoweredName(program, expression)
        code = nvrtc.getCUBIN(program) if target.startswith("sm_") else nvrtc.getPTX(program)
    except nvrtc.NVRTCError as error:
        lines = nvrtc.getProgramLog(program).splitlines()
        first = next((line for line in lines if "error" in line), str(error))
        raise UnavailableError(f"{name} does not compile for {target}: {first.strip()}") from error
    finally:
        nvrtc.destroyProgram(program)
    return Binary(_as_bytes(code), _as_bytes(lowered).decode())


def _as_bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _cache_folder() -> Path:
    """Where binaries stay between processes: CSBVIZ_CACHE_DIR, or a folder in CuPy's kernel cache."""
    chosen = os.environ.get("CSBVIZ_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("CUPY_CACHE_DIR", "~/.cupy/kernel_cache")).expanduser() / "csbviz"


def _keep(path: Path, binary: Binary) -> None:
    """Write to a file of its own and rename it: another process may be doing the same."""
    with contextlib.suppress(OSError):  # a disk that cannot be written costs time, nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(binary.name.encode() + b"\n" + binary.code)
        os.replace(temporary, path)
