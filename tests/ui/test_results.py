"""The Run page shows what a run found, says what it is of, and follows its measurements."""

import dataclasses

import pytest

from csbviz.bench.record import Record
from csbviz.bench.verdict import verdict
from csbviz.errors import JobError
from csbviz.service import JobStatus
from tests.ui.conftest import App


def record(kernel: str, median: float, status: str = "ok", **changes) -> Record:
    """A measured case of the sample's largest layer."""
    values = {
        "kernel": kernel,
        "title": f"Kernel {kernel}",
        "format": kernel.split("_")[0],
        "matrix": "fc1",
        "op": "A@B",
        "device": "cpu",
        "device_name": "Test machine (2 cores)",
        "dtype": "float32",
        "precision": "fp32",
        "m": 128,
        "k": 3136,
        "n": 128,
        "nnz": 35913,
        "sparsity": 0.91,
        "block_shape": (64, 64),
        "balance": "chunks" if kernel.startswith("csb") else None,
        "params": {},
        "threads": 2,
        "mode": "warm",
        "status": status,
        "bytes": 250_000,
        "when": "2026-01-01T00:00:00+00:00",
    }
    if status == "ok":
        values |= {"median_us": median, "p25_us": 0.98 * median, "p75_us": 1.02 * median, "rel_error": 1e-7}
        values |= {"tflops": 2 * 35913 * 128 / median / 1e6}
    return Record(**(values | changes))


class Service:
    """Stands in for the measurement service: every job ends at once with the given result or error."""

    def __init__(self, result=None, error=None, state="done"):
        self.result, self.error, self.state, self.specs, self.cancelled = result, error, state, [], []

    def submit(self, spec):
        self.specs.append(spec)
        return "job"

    def status(self, job):
        return JobStatus(job, "Run", self.state, 0.5, "A.T@B, N = 8: timing", 0, self.result, self.error, 3.0)

    def jobs(self):
        return ()

    def cancel(self, job):
        self.cancelled.append(job)
        self.state = "cancelled"


def found(*records: Record) -> dict:
    """What the job gives back for these records."""
    return {
        "records": [entry.to_dict() for entry in records],
        "verdict": dataclasses.asdict(verdict(list(records))),
    }


@pytest.fixture
def run(monkeypatch):
    """Press Run on a fresh app with a service that stands in; gives the app and the service."""

    def press(service: Service, query: dict[str, str] | None = None) -> App:
        monkeypatch.setattr("csbviz.service.get_service", lambda: service)
        app = App({"model": "fashion_cnn"} | (query or {}))
        test = app.open("run")
        test.button(key="run").click()
        app.run()
        return app

    return press


FAST = found(record("csb_cpu", 100.0), record("csr_mkl", 200.0), record("dense_torch", 400.0))
SLOW = found(record("csb_cpu", 500.0), record("csr_mkl", 200.0), record("dense_torch", 400.0))


def test_the_verdict_follows_the_measurements(run):
    assert "2\\.0× faster than CSR and 4\\.0× faster than dense" in run(Service(FAST)).words
    assert "2\\.5× slower than CSR and 1\\.2× slower than dense" in run(Service(SLOW)).words


def test_the_job_gets_what_the_page_shows(run):
    service = Service(FAST)
    run(
        service,
        {"layer": "conv2.weight", "block": "16x32", "ns": "32,64", "dtype": "float64", "ops": "A.T@B"},
    )
    (spec,) = service.specs
    assert spec.function == "csbviz.bench.jobs:run_bench"
    assert spec.device == "cpu"
    assert spec.kwargs["csr"].shape == (64, 288)
    assert spec.kwargs["block_shape"] == (16, 32)
    assert spec.kwargs["dtype"] == "float64"
    assert spec.kwargs["request"]["ns"] == [32, 64]
    assert spec.kwargs["request"]["ops"] == ["A.T@B"]


def test_results_stay_and_say_that_settings_changed(run):
    app = run(Service(FAST))
    assert not app.test.warning
    app.test.segmented_control(key="w.dtype").set_value("float64")
    app.run()
    assert "earlier settings (values: float32)" in app.test.warning[0].value
    assert "faster than CSR" in app.words
    app.open("layout")
    app.open("run")
    assert "faster than CSR" in app.words
    app.test.segmented_control(key="w.dtype").set_value("float32")
    app.run()
    assert not app.test.warning


def test_a_wrong_kernel_is_reported_without_a_time(run):
    wrong = record("csb_cpu", 1.0, status="wrong", message="The result is off.")
    app = run(Service(found(wrong, record("csr_mkl", 200.0))))
    assert "wrong result" in app.words
    table = app.test.dataframe[0].value
    assert table["Median"].isna().tolist() == [True, False]
    assert "The result is off." in table["Status"][0]


def test_kernels_that_cannot_run_are_named_below_the_table_with_their_cases(run):
    none = {"status": "unavailable", "message": "It takes 8 columns.", "median_us": None, "rel_error": None}
    missing = [record("csr_mkl", 1.0, n=n, title="CSR (MKL)", **none) for n in (8, 16)]
    app = run(Service(found(record("csb_cpu", 100.0), *missing)))
    table = app.test.dataframe[0].value
    assert table["Status"].tolist() == ["verified", "cannot run", "cannot run"]
    assert "λ" not in table
    says = "**CSR (MKL)** has no time for A·B, N = 8 and A·B, N = 16: It takes 8 columns"
    assert says in app.words.replace("\\", "")


def test_unsteady_times_are_called_unsteady(run):
    app = run(Service(found(record("csb_cpu", 100.0, p75_us=300.0), record("csr_mkl", 200.0))))
    assert "of 1 measurement are unsteady (quartiles 202 % of the median" in app.test.warning[0].value


def test_a_busy_machine_calls_for_caution(run):
    busy = found(record("csb_cpu", 100.0, others_load=0.5), record("csr_mkl", 200.0, others_load=0.5))
    app = run(Service(busy))
    assert "Other programs used 50 % of the processors" in app.test.warning[0].value


def test_a_failed_job_is_one_sentence(run):
    app = run(Service(state="failed", error="The worker process ended."))
    assert [error.value for error in app.test.error] == ["The worker process ended\\."]
    assert not app.test.button(key="run").disabled


def test_a_running_job_shows_its_progress_and_can_be_cancelled(run):
    service = Service(state="running")
    app = run(service)
    assert app.test.button(key="run").disabled
    assert "Aᵀ·B" in app.test.get("progress")[0].proto.text
    app.test.button(key="cancel.bench").click()
    app.run()
    assert service.cancelled == ["job"]
    assert "cancelled" in app.test.info[0].value
    assert not app.test.button(key="run").disabled


def test_a_refused_job_is_one_sentence(run, monkeypatch):
    service = Service()
    monkeypatch.setattr(service, "submit", lambda spec: (_ for _ in ()).throw(JobError("It is closed.")))
    app = run(service)
    assert [error.value for error in app.test.error] == ["It is closed\\."]


def test_no_kernel_chosen_blocks_the_run(app):
    test = app.open("run")
    test.pills(key="w.kernels").set_value([])
    test = app.run()
    assert test.button(key="run").disabled
    assert "Choose at least one kernel" in app.words


def test_accuracy_is_kept_for_the_weights_it_was_measured_with(monkeypatch):
    found = {"as loaded": {"top1": 0.9275}, "magnitude 90 %, whole model": {"top1": 0.5}}
    service = Service(found)
    monkeypatch.setattr("csbviz.service.get_service", lambda: service)
    app = App({"model": "fashion_cnn"})
    test = app.open("prune")
    test.button(key="measure.accuracy").click()
    test = app.run()
    values = {metric.label: metric.value for metric in test.metric}
    assert (values["As loaded"], values["Pruned"], values["Change"]) == (
        "92.75 %",
        "50.00 %",
        "−42.75",
    )
    test.slider(key="w.sparsity").set_value(80.0)
    values = {metric.label: metric.value for metric in app.run().metric}
    assert (values["As loaded"], values["Pruned"]) == ("92.75 %", "not measured")
