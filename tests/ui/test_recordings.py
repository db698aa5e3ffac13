"""Recordings on the pages Run and Balance: labelled with device and date, never mixed with live results."""

import json

import pytest

from csbviz.balance import recording as balance
from csbviz.bench import recordings
from csbviz.bench.recordings import read_recording, recording_text, save_recording
from tests.ui.conftest import App
from tests.ui.recordings import GPU, balance_recording, run_recording
from tests.ui.test_results import FAST, Service

LABEL = "Recorded on Test GPU 80GB, 2026\\-01\\-02"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder with a recorded run and a balance recording, in place of the project's own."""
    save_recording(run_recording(), tmp_path / "run_test.json")
    balance_recording(tmp_path / "balance_test.json")
    monkeypatch.setattr(recordings, "FOLDER", tmp_path)
    monkeypatch.setattr(balance.recordings, "__defaults__", (tmp_path,))
    return tmp_path


def open_recorded(query: dict[str, str] | None = None) -> App:
    app = App({"model": "fashion_cnn", "source": "recorded"} | (query or {}))
    app.open("run")
    return app


def test_a_recording_shows_verdict_table_and_figures_with_its_label(shelf):
    app = open_recorded()
    test = app.test
    assert not test.error
    assert test.selectbox(key="w.run").value.endswith("fc1.weight")  # the layer that is open
    assert f"THE VERDICT · {LABEL.upper()}" in app.words
    assert "2\\.0× faster than CSR and 3\\.0× faster than dense" in app.words
    assert (
        "Less exact, A·B: in TF32 dense 9 µs and CSB 6 µs, in fp16 dense 4 µs, against 8 µs"
        in app.words.replace("\\", "")
    )
    assert f"{LABEL}] Not measured on this machine" in app.words
    assert "It is the layer that is open, pruned in the same way" in app.words
    table = test.dataframe[0].value
    assert set(table["Class"]) == {"fp32", "TF32", "fp16"}
    assert table["Status"].tolist() == ["verified"] * len(table)
    assert list(table.columns[:5]) == ["Operation", "N", "Class", "Kernel", "Status"]
    figures = [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]
    assert len(figures) == 2
    titles = {note["text"] for note in figures[0]["layout"]["annotations"]}
    assert {"<b>A·B · N = 128 · fp32</b>", "<b>A·B · N = 128 · TF32</b>"} <= titles
    assert not any("fp16" in title for title in titles)  # dense alone is no comparison


def test_nothing_can_be_run_while_a_recording_is_shown_and_live_results_stay(shelf, monkeypatch):
    monkeypatch.setattr("csbviz.service.get_service", lambda: Service(FAST))
    app = App({"model": "fashion_cnn"})
    test = app.open("run")
    test.button(key="run").click()
    app.run()
    assert "Test machine" in app.words
    test.segmented_control(key="w.source").set_value("recorded")
    app.run()
    assert "Test machine" not in app.words
    assert LABEL in app.words
    assert not [button for button in test.button if button.key == "run"]
    assert app.query()["source"] == "recorded"
    test.segmented_control(key="w.source").set_value("here")
    app.run()
    assert "Test machine" in app.words
    assert LABEL not in app.words


def test_layers_operations_and_columns_of_a_recording_are_chosen_and_stand_in_the_link(shelf):
    app = open_recorded()
    test = app.test
    test.selectbox(key="w.run").set_value("1. conv2.weight")
    app.run()
    assert "pruned in the same way" not in app.words
    test.pills(key="w.recorded.ops").set_value(["A@x"])
    test = app.run()
    table = test.dataframe[0].value
    assert set(table["Operation"]) == {"A·x"}
    test.pills(key="w.recorded.ops").set_value(["A@B"])
    app.run()
    test.pills(key="w.recorded.ns").set_value([512])
    test = app.run()
    assert set(test.dataframe[0].value["N"]) == {512}
    query = app.query()
    assert (query["run"], query["ops"], query["ns"]) == ("1. conv2.weight", "A@B", "512")
    again = open_recorded(query)
    assert again.test.selectbox(key="w.run").value == "1. conv2.weight"
    assert set(again.test.dataframe[0].value["N"]) == {512}


def test_nothing_chosen_shows_what_the_recording_has(shelf):
    app = open_recorded({"ops": "layer", "ns": "64"})
    table = app.test.dataframe[0].value
    assert set(table["N"]) == {512}
    assert set(table["Operation"]) == {"A·B", "Aᵀ·B"}


def upload(app: App, name: str, content: bytes):
    app.test.file_uploader[0].upload(name, content)
    return app.run()


def test_an_own_recording_is_opened_and_listed_beside_the_others(shelf):
    app = open_recorded()
    upload(app, "mine.json", recording_text(run_recording("My <b>run</b>")).encode())
    test = app.test
    assert not test.error
    assert len(test.selectbox(key="w.recording").options) == 2
    assert test.selectbox(key="w.recording").value.startswith("file-")
    assert "2\\.0× faster than CSR" in app.words
    other = open_recorded({"recording": test.selectbox(key="w.recording").value})
    assert len(other.test.selectbox(key="w.recording").options) == 1  # another session has not the file
    assert "2\\.0× faster than CSR" in other.words
    assert "this session does not have" in other.test.warning[0].value


@pytest.mark.parametrize("content", [b"\x89PNG", b"{}", b'{"kind": "csbviz run recording", "version": 9}'])
def test_a_bad_recording_is_one_sentence_and_nothing_is_lost(shelf, content):
    app = open_recorded()
    test = upload(app, "mine.json", content)
    assert len(test.error) == 1
    assert test.error[0].value.startswith("mine\\.json ")
    assert "2\\.0× faster than CSR" in app.words
    upload(app, "good.json", recording_text(run_recording("Good")).encode())
    assert not app.test.error


def test_names_from_a_recording_are_never_markup(shelf):
    evil = recording_text(run_recording("<img src=x>")).replace("Kernel csb", "<img src=x> :red[csb]")
    app = open_recorded()
    test = upload(app, "evil.json", evil.replace(GPU, "<b>GPU</b>").encode())
    assert not test.error
    for element in (*test.markdown, *test.caption, *test.subheader):
        if not element.value.strip().startswith("<style"):
            assert "<img" not in element.value
            assert "<b>" not in element.value
            assert ":red[" not in element.value
    for chart in test.get("plotly_chart"):
        layout = json.dumps(json.loads(chart.proto.spec)["layout"])
        assert "<img" not in layout


def test_without_any_recording_the_page_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "FOLDER", tmp_path)
    app = open_recorded()
    assert "python -m csbviz record" in app.words
    upload(app, "mine.json", recording_text(run_recording()).encode())
    assert "2\\.0× faster than CSR" in app.words


def test_live_results_can_be_saved_and_looked_at_again(monkeypatch, shelf):
    from csbviz.ui.components import results

    saved = {}
    monkeypatch.setattr(
        results.st, "download_button", lambda label, data, **options: saved.update(options, data=data)
    )
    monkeypatch.setattr("csbviz.service.get_service", lambda: Service(FAST))
    app = App({"model": "fashion_cnn"})
    test = app.open("run")
    test.button(key="run").click()
    app.run()
    recording = read_recording(saved["data"])
    assert saved["file_name"] == "csbviz-2026-01-01.json"
    assert recording.label == "Recorded on Test machine (2 cores), 2026-01-01"
    assert recording.title == "Fashion-MNIST CNN, fc1"
    (run,) = recording.runs
    assert [record.kernel for record in run.records] == ["csb_cpu", "csr_mkl", "dense_torch"]
    assert run.verdict.sentence.startswith("For A·B CSB is 2.0× faster than CSR and 4.0× faster than dense (")


def test_the_page_balance_shows_what_the_multiprocessors_did(shelf):
    app = App({"model": "fashion_cnn", "played": "recorded"})
    test = app.open("balance")
    assert not test.error
    assert f"{LABEL}] Not measured on this machine" in app.words
    values = {metric.label: metric.value for metric in test.metric}
    assert values["Time of the product"] == "10.0 µs"
    assert values["Against in order"] == "2.00×"
    assert values["λ, measured"] == "1.000"
    figures = [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]
    assert len(figures) == 3
    assert all("µs" in figure["layout"]["xaxis"]["title"]["text"] for figure in figures[1:])
    assert figures[0]["layout"]["yaxis"]["title"]["text"] == "Busy (µs)"
    table = test.dataframe[0].value
    assert table["Median"].tolist() == [10.0, 20.0]
    test.selectbox(key="w.way").set_value("in_order/grid")
    app.run()
    assert len(app.test.get("plotly_chart")) == 2
    assert app.query()["way"] == "in_order/grid"
    test.segmented_control(key="w.played").set_value("simulated")
    app.run()
    assert LABEL not in app.words
    assert test.radio(key="w.balance").value == "auto"


def test_the_page_balance_without_recordings_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.setattr(balance.recordings, "__defaults__", (tmp_path,))
    app = App({"model": "fashion_cnn", "played": "recorded"})
    app.open("balance")
    assert "python -m csbviz record --strategies" in app.words
    balance_recording(tmp_path / "mine.json")
    upload(app, "mine.json", (tmp_path / "mine.json").read_bytes())
    assert f"{LABEL}] Not measured on this machine" in app.words


def test_an_own_balance_recording_is_opened_and_a_bad_one_is_one_sentence(shelf):
    app = App({"model": "fashion_cnn", "played": "recorded"})
    app.open("balance")
    content = (shelf / "balance_test.json").read_text().replace("Uneven: a layer", "<b>Mine</b>")
    test = upload(app, "mine.json", content.encode())
    assert not test.error
    assert len(test.selectbox(key="w.matrix").options) == 2
    name = test.selectbox(key="w.matrix").value
    assert name.startswith("file-")
    assert app.query()["matrix"] == name
    test = upload(app, "run.json", recording_text(run_recording()).encode())
    assert test.error[0].value.startswith("run\\.json is no recording of balance strategies")
    assert test.selectbox(key="w.matrix").value == name
    other = App({"model": "fashion_cnn", "played": "recorded", "matrix": name})
    assert "this session does not have" in other.open("balance").warning[0].value


def test_a_broken_balance_recording_is_one_sentence(shelf):
    (shelf / "balance_broken.json").write_text("{}")
    app = App({"model": "fashion_cnn", "played": "recorded"})
    test = app.open("balance")
    assert len(test.error) == 1
    assert LABEL in app.words
