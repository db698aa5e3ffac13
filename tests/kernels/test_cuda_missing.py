"""Without CuPy, a driver or a GPU the package still imports, and says in one sentence what is missing."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from csbviz.ops.cuda import driver as cuda_driver
from csbviz.ops.cuda import module as cuda_module
from csbviz.ops.cuda.driver import Driver, Gpu, obstacle

GPU = Gpu("GPU X", (9, 0), 132)


class FakeLibrary:
    """Stands in for the driver's library; a call that fails is named with its error number."""

    def __init__(self, version=13000, gpus=(GPU,), failing=None, error=999):
        self.version, self.gpus, self.failing, self.error = version, gpus, failing, error

    def _end(self, name):
        return self.error if name == self.failing else 0

    def cuDriverGetVersion(self, version):
        version._obj.value = self.version
        return self._end("cuDriverGetVersion")

    def cuInit(self, flags):
        return self._end("cuInit")

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.gpus)
        return self._end("cuDeviceGetCount")

    def cuDeviceGet(self, device, number):
        device._obj.value = number
        return self._end("cuDeviceGet")

    def cuDeviceGetName(self, name, size, device):
        name.value = self.gpus[device.value].name.encode()
        return self._end("cuDeviceGetName")

    def cuDeviceGetAttribute(self, value, attribute, device):
        gpu = self.gpus[device.value]
        value._obj.value = {75: gpu.capability[0], 76: gpu.capability[1], 16: gpu.multiprocessors}[attribute]
        return self._end("cuDeviceGetAttribute")

    def cuGetErrorString(self, error, text):
        text._obj.value = b"unknown error" if error == 999 else None
        return 0


def test_the_driver_names_its_gpus():
    other = Gpu("GPU Y", (8, 6), 20)
    assert cuda_driver._ask(FakeLibrary(12040, (GPU, other))) == Driver(12040, (GPU, other))


@pytest.mark.parametrize("call", ["cuDriverGetVersion", "cuInit", "cuDeviceGetCount", "cuDeviceGetAttribute"])
def test_a_driver_that_fails_is_a_problem_in_its_words(call):
    found = cuda_driver._ask(FakeLibrary(failing=call))
    assert (found.gpus, found.problem) == ((), "CUDA error 999: unknown error")


def test_a_driver_without_a_gpu_is_no_fault():
    assert cuda_driver._ask(FakeLibrary(failing="cuInit", error=100)) == Driver(13000)


def test_an_error_that_the_driver_cannot_name():
    assert cuda_driver._ask(FakeLibrary(failing="cuInit", error=46)).problem == "CUDA error 46: unknown error"


@pytest.mark.parametrize(
    ("driver", "cupy", "words"),
    [
        (Driver(0), True, "No NVIDIA driver was found"),
        (Driver(13000, (), "CUDA error 999: unknown error"), True, "does not answer (CUDA error 999"),
        (Driver(13000), True, "shows no GPU"),
        (Driver(13000, (Gpu("GPU X", (7, 0), 80),)), True, "GPU X has compute capability 7.0; 7.5 or newer"),
        (Driver(13000, (GPU,)), False, "CuPy is not installed"),
        (Driver(12040, (GPU,)), True, "supports CUDA 12.4 but CuPy was built for CUDA 13"),
        (Driver(13000, (GPU,)), True, None),
    ],
)
def test_the_obstacle_is_one_sentence(monkeypatch, driver, cupy, words):
    monkeypatch.setattr(cuda_driver, "read_driver", lambda: driver)
    monkeypatch.setattr(cuda_driver.importlib.util, "find_spec", lambda name: object() if cupy else None)
    monkeypatch.setattr(cuda_driver, "_cupy_majors", lambda: (13,))
    found = obstacle((7, 5))
    if words is None:
        assert found is None
    else:
        assert words in found
        assert found.endswith(".")
        assert "\n" not in found


@pytest.fixture
def ready(monkeypatch):
    """A machine on which nothing stands in the way, as far as it shows without CuPy."""
    monkeypatch.setattr(cuda_module, "obstacle", lambda capability, exact: None)


def test_a_cupy_that_cannot_be_imported(monkeypatch, ready):
    monkeypatch.setitem(sys.modules, "cupy", None)  # makes `import cupy` raise
    assert "CuPy cannot be used" in cuda_module.missing_reason.__wrapped__(None)


def test_a_cupy_that_does_not_get_along_with_the_driver(monkeypatch, ready):
    def device_count():
        raise RuntimeError("cudaErrorInsufficientDriver:\ntoo old")

    runtime = SimpleNamespace(getDeviceCount=device_count)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(runtime=runtime)))
    said = "CuPy cannot be used (RuntimeError: cudaErrorInsufficientDriver: too old)."
    assert cuda_module.missing_reason.__wrapped__(None) == said


def test_the_launchers_import_neither_cupy_nor_torch():
    modules = (
        "csbviz.ops.cuda.rows",
        "csbviz.ops.cuda.baselines",
        "csbviz.ops.cuda.libraries",
        "csbviz.bench.gpu_timing",
    )
    code = f"import sys, {', '.join(modules)}; sys.exit(bool({{'cupy', 'torch'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
