"""A user's own ONNX model and data: accuracy as PyTorch has it, one sentence for what does not fit."""

from __future__ import annotations

import ast
import io
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from csbviz.errors import CSBVizError, FileFormatError, InputError
from csbviz.models import load_model
from csbviz.pruning import prune_model
from csbviz.tasks import onnx_runner, own_data
from csbviz.tasks.own import check_data, measure_versions, own_task, read_data
from tests.models.model_files import external_onnx_bytes
from tests.models.onnx_networks import CLASSES, FORMS, SIDE, arrays, cnn, logits, tensor

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "own_models.md"


def archive(**named) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **named)
    return file.getvalue()


def examples(count: int = 150, seed: int = 1):
    """Images, and labels of which the CNN gets about half right."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((count, 1, SIDE, SIDE)).astype(np.float32)
    labels = logits(arrays(), images).argmax(1)
    wrong = rng.random(count) < 0.5
    labels[wrong] = rng.integers(0, CLASSES, wrong.sum())
    return images, labels


def data_of(images, labels, **named):
    return read_data(archive(inputs=images, labels=labels, **named), "data.npz")


def expected(scores, labels):
    """Top-1 and top-5 by sorting."""
    order = np.argsort(-scores, axis=1, kind="stable")
    first = float((order[:, 0] == labels).mean())
    return {"top1": first, "top5": float((order[:, :5] == labels[:, None]).any(1).mean())}


def silent(fraction, message):
    """No progress."""


@pytest.mark.parametrize("form", FORMS)
def test_versions_are_measured_as_pytorch_would(form):
    images, labels = examples()
    model = load_model(cnn(form), "net.onnx")
    pruned = prune_model(model, "magnitude", "global", 0.8).model
    weights = {layer.name: layer.weight() for layer in pruned.prunable_layers()}
    steps = []
    found = measure_versions(
        cnn(form),
        data_of(images, labels),
        {"as loaded": {}, "pruned": weights},
        lambda fraction, message: steps.append((fraction, message)),
        threads=1,
    )
    assert found["as loaded"] == expected(logits(arrays(), images), labels) | {"examples": 150}
    assert found["pruned"] == expected(logits(arrays() | weights, images), labels) | {"examples": 150}
    assert found["as loaded"]["top1"] > 0.4
    assert found["pruned"]["top1"] != found["as loaded"]["top1"]
    fractions = [fraction for fraction, _ in steps]
    assert fractions == sorted(fractions)
    assert steps[-1] == (1.0, "pruned: 150 of 150 examples")


@pytest.mark.parametrize("batch", [1, 7, "batch"])
def test_a_fixed_batch_changes_nothing(batch):
    images, labels = examples(40)
    task = own_task(cnn(batch=batch), data_of(images, labels), threads=1)
    found = task.evaluate(task.network({}))
    assert found == expected(logits(arrays(), images), labels) | {"examples": 40}
    half = expected(logits(arrays(), images[:20]), labels[:20]) | {"examples": 20}
    assert task.evaluate(task.network({}), limit=20) == half
    assert [metric.name for metric in task.metrics] == ["top1", "top5"]
    assert task.fits(load_model(cnn(), "net.onnx"))
    with pytest.raises(InputError, match="training data"):
        task.calibration(10, 0)


def product(classes=3, *, inside=None, last="Identity", out_type=TensorProto.FLOAT, inputs=("a", "b")):
    """a·W + b with W of ones on the diagonal; `inside` fixes the batch by a Reshape that the shapes hide."""
    held = [tensor(np.eye(4, classes, dtype=np.float32), "fc.weight", "raw")]
    nodes = [helper.make_node("MatMul", [inputs[0], "fc.weight"], ["p"])]
    if inside:
        held.append(tensor(np.array([inside, classes]), "shape", "raw"))
        nodes.append(helper.make_node("Reshape", ["p", "shape"], ["q"]))
    nodes.append(helper.make_node("Add", ["q" if inside else "p", inputs[1]], ["s"]))
    if out_type == TensorProto.FLOAT:
        nodes.append(helper.make_node(last, ["s"] * (2 if last == "Sub" else 1), ["y"]))
    else:
        nodes.append(helper.make_node("ArgMax", ["s"], ["y"], axis=1, keepdims=0))
    shapes = {inputs[0]: ["n", 4], inputs[1]: ["n", classes]}
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("y", out_type, ["n", "m"] if out_type == 1 else ["n"])],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model.SerializeToString()


def two(count=9, classes=3, **named):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((count, 4)).astype(np.float32), np.zeros((count, classes), np.float32)
    labels = np.argmax(a[:, :classes], axis=1)
    return read_data(archive(**{"a": a, "b": b, "labels": labels} | named), "data.npz")


@pytest.mark.parametrize("inside", [None, 1])
def test_several_inputs_few_classes_and_a_batch_fixed_inside(inside):
    found = measure_versions(product(inside=inside), two(), {"as loaded": {}}, silent, threads=1)
    assert found == {"as loaded": {"top1": 1.0, "examples": 9}}


def test_ties_take_the_first_class_and_nan_is_never_right():
    b = np.zeros((9, 3), np.float32)
    zero = {"fc.weight": np.zeros((4, 3), np.float32)}
    data = two(b=b, labels=np.array([0, 0, 0, 0, 0, 1, 2, 2, 1]))
    versions = {"nothing left": zero}
    assert measure_versions(product(), data, versions, silent)["nothing left"]["top1"] == 5 / 9
    huge = two(a=np.full((9, 4), 3e38, np.float32), b=np.full((9, 3), -3e38, np.float32))
    big = {"fc.weight": np.full((4, 3), 3e38, np.float32)}
    found = measure_versions(product(last="Sub"), huge, {"infinity minus infinity": big}, silent)
    assert found["infinity minus infinity"]["top1"] == 0


IMAGES, LABELS = np.zeros((4, 1, SIDE, SIDE), np.float32), np.arange(4)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"inputs": IMAGES}, "no array 'labels'"),
        ({"labels": LABELS}, "no array 'inputs'"),
        ({"inputs": IMAGES, "labels": LABELS.astype(np.float32)}, "type float32; class ids"),
        ({"inputs": IMAGES, "labels": LABELS > 1}, "type bool; class ids"),
        ({"inputs": IMAGES, "labels": np.array(list("abcd"))}, "class ids are needed"),
        ({"inputs": IMAGES, "labels": np.eye(4, dtype=int)}, "argmax"),
        ({"inputs": IMAGES, "labels": LABELS - 1}, "the label -1"),
        ({"inputs": IMAGES, "labels": np.full(4, 2**64 - 1, np.uint64)}, "too large"),
        ({"inputs": IMAGES[:0], "labels": LABELS[:0]}, "no labels"),
        ({"inputs": IMAGES[:3], "labels": LABELS}, "3 examples in 'inputs' and 4 labels"),
        ({"inputs": np.float32(3), "labels": LABELS}, "a single number"),
        ({"inputs": np.array(list("abcd")), "labels": LABELS}, "numbers or truth values"),
        ({"inputs": IMAGES * np.nan, "labels": LABELS}, "NaN or infinity"),
        ({"inputs": np.array([{}] * 4), "labels": LABELS}, "Python objects"),
    ],
)
def test_data_that_cannot_be_used_is_one_sentence(named, said):
    with pytest.raises(InputError, match=said) as caught:
        read_data(archive(**named), "data.npz")
    assert str(caught.value).count("\n") == 0


def test_bombs_and_damaged_archives_are_refused(monkeypatch):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file, file.open("inputs.npy", "w") as member:
        member.write(bytes(3 << 20))
    assert len(bomb.getvalue()) < 1 << 14
    monkeypatch.setattr(own_data, "MAX_UNPACKED", 2 << 20)
    with pytest.raises(FileFormatError, match=r"unpacks to 3 MiB; at most 2 MiB"):
        read_data(bomb.getvalue(), "bomb.npz")
    for broken in (b"", b"no zip", archive(inputs=IMAGES, labels=LABELS)[:-30]):
        with pytest.raises(FileFormatError, match=r"data\.npz"):
            read_data(broken, "data.npz")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"inputs": IMAGES[:, :, 1:]}, r"the model takes \(examples, 1, 8, 8\)"),
        ({"inputs": IMAGES[:, 0]}, r"the model takes \(examples, 1, 8, 8\)"),
        ({"inputs": IMAGES.astype(np.uint8)}, "as uint8; the model takes float32: convert it"),
        ({"inputs": IMAGES.astype(np.float64) + 1e300}, "that float32 cannot hold"),
        ({"pictures": IMAGES}, "holds no array 'x'"),
        ({"inputs": IMAGES, "masks": IMAGES}, "holds 'masks' too"),
        ({"inputs": IMAGES, "labels": LABELS + 9}, "0 to 11 are needed"),
    ],
)
def test_data_that_does_not_fit_the_model_is_one_sentence(named, said):
    data = read_data(archive(**{"labels": LABELS} | named), "data.npz")
    with pytest.raises(InputError, match=said) as caught:
        own_task(cnn(), data)
    assert str(caught.value).count("\n") == 0


def test_types_that_become_the_models_without_loss_are_converted():
    data = read_data(archive(x=IMAGES.astype(np.float64), labels=LABELS.astype(np.uint8)), "data.npz")
    inputs, _ = onnx_runner.ports(cnn())
    assert check_data(data, inputs, "net")["x"].dtype == np.float32
    ids = onnx_runner.Port("ids", "int64", (None, 3))
    whole = read_data(archive(inputs=np.ones((4, 3), np.int16), labels=LABELS), "data.npz")
    assert check_data(whole, (ids,), "net")["ids"].dtype == np.int64


def test_models_that_cannot_be_judged_are_refused(monkeypatch):
    with pytest.raises(InputError, match="no output with a score"):
        own_task(product(out_type=TensorProto.INT64), two())
    with pytest.raises(InputError, match="two or more classes"):
        own_task(product(1), two(classes=1))
    with pytest.raises(FileFormatError, match="in another file"):
        own_task(external_onnx_bytes("/etc/passwd"), data_of(IMAGES, LABELS))
    strange = onnx.load_model_from_string(cnn())
    strange.graph.node[1].op_type = "NoSuchOperator"
    with pytest.raises(FileFormatError, match="cannot be run by onnxruntime"):
        own_task(strange.SerializeToString(), data_of(IMAGES, LABELS))
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    with pytest.raises(InputError, match="MiB are free"):
        own_task(cnn(), data_of(IMAGES, LABELS))


def test_values_outside_are_found_where_no_weight_is_looked_for(tmp_path, monkeypatch):
    """onnxruntime opens such files itself, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(64))
    model = onnx.load_model_from_string(cnn())
    value = model.graph.node.add(op_type="ConstantOfShape", input=["fc.bias"], output=["unused"])
    hidden = tensor(np.zeros(1, np.float32), "v", "raw")
    hidden.ClearField("raw_data")
    hidden.data_location = TensorProto.EXTERNAL
    entry = hidden.external_data.add()
    entry.key, entry.value = "location", "secret"
    value.attribute.append(helper.make_attribute("value", hidden))
    with pytest.raises(FileFormatError, match="in another file"):
        onnx_runner.Runner(model.SerializeToString())


def test_the_memory_of_values_is_estimated_before_they_are_made():
    """A graph of a few bytes can ask for terabytes."""
    values = 4 * (SIDE * SIDE + 3 * 4 * SIDE * SIDE + CLASSES)
    assert onnx_runner.working_bytes(cnn(), {"x": (1, 1, SIDE, SIDE)}) == values
    assert onnx_runner.working_bytes(cnn(), {"x": (5, 1, SIDE, SIDE)}) == 5 * values
    model = onnx.load_model_from_string(product())
    model.graph.initializer.append(tensor(np.array([10**12, 4, 3]), "huge", "raw"))
    model.graph.node.add(op_type="Expand", input=["fc.weight", "huge"], output=["big"])
    with pytest.raises(InputError, match="MiB are free"):
        own_task(model.SerializeToString(), two())


def test_what_a_job_is_given_can_be_pickled():
    data = data_of(*examples(4))
    again = pickle.loads(pickle.dumps(data))
    assert again.digest == data.digest
    assert np.array_equal(again.labels, data.labels)
    assert again.inputs["inputs"].nbytes <= own_data.MAX_UNPACKED
    assert issubclass(FileFormatError, CSBVizError)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_guide_works_as_written(tmp_path, monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    from csbviz.ui.components.own_data import SCRIPT

    script, snippet = re.findall(r"```py\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert script == SCRIPT
    assert len(script.splitlines()) <= 7
    monkeypatch.chdir(tmp_path)
    layers = (torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, CLASSES))
    model = torch.nn.Sequential(*layers).train()
    images = torch.randn(50, 1, SIDE, SIDE)
    with torch.no_grad():
        answers = model(images).argmax(1)
    exec(script, {"model": model, "test_set": torch.utils.data.TensorDataset(images, answers)})
    exec(snippet, {})
    loaded, pruned = ast.literal_eval("[" + capsys.readouterr().out.strip().replace("} {", "}, {") + "]")
    assert (loaded["top1"], loaded["examples"]) == (1.0, 50)
    assert pruned["top1"] < 1
