"""The pages Run and Balance on a real GPU, with the real measurement service behind them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from csbviz.ops.cuda.driver import read_driver
from csbviz.service import get_service
from csbviz.ui.components import jobs
from csbviz.ui.text import escape
from tests.ui.conftest import App

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[2]
LONG = 120  # seconds within which a run ends
FLOAT32 = {"csb_cuda", "csb_cuda_tf32", "cusparse_csr_alg2", "cublas_fp32", "cublas_tf32", "cublas_fp16"}
FLOAT64 = {"csb_cuda", "cusparse_csr_alg2", "cublas_fp64"}
FEW = {"csb_cuda", "cusparse_csr_alg2", "cublas_fp32"}
CLASSES = {"fp32": 2e-6, "tf32": 2e-3, "fp16": 2e-3, "bf16": 1e-2, "fp64": 1e-13}


@pytest.fixture(autouse=True)
def _no_worker():
    """Here the pages start their worker process themselves, as they do for a user."""


@pytest.fixture(scope="module", autouse=True)
def _close_the_service():
    yield
    get_service().close()


class Session(App):
    """A user on the page Run."""

    def __init__(self, query: dict[str, str] | None = None) -> None:
        super().__init__({"model": "fashion_cnn"} | (query or {}))
        self.open("run")

    def press_run(self) -> None:
        assert not self.test.button(key="run").disabled
        self.test.button(key="run").click()
        self.run()

    def measure(
        self,
        *,
        dtype: str = "float32",
        ops: tuple[str, ...] = ("A@B", "A.T@B"),
        ns: tuple[int, ...] = (512,),
        mode: str = "warm",
    ) -> None:
        """Set what is measured, whatever an earlier test left on the page."""
        self.test.segmented_control(key="w.dtype").set_value(dtype)
        self.test.pills(key="w.ops").set_value(list(ops))
        self.run()
        self.test.segmented_control(key="w.mode").set_value(mode)
        self.test.multiselect(key="w.ns").set_value(list(ns))
        self.run()

    def choose_few(self) -> None:
        """Choose one kernel of each format."""
        self.choose(csb=["csb_cuda"], csr=["cusparse_csr_alg2"], dense=["cublas_fp32"])

    def choose(self, **names: list[str]) -> None:
        """Choose kernels one by one: names of each family."""
        self.test.segmented_control(key="w.kernels.mode").set_value("own")
        self.run()
        for family in ("csb", "csr", "dense"):
            self.test.pills(key=f"w.kernels.{family}").set_value(names.get(family, []))
            self.run()

    @property
    def runs(self) -> bool:
        return self.test.session_state["csbviz.job.bench"]["state"] in ("queued", "running")

    def until_it_ends(self) -> list[str]:
        """Draw the page as its timer would until the job has ended; what the progress said meanwhile."""
        deadline, said = time.monotonic() + LONG, []
        while self.runs:
            assert time.monotonic() < deadline
            said += [bar.proto.text for bar in self.test.get("progress")]
            time.sleep(0.1)
            self.run()
        return said

    def found(self) -> dict:
        """What the page shows of the last run."""
        return self.test.session_state["csbviz.job.bench.done"]["result"]


def check(
    session: Session, kernels: set[str], n: int = 128, ops: tuple[str, ...] = ("A@B", "A.T@B")
) -> dict[tuple[str, str], dict]:
    """Hold a run's records, verdict and table against what a user must see; the records by op and kernel."""
    assert [error.value for error in session.test.error] == []
    found = session.found()
    show(found)
    records = {(record["op"], record["kernel"]): record for record in found["records"]}
    assert {(op, kernel) for op in ops for kernel in kernels} <= set(records)
    gpu = read_driver().gpus[0].name
    for record in records.values():
        assert record["status"] in ("ok", "unavailable"), (record["kernel"], record["message"])
        assert (record["status"] == "ok") == (record["message"] == "")
        assert record["device_name"] == gpu
        if record["status"] == "ok":
            assert record["median_us"] > 0
            assert record["rel_error"] <= CLASSES[record["precision"]]
        if record["op"] in ("A@B", "A.T@B"):
            assert record["n"] == n
    for op in ops:
        assert all(records[op, kernel]["status"] == "ok" for kernel in kernels)
    assert found["verdict"]["sentence"].endswith(f", warm, {gpu}).")
    assert "CSR and" in found["verdict"]["sentence"]
    assert found["verdict"]["problems"] == ()
    assert escape(found["verdict"]["sentence"]) in session.words
    assert len(session.test.dataframe[0].value) == len(records)
    return records


def show(found: dict) -> None:
    """Print what was measured, for whoever runs the tests with -s."""
    verdict = found["verdict"]
    print(f"\n{verdict['sentence']}\n{verdict['less_exact']}\n{verdict['reason']}")
    for r in found["records"]:
        print(
            f"{r['op']:14s} {r['kernel']:22s} {r['precision']} {r['median_us'] or 0:9.2f} µs "
            f"error {r['rel_error'] or 0:.1e} prepare {r['prepare_us'] or 0:.0f} µs {r['message']}"
        )


@pytest.fixture(scope="module")
def session():
    """One user's session on the GPU, shared by the tests of this file in their order."""
    session = Session()
    session.test.segmented_control(key="w.device").set_value("cuda")
    session.run()
    return session


@pytest.fixture
def before(session):
    """What the page shows when the test starts; a short run makes it where no test ran before."""
    if "csbviz.job.bench.done" not in session.test.session_state:
        session.measure()
        session.choose_few()
        session.press_run()
        session.until_it_ends()
    return session.found()


def test_the_gpu_can_be_chosen(session):
    assert "cannot run here" not in session.words
    assert "blocks 64 × 64" in session.words
    assert not session.test.button(key="run").disabled


def test_a_run_in_float32_tells_the_precision_classes_apart(session):
    start = time.monotonic()
    session.press_run()
    said = session.until_it_ends()
    print(f"first run: {time.monotonic() - start:.1f} s")
    assert any("timing" in text for text in said), said
    records = check(session, FLOAT32)
    for op in ("A@B", "A.T@B"):
        full, rounded, csb = (records[op, name] for name in ("cublas_fp32", "cublas_tf32", "csb_cuda"))
        assert (full["precision"], rounded["precision"], csb["precision"]) == ("fp32", "tf32", "fp32")
        assert 1e-5 < rounded["rel_error"] < 2e-3  # the operands were really rounded
        assert csb["speedup_vs_dense"] == pytest.approx(full["median_us"] / csb["median_us"])
        assert rounded["speedup_vs_csr"] is None
        half = records[op, "cublas_fp16"]
        assert (half["dtype"], half["precision"], half["speedup_vs_csr"]) == ("float16", "fp16", None)
    less_exact = session.found()["verdict"]["less_exact"]
    assert "in TF32 dense " in less_exact
    assert "in fp16 dense " in less_exact
    table = session.test.dataframe[0].value
    assert {"fp32", "TF32", "fp16"} <= set(table["Class"])
    assert "Dense (cuBLAS, TF32)" in " ".join(table["Kernel"])


def test_live_results_become_a_recording(before):
    from csbviz.bench.record import Record
    from csbviz.bench.recordings import RecordedRun, make_recording, read_recording, recording_text

    records = tuple(Record.from_dict(values) for values in before["records"])
    text = recording_text(make_recording("Live", [RecordedRun("fc1", records)], {}, before["device"]))
    recording = read_recording(text)
    assert recording.device["capability"]
    assert recording.runs[0].verdict.sentence == before["verdict"]["sentence"]


def test_vectors_and_a_whole_layer(session):
    test = session.test
    test.pills(key="w.ops").set_value(["A@x", "A.T@x", "layer"])
    session.run()
    session.press_run()
    session.until_it_ends()
    assert [error.value for error in test.error] == []
    found = session.found()
    show(found)
    records = {(record["op"], record["kernel"]): record for record in found["records"]}
    for op in ("A@x", "A.T@x"):
        assert any(r["format"] == "csb" and r["status"] == "ok" for (o, _), r in records.items() if o == op)
        assert any(r["format"] == "csr" and r["status"] == "ok" for (o, _), r in records.items() if o == op)
    for name in ("csb_layer", "csr_layer", "dense_layer"):
        assert records["layer", name]["status"] == "ok", records["layer", name]["message"]
    assert not [r for r in records.values() if r["status"] in ("wrong", "failed")]
    sentence = found["verdict"]["sentence"]
    assert "For A·x CSB is " in sentence
    assert "; for a layer (forward and backward) CSB is " in sentence
    test.pills(key="w.ops").set_value(["A@B", "A.T@B"])
    session.run()


def test_a_run_in_half_precision_meets_dense_of_its_class(session):
    test = session.test
    test.segmented_control(key="w.dtype").set_value("float16")
    test.pills(key="w.ops").set_value(["A@B"])
    session.run()
    session.press_run()
    session.until_it_ends()
    assert [error.value for error in test.error] == []
    found = session.found()
    show(found)
    records = found["records"]
    assert {record["precision"] for record in records} == {"fp16"}
    assert not [r for r in records if r["status"] in ("wrong", "failed")]
    ready = {record["format"] for record in records if record["status"] == "ok"}
    assert {"csb", "dense"} <= ready
    test.pills(key="w.ops").set_value(["A@B", "A.T@B"])
    session.run()


def test_a_run_in_float64(session):
    session.test.segmented_control(key="w.dtype").set_value("float64")
    session.run()
    assert any("earlier settings" in warning.value for warning in session.test.warning)
    session.press_run()
    session.until_it_ends()
    records = check(session, FLOAT64)
    assert {record["precision"] for record in records.values()} == {"fp64"}


def test_tuning_finds_variants_and_the_automatic_choice(session, monkeypatch):
    from csbviz.ui.components import tuning

    monkeypatch.setattr(tuning, "BUDGET_SECONDS", 3.0)
    test = session.test
    test.segmented_control(key="w.dtype").set_value("float32")
    session.run()
    test.button(key="tune").click()
    session.run()
    deadline = time.monotonic() + LONG
    while test.session_state["csbviz.job.tune"]["state"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
        session.run()
    assert [error.value for error in test.error] == []
    result = test.session_state["csbviz.job.tune.done"]["result"]
    print(
        [(v["kernel"], v["used"], v["median_us"], v["message"]) for v in result["variants"][:8]],
        result["automatic"],
    )
    assert result["variants"][0]["status"] == "ok"
    assert not [variant for variant in result["variants"] if variant["status"] == "wrong"]


def test_a_cancelled_run_leaves_the_results_and_the_next_one_works(session, before):
    session.test.segmented_control(key="w.kernels.mode").set_value("best")
    session.measure(ns=(128, 512, 2048, 4096), mode="cold")
    session.press_run()
    deadline = time.monotonic() + LONG
    while not any("timing" in bar.proto.text for bar in session.test.get("progress")):
        assert session.runs
        assert time.monotonic() < deadline
        time.sleep(0.05)
        session.run()
    session.test.button(key="cancel.bench").click()
    session.run()
    session.until_it_ends()
    assert "cancelled" in session.test.info[0].value
    assert session.found() is before
    session.measure()
    session.choose_few()
    start = time.monotonic()
    session.press_run()
    session.until_it_ends()
    print(f"run after the cancel: {time.monotonic() - start:.1f} s")
    assert {kernel for _, kernel in check(session, FEW, n=512)} == FEW


def test_a_gpu_fault_is_one_sentence_on_the_page_and_the_next_run_works(session, before, monkeypatch):
    hand_in = jobs.hand_in

    def hand_in_a_fault(name, title, function, kwargs, device, about=None):
        hand_in(name, title, "tests.service.cuda_jobs:bench_a_faulty_kernel", kwargs, device, about)

    session.measure()
    session.choose_few()
    with monkeypatch.context() as patched:
        patched.setattr(jobs, "hand_in", hand_in_a_fault)
        session.press_run()
    session.until_it_ends()
    (error,) = session.test.error
    assert error.value.startswith(escape("Faulty, A·B, N = 512: the kernel failed"))
    assert session.found() is before
    session.press_run()
    session.until_it_ends()
    check(session, FEW, n=512)


def test_chosen_kernels_run_cold_with_a_chosen_balance(session):
    test = session.test
    session.measure(ops=("A.T@B",), ns=(32,), mode="cold")
    test.selectbox(key="w.balance").select("equal_nnz")
    session.choose(csb=["csb_gather"], dense=["cublas_fp32"])
    session.press_run()
    session.until_it_ends()
    assert [error.value for error in test.error] == []
    found = session.found()
    show(found)
    assert [record["kernel"] for record in found["records"]] == ["csb_gather", "cublas_fp32"]
    assert {record["status"] for record in found["records"]} == {"ok"}
    assert found["records"][0]["balance"] == "equal_nnz"
    assert "N = 32, float32, cold, " in found["verdict"]["sentence"]


@pytest.mark.parametrize("direction", ["A@B", "A.T@B"])
def test_the_page_balance_deals_the_work_to_the_multiprocessors(session, direction):
    test = session.open("balance")
    assert test.segmented_control(key="w.units").value == "cuda"
    test.segmented_control(key="w.direction").set_value(direction)
    test.number_input(key="w.tiles").set_value(4)
    test = session.run()
    assert test.number_input(key="w.workers").value == read_driver().gpus[0].multiprocessors
    values = {metric.label: metric.value for metric in test.metric}
    print(direction, values)
    assert float(values["λ, imbalance"]) >= 1
    assert len(test.get("plotly_chart")) == 2


def test_the_app_itself_never_uses_the_gpu():
    """A process of its own, because other tests use the GPU in this one."""
    script = """
import ctypes, sys
from tests.ui.conftest import App, matrix_bytes
app = App({"model": "fashion_cnn", "device": "cuda", "units": "cuda"})
app.open("balance")
assert not app.open("run").button(key="run").disabled
assert "cupy" not in sys.modules
flags, active = ctypes.c_uint(), ctypes.c_int(-1)
driver = ctypes.CDLL("libcuda.so.1")
assert driver.cuDevicePrimaryCtxGetState(0, ctypes.byref(flags), ctypes.byref(active)) == 0
assert active.value == 0
from csbviz.service import get_service
get_service().close()
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=LONG)
