"""Without CuPy, a driver or a GPU the package still imports, and says in one sentence what is missing."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from csbviz.ops import cuda_module


class FakeError(RuntimeError):
    """Stands in for CUDARuntimeError."""


def fake_cupy(driver: int, built_for: int = 13020, count=1, capability=(9, 0)):
    def device_count():
        if isinstance(count, Exception):
            raise count
        return count

    runtime = SimpleNamespace(
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: built_for,
        getDeviceCount=device_count,
        getDevice=lambda: 0,
        getDeviceProperties=lambda device: {"name": b"GPU X", "major": capability[0], "minor": capability[1]},
        CUDARuntimeError=FakeError,
    )
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))


def reason(monkeypatch, cupy, capability=None):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda_module.importlib.util, "find_spec", lambda name: cupy)
    return cuda_module.missing_reason.__wrapped__(capability)


@pytest.mark.parametrize(
    ("cupy", "words"),
    [
        (None, "CuPy is not installed"),
        (fake_cupy(0), "No NVIDIA driver was found"),
        (
            fake_cupy(12040, count=FakeError("insufficient")),
            "supports CUDA 12.4 but CuPy was built for CUDA 13.2",
        ),
        (fake_cupy(13020, count=FakeError("unknown error")), "driver does not answer (unknown error)"),
        (fake_cupy(13020, count=0), "shows no GPU"),
        (fake_cupy(13020, capability=(7, 0)), "GPU X has compute capability 7.0; 7.5 or newer is needed"),
        (fake_cupy(13020), None),
    ],
)
def test_the_reason_is_one_sentence(monkeypatch, cupy, words):
    found = reason(monkeypatch, cupy, (7, 5))
    if words is None:
        assert found is None
    else:
        assert words in found
        assert found.endswith(".")
        assert "\n" not in found


def test_a_cupy_that_cannot_be_imported(monkeypatch):
    monkeypatch.setattr(cuda_module.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "cupy", None)  # makes `import cupy` raise
    assert "CuPy cannot be imported" in cuda_module.missing_reason.__wrapped__(None)


def test_the_launchers_import_neither_cupy_nor_torch():
    modules = (
        "csbviz.ops.csb_cuda",
        "csbviz.ops.baselines_cuda",
        "csbviz.ops.cuda_libraries",
        "csbviz.bench.gpu_timing",
    )
    code = f"import sys, {', '.join(modules)}; sys.exit(bool({{'cupy', 'torch'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
