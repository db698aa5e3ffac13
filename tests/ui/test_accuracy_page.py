"""The page Accuracy: recorded studies, and one that is measured here."""

import json

import pytest

from csbviz.ui.components import jobs, study
from tests.ui.conftest import App, matrix_bytes

CNN = {"model": "fashion_cnn", "method": "magnitude"}


def record(method, sparsity, top1, seed=0, granularity="weight"):
    return {
        "task": "fashion",
        "method": method,
        "granularity": granularity,
        "options": {},
        "scope": "global",
        "layers": None,
        "retrained": "",
        "seed": seed,
        "sparsity": sparsity,
        "sparsity_reached": sparsity,
        "compression": 1 / (1 - sparsity),
        "speedup": 1 + sparsity,
        "metrics": {"top1": top1, "examples": 500},
        "digest": f"{method}{sparsity}{seed}",
        "epochs": 0,
        "seconds": 1.0,
    }


RECORDS = [
    record("dense", 0.0, 0.92),
    record("magnitude", 0.5, 0.91),
    record("magnitude", 0.9, 0.85),
    record("random", 0.9, 0.2),
    record("random", 0.9, 0.4, seed=1),
]


def spec(test) -> dict:
    return json.loads(test.get("plotly_chart")[0].proto.spec)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "FOLDER", tmp_path)
    return tmp_path


def test_a_recorded_study_is_drawn_without_running_anything(folder, monkeypatch):
    monkeypatch.setattr(jobs, "hand_in", lambda *args, **more: pytest.fail("nothing may run"))
    (folder / "pruning_study.json").write_text(json.dumps({"records": RECORDS}))
    (folder / "pruning_other.json").write_text(json.dumps([{"no": "record"}]))
    (folder / "pruning_broken.json").write_text("{")
    app = App(CNN)
    test = app.open("accuracy")
    names = [trace["name"] for trace in spec(test)["data"]]
    assert "Single weights · Random" in names
    assert "Pareto front" in names
    assert "Dense control 92.0 %" in json.dumps(spec(test)["layout"], ensure_ascii=False)
    table = test.dataframe[0].value
    random = table[table["Granularity and criterion"] == "Single weights · Random"].iloc[0]
    assert random["Seeds"] == 2
    assert random["Top-1 accuracy"] == pytest.approx(30.0)
    assert random["± std"] > 0
    assert {"Compression", "Theoretical speed-up"} <= set(table.columns)


def test_without_any_recorded_study_the_page_says_so(folder):
    app = App(CNN)
    test = app.open("accuracy")
    assert "No study comes with this installation" in test.info[0].value


def test_the_studies_that_come_along_are_drawn():
    app = App(CNN)
    test = app.open("accuracy")
    assert not test.error
    for name in test.selectbox(key="accuracy.study").options:
        test.selectbox(key="accuracy.study").set_value(name)
        assert len(app.run().get("plotly_chart")) == 1


def test_a_study_is_handed_in_in_the_background_and_shown(monkeypatch):
    taken = []
    monkeypatch.setattr(jobs, "hand_in", lambda *args, **more: taken.append((args, more)))
    app = App(CNN)
    test = app.open("accuracy")
    test.segmented_control(key="accuracy.source").set_value("here")
    test = app.run()
    test.button(key="study.start").click()
    test = app.run()
    (name, _, function, kwargs, _), more = taken[0]
    assert function == "csbviz.pruning.study:study"
    assert more["background"]
    assert len(kwargs["sparsities"]) >= 5
    assert kwargs["seeds"] == (0, 1, 2)
    assert {"block": (8, 8)} in kwargs["granularities"]
    result = {
        "task": "fashion",
        "metric": "top1",
        "chance": 0.1,
        "limit": 500,
        "records": RECORDS,
        "points": 5,
    }
    test.session_state[f"csbviz.job.{name}.done"] = {"about": more["about"], "result": result}
    test = app.run()
    assert len(test.get("plotly_chart")) == 1
    assert len(test.dataframe[0].value) == 3


def test_a_model_without_data_is_explained(app):
    app.open("model")
    app.upload("tiny.npz", matrix_bytes())
    test = app.open("accuracy")
    test.segmented_control(key="accuracy.source").set_value("here")
    test = app.run()
    assert "Accuracy needs data for the model" in test.info[0].value
