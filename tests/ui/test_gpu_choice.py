"""With a GPU in the machine the pages Run and Balance speak of it; CuPy stays out of the app's process."""

import sys

import pytest

from csbviz.ops.cuda import driver as cuda_driver
from csbviz.ops.cuda.driver import Driver, Gpu
from tests.ui.conftest import App


@pytest.fixture
def gpu(monkeypatch):
    """A machine that seems to have a GPU, a driver and CuPy; the fixture's function changes the GPU."""

    def put(capability=(9, 0), multiprocessors=132):
        driver = Driver(13000, (Gpu("Test GPU", capability, multiprocessors),))
        monkeypatch.setattr(cuda_driver, "read_driver", lambda: driver)

    monkeypatch.setattr(cuda_driver, "_cupy_obstacle", lambda version: None)
    monkeypatch.setitem(sys.modules, "cupy", None)  # makes every import of CuPy raise
    put()
    return put


def kernel_titles(app: App) -> set[str]:
    """Titles of the kernels that can be chosen one by one."""
    test = app.open("run")
    test.segmented_control(key="w.kernels.mode").set_value("own")
    test = app.run()
    rows = [row for row in test.pills if (row.key or "").startswith("w.kernels.")]
    return {title for row in rows for title in row.options}


class Service:
    """Stands in for the measurement service, and keeps what it gets."""

    def __init__(self):
        self.specs = []

    def submit(self, spec):
        self.specs.append(spec)
        raise RuntimeError("the test ends here")


def test_a_gpu_can_be_chosen_and_gets_its_blocks_and_its_worker(gpu, monkeypatch):
    started, service = [], Service()
    monkeypatch.setattr("csbviz.ui.warm.start_worker", started.append)
    monkeypatch.setattr("csbviz.service.get_service", lambda: service)
    app = App({"model": "fashion_cnn"})
    test = app.open("run")
    test.segmented_control(key="w.device").set_value("cuda")
    test = app.run()
    assert not test.button(key="run").disabled
    assert not [one for one in test.number_input if one.key == "w.threads"]
    assert "cannot run here" not in app.words
    assert "blocks 64 × 64" in app.words
    assert test.segmented_control(key="w.kernels.mode").value == "best"
    assert started == ["cpu", "cuda"]
    test.button(key="run").click()
    test.run()
    (spec,) = service.specs
    assert (spec.device, spec.kwargs["block_shape"]) == ("cuda", (64, 64))
    assert spec.kwargs["request"]["device"] == "cuda"
    assert spec.kwargs["request"]["threads"] is None


def test_float64_has_its_own_dense_kernel(gpu):
    app = App({"model": "fashion_cnn", "device": "cuda", "dtype": "float64"})
    titles = kernel_titles(app)
    assert "Dense (cuBLAS, fp64)" in titles
    assert "Dense (cuBLAS, TF32)" not in titles


def test_an_older_gpu_does_without_tensor_cores(gpu):
    gpu(capability=(7, 5))
    app = App({"model": "fashion_cnn", "device": "cuda"})
    titles = kernel_titles(app)
    test = app.test
    assert not test.button(key="run").disabled
    assert "Dense (cuBLAS, TF32)" not in titles
    assert "Test GPU has compute capability 7\\.5; 8\\.0 or newer is needed" in app.words


def test_the_page_balance_speaks_of_the_chosen_gpu(gpu):
    gpu(multiprocessors=108)
    app = App({"model": "fashion_cnn", "workers": "7"})
    test = app.open("run")
    test.segmented_control(key="w.device").set_value("cuda")
    app.run()
    test = app.open("balance")
    assert test.segmented_control(key="w.units").value == "cuda"
    assert test.number_input(key="w.workers").value == 108
