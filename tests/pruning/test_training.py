"""Training until sparse: what is pruned stays exactly zero, and an interruption changes nothing."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as save_safetensors

from csbviz.errors import FileFormatError, InputError, OptionError, UnavailableError
from csbviz.models import load_model
from csbviz.pruning.schedules import Gradual, Iterative
from csbviz.pruning.training import (
    COMMON,
    TRAINING,
    TrainSettings,
    checkpoint_folder,
    discard,
    saved_step,
    settings_of,
    train,
)
from csbviz.pruning.training import checkpoint as checkpoints
from csbviz.pruning.training.optimizer import rate_factor
from tests.pruning.toy_task import NAMES, SHAPES, evaluate, first_weights, network, toy_task
from tests.pruning.toy_task import loss as toy_loss

QUICK = {"epochs": 4, "batch": 16, "threads": 1, "learning_rate": 0.01, "checkpoint_seconds": 1e6}
STEPS = 48  # of QUICK
PENALTIES = {"strength": 3.0, "extra_rate": 0.3}  # strong enough to prune within these steps
METHODS = sorted(TRAINING)


class Interrupting:
    """A service's ``progress`` that says at some reports that another job waits."""

    def __init__(self, *at: int) -> None:
        self.at, self.reports, self.partials = at, 0, []

    def __call__(self, fraction, message="", partial=None):
        assert 0 <= fraction <= 1
        self.reports += 1
        if partial is not None:
            self.partials.append(pickle.loads(pickle.dumps(partial)))

    def wanted(self):
        return self.reports in self.at

    def paused(self, kwargs=None):
        self.reports += 1  # the other job is done
        return "paused"


def timeless(curve):
    return [{name: value for name, value in point.items() if name != "seconds"} for point in curve]


def watched(**settings):
    """Train with a loss that keeps a copy of the weights at every step."""
    seen = []

    def loss(network, inputs, targets):
        seen.append({name: network.parameters[name].detach().numpy().copy() for name in NAMES})
        return toy_loss(network, inputs, targets)

    method = settings.pop("method")
    trained = train(toy_task(loss), settings.pop("weights", first_weights()), method, QUICK | settings)
    return trained, seen


# ---- masks ------------------------------------------------------------------------------------------------


def zeros_of(weights):
    return np.concatenate([weights[name].reshape(-1) == 0 for name in NAMES])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("method", ["finetune", "gradual", "iterative"])
def test_what_is_pruned_stays_zero_and_follows_the_schedule(method, optimizer):
    trained, seen = watched(method=method, optimizer=optimizer, sparsity=0.8, momentum=0.9)
    size = sum(np.prod(SHAPES[name]) for name in NAMES)
    schedule = {
        "gradual": Gradual(0.0, 0.8, 0, 19, 1),
        "iterative": Iterative(0.0, 0.8, 4, STEPS // 4),
        "finetune": None,
    }[method]
    assert len(seen) == trained.steps == STEPS
    for step, weights in enumerate(seen):
        asked = 0.8 if schedule is None else schedule.at(step)
        assert abs(zeros_of(weights).sum() - asked * size) <= 1
        if step:
            assert not (zeros_of(seen[step - 1]) & ~zeros_of(weights)).any()
    last = zeros_of(trained.weights)
    np.testing.assert_array_equal(last, zeros_of(seen[-1]))
    np.testing.assert_array_equal(last, ~np.concatenate([trained.masks[name].reshape(-1) for name in NAMES]))
    assert trained.sparsity == pytest.approx(0.8, abs=1 / size)
    assert (seen[-1]["fc.weight"] != seen[1]["fc.weight"]).any()


@pytest.mark.parametrize("method", METHODS)
def test_zeros_of_the_first_weights_stay(method):
    weights = first_weights()
    weights["fc.weight"][:, ::3] = 0
    trained, seen = watched(method=method, sparsity=0.5, weights=weights)
    assert not any(step["fc.weight"][:, ::3].any() for step in seen)
    assert not trained.weights["fc.weight"][:, ::3].any()
    assert not trained.masks["fc.weight"][:, ::3].any()


def test_without_a_sparsity_no_more_is_pruned():
    weights = first_weights()
    weights["fc.weight"][:, ::3] = 0
    trained, _ = watched(method="finetune", sparsity=None, weights=weights)
    np.testing.assert_array_equal(trained.masks["fc.weight"], weights["fc.weight"] != 0)
    np.testing.assert_array_equal(trained.weights["fc.weight"] == 0, weights["fc.weight"] == 0)
    assert trained.masks["conv.weight"].all()


def test_layers_that_are_not_named_are_left_alone():
    trained, seen = watched(method="gradual", sparsity=0.5, layers=["fc.weight"])
    assert set(trained.masks) == {"fc.weight"}
    assert all(weights["conv.weight"].all() for weights in seen)
    assert trained.per_layer == {"fc.weight": 0.5}


def test_units_go_as_a_whole():
    trained, _ = watched(
        method="gradual", sparsity=0.5, layers=["fc.weight"], granularity={"block": (3, 4)}, scope="layer"
    )
    blocks = trained.masks["fc.weight"].reshape(3, 36, 4).any((0, 2))
    np.testing.assert_array_equal(trained.masks["fc.weight"].reshape(3, 36, 4).all((0, 2)), blocks)
    assert blocks.sum() == 18


# ---- results ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_result_is_what_was_measured(method):
    """The accuracy belongs to the weights that are handed out, not to those that were trained with noise."""
    weights = first_weights()
    trained = train(toy_task(), weights, method, QUICK | {"sparsity": 0.5} | PENALTIES)
    assert evaluate(network(trained.weights)) == trained.after
    assert evaluate(network(weights)) == trained.before
    assert set(trained.weights) == set(SHAPES)
    for name, mask in trained.masks.items():
        assert not trained.weights[name][~mask].any()
        assert trained.weights[name].dtype == np.float32
    zeros = sum(int((trained.weights[name] == 0).sum()) for name in NAMES)
    assert trained.sparsity == zeros / sum(trained.weights[name].size for name in NAMES)
    assert trained.sparsity > 0.2
    assert trained.after["top1"] > trained.before["top1"] + 0.2
    assert trained.curve[-1]["sparsity"] == pytest.approx(trained.sparsity, abs=1e-9)
    assert [point["step"] for point in trained.curve] == [*range(0, STEPS, 2), STEPS]


def test_the_record_is_plain_and_the_model_remembers():
    tensors = {name: torch.from_numpy(array) for name, array in first_weights().items()}
    original = load_model(save_safetensors(tensors), "toy.safetensors")
    trained = train(toy_task(), first_weights(), "gradual", QUICK | {"sparsity": 0.75})
    record = json.loads(json.dumps(trained.record()))
    assert record["settings"] == settings_of("gradual", QUICK | {"sparsity": 0.75}).as_dict()
    assert record["versions"]["torch"] == torch.__version__
    model = trained.model(original)
    assert model.history[-1]["step"] == "train"
    assert model.history[-1]["settings"] == record["settings"]
    assert model.digest != original.digest
    again = load_model(model.to_bytes(), "toy.safetensors")
    assert again.history == model.history
    np.testing.assert_array_equal(again.layer("fc.weight").weight(), trained.weights["fc.weight"])


def test_the_same_run_gives_the_same_bits_and_another_seed_others():
    one, two, other = (
        train(toy_task(), first_weights(), "variational", QUICK | {"seed": seed}).digest()
        for seed in (0, 0, 1)
    )
    assert one == two != other


def test_nothing_of_the_caller_is_changed():
    weights, threads = first_weights(), torch.get_num_threads()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    train(toy_task(), weights, "l0", QUICK)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    for name, array in first_weights().items():
        np.testing.assert_array_equal(weights[name], array)


def test_live_results():
    progress = Interrupting()
    trained = train(toy_task(), first_weights(), "gradual", QUICK | {"sparsity": 0.8}, progress=progress)
    last = progress.partials[-1]
    assert [partial["step"] for partial in progress.partials] == list(range(1, STEPS + 1))
    assert last["steps"] == STEPS
    assert (last["epoch"], last["epochs"]) == (4, 4)
    assert last["before"] == trained.before
    assert last["curve"] == trained.curve[:-1]
    assert last["target"] == 0.8
    assert last["seconds_left"] == 0
    assert last["saved_step"] is None
    for point in trained.curve[1:]:
        assert 0 <= point["train_accuracy"] <= 1
        assert point["loss"] > 0
    plain = []
    train(
        toy_task(), first_weights(), "finetune", QUICK | {"epochs": 0.1}, progress=lambda *x: plain.append(x)
    )
    assert plain[-1] == (1.0, "Measuring the accuracy after: 192 images")


# ---- interruptions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("method", METHODS)
def test_pauses_change_nothing(method, optimizer, tmp_path):
    settings = QUICK | {"optimizer": optimizer, "sparsity": 0.8, "learning_rate": 0.005}
    whole = train(toy_task(), first_weights(), method, settings)
    progress = Interrupting(1, 7, 8, 20, 33, 58)
    pauses = 0
    folder = str(tmp_path / "run")
    while (found := train(toy_task(), first_weights(), method, settings, folder, progress)) == "paused":
        pauses += 1
        assert saved_step(folder) is not None or pauses == 1
    assert pauses >= 5
    assert found.digest() == whole.digest()
    assert timeless(found.curve) == timeless(whole.curve)
    assert (found.before, found.after) == (whole.before, whole.after)
    for name in NAMES:
        np.testing.assert_array_equal(found.masks[name], whole.masks[name])
    assert not os.path.exists(folder)


@pytest.mark.parametrize("step", [0, 13, 24])
def test_a_run_that_ended_anywhere_goes_on_from_its_last_checkpoint(step, tmp_path):
    """As after a power cut: the process is gone, whatever it had in hand."""

    class PowerCut(BaseException):
        pass

    def loss(network, inputs, targets):
        nonlocal left
        left -= 1
        if left < 0:
            raise PowerCut
        return toy_loss(network, inputs, targets)

    left = 10**6
    settings = QUICK | {"epochs": 2, "sparsity": 0.8, "checkpoint_seconds": 0.0}
    whole = train(toy_task(loss), first_weights(), "gradual", settings)
    left = step
    folder = str(tmp_path)
    if step < whole.steps:
        with pytest.raises(PowerCut):
            train(toy_task(loss), first_weights(), "gradual", settings, folder)
        assert saved_step(folder) == step
    left = whole.steps - step if step < whole.steps else whole.steps  # no step is done twice
    assert train(toy_task(loss), first_weights(), "gradual", settings, folder).digest() == whole.digest()
    assert left == 0


def half_done(folder, **settings):
    progress = Interrupting(20)
    assert train(toy_task(), first_weights(), "gradual", QUICK | settings, folder, progress) == "paused"


def test_a_checkpoint_that_is_not_whole_leaves_the_one_before(tmp_path, monkeypatch):
    folder = str(tmp_path)
    half_done(folder)
    step = saved_step(folder)
    tensors, facts = checkpoints.load(folder)
    real = os.replace

    def full_disk(source, target):
        if str(target).endswith(".json"):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(InputError, match="cannot be written: No space left"):
        checkpoints.save(folder, tensors, facts | {"step": step + 1})
    monkeypatch.undo()
    again, _ = checkpoints.load(folder)
    assert saved_step(folder) == step
    assert all((again[name] == tensors[name]).all() for name in tensors)


def test_checkpoints_that_cannot_be_used(tmp_path):
    folder = str(tmp_path)
    half_done(folder)
    with pytest.raises(InputError, match="checkpoint of another training"):
        half_done(folder, sparsity=0.5)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(FileFormatError, match="is damaged; remove the folder"):
        half_done(folder)
    (tmp_path / "checkpoint.json").write_text("{")
    with pytest.raises(FileFormatError, match="is damaged; remove the folder"):
        half_done(folder)
    assert saved_step(folder) is None


def test_discard_removes_a_checkpoint_and_nothing_else(tmp_path):
    half_done(str(tmp_path / "run"))
    kept = tmp_path / "run" / "notes.txt"
    kept.write_text("mine")
    discard(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == [kept]
    discard(tmp_path / "run")
    discard(tmp_path / "absent")
    assert kept.read_text() == "mine"


def test_the_folder_names_all_that_decides_the_result(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    weights = first_weights()
    folder = checkpoint_folder("toy", weights, "gradual", {"sparsity": 0.5})
    assert folder.startswith(str(tmp_path))
    assert not os.path.exists(folder)
    assert folder == checkpoint_folder("toy", weights, "gradual", {"sparsity": 0.5, "checkpoint_seconds": 1})
    others = [
        checkpoint_folder("toy", weights, "gradual", {"sparsity": 0.6}),
        checkpoint_folder("toy", weights, "finetune", {"sparsity": 0.5}),
        checkpoint_folder("toy", first_weights(1), "gradual", {"sparsity": 0.5}),
        checkpoint_folder("fashion", weights, "gradual", {"sparsity": 0.5}),
    ]
    assert len({folder, *others}) == 5


# ---- settings ---------------------------------------------------------------------------------------------


def test_every_setting_belongs_to_a_method():
    known = set(TrainSettings().as_dict())
    assert known == {*COMMON, *(name for method in TRAINING.values() for name in method.settings)}
    for method in TRAINING.values():
        assert set(method.defaults) <= {*COMMON, *method.settings}
        assert method.summary.endswith(".")
        settings = settings_of(method.name)
        assert settings_of(method.name, json.loads(json.dumps(settings.as_dict()))) == settings


@pytest.mark.parametrize(
    ("method", "settings", "sentence"),
    [
        ("magic", {}, "training method 'magic' is not known; there is finetune"),
        ("gradual", {"speed": 1}, "training setting 'speed' is not known"),
        ("gradual", {"epochs": float("nan")}, "epochs is nan; it must be a number"),
        ("gradual", {"batch": 1.5}, "batch is 1.5; it must be a whole number"),
        ("gradual", {"sparsity": 1.0}, "0 ≤ sparsity < 1"),
        ("gradual", {"sparsity": None}, "needs a sparsity"),
        ("gradual", {"optimizer": "adam"}, "one of adamw, sgd"),
        ("gradual", {"criterion": "luck"}, "method 'luck' is not known"),
        ("gradual", {"granularity": "atom"}, "granularity 'atom' is not known"),
        ("gradual", {"layers": []}, "name at least one layer"),
        ("gradual", {"initial": 0.95}, "initial sparsity 0.95 is above the final one, 0.9"),
        ("gradual", {"begin": 40, "count": 9, "every": 1}, "last pruning step would be step 49"),
        ("iterative", {"rounds": 100}, "last pruning step would be step 99"),
    ],
)
def test_settings_that_cannot_be(method, settings, sentence):
    with pytest.raises(OptionError, match=sentence):
        train(toy_task(), first_weights(), method, QUICK | settings)


def test_what_cannot_be_trained():
    import dataclasses

    with pytest.raises(InputError, match=r"no weight 'fc3' to prune; there are conv\.weight, fc\.weight"):
        train(toy_task(), first_weights(), "gradual", QUICK | {"layers": ["fc3"]})
    with pytest.raises(InputError, match=r"diverged at step \d+: the loss is"):
        train(toy_task(lambda *x: toy_loss(*x) * float("inf")), first_weights(), "gradual", QUICK)
    with pytest.raises(InputError, match="batch of 512 is more than the training data"):
        train(toy_task(), first_weights(), "gradual", {"batch": 512})
    with pytest.raises(UnavailableError, match="there is no training data for it"):
        train(dataclasses.replace(toy_task(), batches=None), first_weights(), "gradual", QUICK)
    with pytest.raises(UnavailableError, match=r"Install it\."):
        train(dataclasses.replace(toy_task(), available=lambda: "Install it."), first_weights())
    with pytest.raises(OptionError, match="there is no task 'nothing'"):
        train("nothing", first_weights())


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from(["cosine", "constant"]))
def test_the_learning_rate_rises_and_falls_once(length, share, schedule):
    factors = [rate_factor(schedule, 7 + step, 7, length) for step in range(min(length, 200))]
    assert all(0 < factor <= 1 for factor in factors)
    step = int(share * (length - 1))
    if step >= max(1, round(0.05 * length)):
        assert rate_factor(schedule, 7 + step, 7, length) >= rate_factor(schedule, 8 + step, 7, length)
