"""The page Run: operations, precision classes, the choice among many kernels, and tuning."""

import pytest

from csbviz.ui.kernel_choice import default_names, families, found_kernels
from tests.ui.conftest import App
from tests.ui.test_gpu_choice import gpu  # noqa: F401  (a fixture)
from tests.ui.test_results import FAST, Service, found, record


@pytest.fixture
def press(monkeypatch):
    """Open the page with a link, press Run on a service that stands in; gives app and service."""

    def open_and_press(query: dict[str, str], button: str = "run", result=FAST) -> tuple[App, Service]:
        service = Service(result)
        monkeypatch.setattr("csbviz.service.get_service", lambda: service)
        app = App({"model": "fashion_cnn"} | query)
        test = app.open("run")
        assert not test.button(key=button).disabled, app.words
        test.button(key=button).click()
        app.run()
        return app, service

    return open_and_press


def request(service: Service) -> dict:
    (spec,) = service.specs
    return spec.kwargs["request"]


def has(test, kind: str, key: str) -> bool:
    return any(element.key == key for element in getattr(test, kind))


def test_products_with_a_vector_have_no_n(press):
    app, service = press({"ops": "A@x,A.T@x"})
    assert not has(app.test, "multiselect", "w.ns")
    assert "for N" not in app.words
    assert "Measures A·x and Aᵀ·x on" in app.words
    assert request(service)["ops"] == ["A@x", "A.T@x"]
    app.test.pills(key="w.ops").set_value(["A@x", "A@B"])
    app.run()
    assert has(app.test, "multiselect", "w.ns")
    assert app.query()["ops"] == "A@B,A@x"


def test_a_layer_needs_no_kernels_and_is_timed_for_n_rows(press):
    app, service = press({"ops": "layer", "ns": "64"})
    assert not has(app.test, "pills", "w.kernels")
    assert request(service)["ops"] == ["layer"]
    assert request(service)["ns"] == [64]
    assert "a layer (forward and backward)" in app.words.replace("\\", "")


def test_a_layer_and_a_product_are_shown_together(press):
    product = [record("csb_cpu", 100.0), record("csr_mkl", 200.0), record("dense_torch", 400.0)]
    layer = [
        record("csb_layer", 900.0, op="layer", title="CSB layer"),
        record("csr_layer", 1800.0, op="layer", title="CSR layer", copies=2),
        record("dense_layer", 2700.0, op="layer", title="Dense layer"),
    ]
    app, _ = press({"ops": "A@B,layer"}, result=found(*product, *layer))
    words = app.words.replace("\\", "")
    assert "for a layer (forward and backward) CSB is 2.0× faster than CSR with both copies and 3.0×" in words
    assert set(app.test.dataframe[0].value["Operation"]) == {"A·B", "layer"}


def test_the_cpu_offers_what_its_kernels_multiply(app):
    test = app.open("run")
    assert list(test.segmented_control(key="w.dtype").options) == ["float32", "float64"]


def test_a_type_that_no_kernel_of_the_device_multiplies_is_one_sentence():
    app = App({"model": "fashion_cnn", "dtype": "float16"})
    test = app.open("run")
    assert test.button(key="run").disabled
    assert "No kernel on this device multiplies float16 values" in app.words


def test_going_back_to_the_cpu_takes_a_type_that_it_knows(gpu):  # noqa: F811
    app = App({"model": "fashion_cnn", "device": "cuda", "dtype": "float16"})
    test = app.open("run")
    assert "float16" in test.segmented_control(key="w.dtype").options
    assert not test.button(key="run").disabled
    test.segmented_control(key="w.device").set_value("cpu")
    test = app.run()
    assert test.segmented_control(key="w.dtype").value == "float32"
    assert not test.button(key="run").disabled


def test_a_layer_in_half_precision_is_refused_in_one_sentence(gpu):  # noqa: F811
    app = App({"model": "fashion_cnn", "device": "cuda", "dtype": "float16", "ops": "layer"})
    test = app.open("run")
    assert test.button(key="run").disabled
    assert "A layer is timed with float32 or float64 values" in app.words


def names(ops=("A@B", "A.T@B"), dtype="float32") -> list[str]:
    ready = [kernel for kernel in found_kernels("cuda", dtype, ops)]
    return default_names(ready, dtype, ops)


def test_by_default_the_automatic_choice_meets_the_best_of_each_class():
    chosen = names()
    assert {"csb_cuda", "csb_cuda_tf32", "cublas_fp32", "cublas_tf32", "cusparse_csr_alg3"} <= set(chosen)
    assert not {"csb_simple", "csb_gather", "cusparse_csr_alg1"} & set(chosen)
    assert len(chosen) < len(found_kernels("cuda", "float32", ("A@B",)))
    assert "cublas_fp64" in names(dtype="float64")


def test_every_kernel_has_its_place_in_a_family():
    found_ones = found_kernels("cuda", "float32", ("A@B",))
    rows = families(found_ones)
    assert list(rows) == ["CSB", "CSR", "Dense"]
    assert sorted(kernel.name for row in rows.values() for kernel in row) == sorted(
        k.name for k in found_ones
    )


def test_many_kernels_are_chosen_by_kind_or_one_by_one(gpu, press):  # noqa: F811
    app, service = press({"device": "cuda"})
    assert request(service)["kernels"] == names()
    test = app.test
    test.segmented_control(key="w.kernels.mode").set_value("all")
    app.run()
    assert app.query()["kernels"] == "*"
    test.segmented_control(key="w.kernels.mode").set_value("own")
    app.run()
    test.pills(key="w.kernels.csb").set_value(["csb_cuda"])
    app.run()
    test.pills(key="w.kernels.csr").set_value([])
    app.run()
    test.pills(key="w.kernels.dense").set_value(["cublas_fp32"])
    app.run()
    assert app.query()["kernels"] == "csb_cuda,cublas_fp32"
    test.button(key="run").click()
    app.run()
    assert service.specs[-1].kwargs["request"]["kernels"] == ["csb_cuda", "cublas_fp32"]
    test.segmented_control(key="w.kernels.mode").set_value("best")
    app.run()
    assert "kernels" not in app.query()


def test_all_kernels_are_all_that_can_run(gpu, press):  # noqa: F811
    gpu(capability=(7, 5))
    app, service = press({"device": "cuda", "kernels": "*"})
    chosen = request(service)["kernels"]
    assert {"csb_cuda", "csb_simple", "cublas_fp32", "cusparse_csr_alg1"} <= set(chosen)
    others = [k for k in found_kernels("cuda", "float32", ("A@B", "A.T@B")) if k.name not in chosen]
    assert "cublas_tf32" in {kernel.name for kernel in others}
    words = app.words.replace("\\", "")
    assert all(kernel.title in words for kernel in others)
    assert "Test GPU has compute capability 7.5; 8.0 or newer is needed" in words


VARIANTS = [
    {
        "kernel": "csb_cpu",
        "balance": "swizzle",
        "params": {"tile_n": 64},
        "used": {"tile_n": 64, "balance": "swizzle"},
        "status": "ok",
        "median_us": 50.0,
        "rel_error": 1e-7,
        "message": "",
    },
    {
        "kernel": "csb_cpu",
        "balance": "swizzle",
        "params": {},
        "used": {"tile_n": 32, "balance": "swizzle"},
        "status": "ok",
        "median_us": 60.0,
        "rel_error": 1e-7,
        "message": "",
    },
    {
        "kernel": "csb_cpu",
        "balance": None,
        "params": {"tile_n": 8},
        "used": {},
        "status": "wrong",
        "median_us": None,
        "rel_error": 0.3,
        "message": "The result is off.",
    },
]


def test_tuning_lists_variants_relative_to_the_automatic_choice(press):
    result = {"variants": VARIANTS, "automatic": 1, "device": {"name": "Test"}}
    app, service = press({"ns": "32,64", "threads": "1"}, button="tune", result=result)
    (spec,) = service.specs
    assert spec.function == "csbviz.bench.jobs:run_tune"
    assert spec.kwargs["request"] == {"op": "A@B", "n": 32, "device": "cpu", "budget_s": 30.0, "threads": 1}
    (card,) = [one for one in app.test.expander if one.label.startswith("Tune")]
    assert card.proto.expanded  # what was found is in sight
    table = app.test.dataframe[0].value
    assert table["Median"].tolist()[:2] == [50.0, 60.0]
    assert table["Speed"].tolist()[:2] == [1.2, 1.0]
    assert table["Kernel"].tolist() == ["csb_cpu", "csb_cpu · automatic", "csb_cpu"]
    assert table["Status"].tolist()[2] == "wrong result: The result is off."
    assert (
        "3 variants measured, the fastest takes 50\\.0 µs, 1\\.20× as fast as the library's own choice"
        in app.words
    )


def test_tuning_really_finds_the_automatic_choice_among_the_variants():
    import numpy as np
    import scipy.sparse as sp

    from csbviz.bench.jobs import run_tune

    csr = sp.random(96, 80, 0.2, "csr", np.float32, np.random.default_rng(0))
    said = []
    asked = {"op": "A@B", "n": 256, "device": "cpu", "budget_s": 20.0}
    result = run_tune(csr, asked, lambda fraction, message: said.append(message))
    automatic = result["variants"][result["automatic"]]
    assert (automatic["params"], automatic["status"]) == ({}, "ok")
    times = [variant["median_us"] for variant in result["variants"] if variant["status"] == "ok"]
    assert len(times) > 1
    assert times == sorted(times)
    assert said[-1] == "Done"


def test_a_tuning_job_can_be_cancelled(monkeypatch):
    service = Service(state="running")
    monkeypatch.setattr("csbviz.service.get_service", lambda: service)
    app = App({"model": "fashion_cnn"})
    test = app.open("run")
    test.button(key="tune").click()
    app.run()
    assert test.button(key="tune").disabled
    test.button(key="cancel.tune").click()
    app.run()
    assert service.cancelled == ["job"]
    assert not test.button(key="tune").disabled
