"""The g2p GRU: the same sounds as the published inference, honest word accuracy, data that do not overlap."""

from functools import lru_cache

import numpy as np
import pytest

from csbviz.errors import UnavailableError
from csbviz.models import load_sample, sample_models
from csbviz.ops.threads import use_threads
from csbviz.pruning import prune_model
from csbviz.tasks import g2p, task_of

TASK = g2p.TASK
WORDS = ["hello", "pruning", "a", "zebra", "internationalization", "quay"]


@pytest.fixture(scope="module")
def model():
    sample = next(sample for sample in sample_models() if sample.id == "g2p_gru")
    if not sample.available:
        pytest.skip(f"g2p is {sample.reason}")
    return load_sample("g2p_gru")


@pytest.fixture(scope="module")
def network(model):
    return TASK.network(TASK.weights_of(model))


@lru_cache
def random_weights(seed=0):
    """Weights of the right shapes that say arbitrary sounds: what needs no trained model."""
    rng = np.random.default_rng(seed)
    weights = {name: 0.3 * rng.standard_normal(shape, np.float32) for name, shape in TASK.shapes.items()}
    weights["fc_b"][0] = -100  # no padding as a sound
    return weights


def in_numpy(weights, word):
    """Sounds of a word, one step after the other, as the paper of the GRU has it (Cho et al. 2014)."""

    def step(x, h, part):
        from_x = weights[f"{part}_w_ih"] @ x + weights[f"{part}_b_ih"]
        from_h = weights[f"{part}_w_hh"] @ h + weights[f"{part}_b_hh"]
        r, z = (1 / (1 + np.exp(-(from_x[i : i + 256] + from_h[i : i + 256]))) for i in (0, 256))
        return (1 - z) * np.tanh(from_x[512:] + r * from_h[512:]) + z * h

    h = np.zeros(256)
    for letter in [*word, "</s>"]:
        h = step(weights["enc_emb"][g2p.GRAPHEMES.index(letter)], h, "enc")
    said, sound = [], "<s>"
    while len(said) < 20:
        h = step(weights["dec_emb"][g2p.PHONEMES.index(sound)], h, "dec")
        sound = g2p.PHONEMES[int(np.argmax(weights["fc_w"] @ h + weights["fc_b"]))]
        if sound == "</s>":
            break
        said.append(sound)
    return tuple(said)


def test_the_shapes_are_those_of_the_file(model):
    assert task_of(model) is TASK
    assert {layer.name: layer.kind for layer in model.prunable_layers()} == {
        "enc_emb": "embedding",
        "dec_emb": "embedding",
        "fc_w": "linear",
        **{f"{part}_w_{side}": "recurrent" for part in ("enc", "dec") for side in ("ih", "hh")},
    }


def test_sounds_are_those_of_a_plain_gru(network):
    said = g2p.pronounce(network, WORDS)
    assert said == [in_numpy(network.weights(), word) for word in WORDS]
    assert said[0] == ("HH", "EH1", "L", "OW0")


def test_sounds_of_any_weights_are_those_of_a_plain_gru():
    network = TASK.network(random_weights())
    assert g2p.pronounce(network, WORDS) == [in_numpy(random_weights(), word) for word in WORDS]


def test_word_accuracy_dense_and_pruned(model, network):
    seen = []
    with use_threads(1):
        dense = TASK.evaluate(network, lambda *step: seen.append(step))
        half = TASK.evaluate(TASK.network(TASK.weights_of(prune_model(model, sparsity=0.5).model)))
    assert dense["examples"] == 2000
    assert dense["words"] == pytest.approx(0.6785, abs=0.002)
    assert half["words"] == pytest.approx(0.42, abs=0.02)
    assert seen[-1] == (1.0, "2,000 of 2,000 words")


def test_any_of_several_pronunciations_counts(monkeypatch):
    words = tuple((word, (("B",), tuple(in_numpy(random_weights(), word)))) for word in WORDS)
    monkeypatch.setattr(g2p, "load_words", lambda: (words, words))
    network = TASK.network(random_weights())
    assert TASK.evaluate(network) == {"words": 1.0, "examples": len(WORDS)}
    monkeypatch.setattr(g2p, "load_words", lambda: (tuple((word, ways[:1]) for word, ways in words), words))
    assert TASK.evaluate(network)["words"] == 0.0


def test_teacher_forcing_asks_for_the_sounds_that_greedy_decoding_says():
    import torch

    network = TASK.network(random_weights())
    letters = g2p._letters(WORDS)
    said = network.module((letters, None))
    ended = (said == g2p._END).int().cumsum(1)
    said[(ended > 1) | ((ended == 1) & (said != g2p._END))] = g2p._PAD
    asked = said != g2p._PAD
    assert torch.equal(network.module((letters, said)).argmax(2)[asked], said[asked])


def test_calibration_listens_at_linear_layers_to_real_letters_alone():
    network = TASK.network(random_weights())
    assert set(network.readers) == {name for name, shape in TASK.shapes.items() if "_w" in name}
    seen = dict.fromkeys(network.readers, 0)
    for name, reader in network.readers.items():
        assert reader.weight is network.parameters[name]

        def count(module, inputs, name=name):
            assert inputs[0].shape[1:] == (256,)
            seen[name] += len(inputs[0])

        reader.register_forward_pre_hook(count)
    inputs, targets = g2p._batch(list(g2p.load_words()[1][:30]), np.random.default_rng(0))
    network.module(inputs)
    letters, sounds = (int((table != 0).sum()) for table in (inputs[0], targets))
    assert seen == {name: letters if name.startswith("enc") else sounds for name in seen}


def test_a_training_step_lowers_the_loss():
    import torch

    network = TASK.network(random_weights())
    inputs, targets = next(TASK.batches(0, 64))
    before = TASK.loss(network, inputs, targets)
    before.backward()
    assert all(parameter.grad is not None for parameter in network.parameters.values())
    with torch.no_grad():
        for parameter in network.parameters.values():
            parameter -= 0.01 * parameter.grad
        assert TASK.loss(network, inputs, targets).item() < before.item()


def test_batches_depend_on_the_seed_alone():
    (first, targets), (again, _), (other, _) = (next(TASK.batches(seed, 32)) for seed in (1, 1, 2))
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()
    assert first[0].shape != other[0].shape or not (first[0] == other[0]).all()
    assert targets.shape[0] == 32


def test_test_words_are_no_training_words():
    test, training = g2p.load_words()
    assert (len(test), len(training)) == (2_000, 8_000)
    assert not {word for word, _ in test} & {word for word, _ in training}
    assert {sound for words in (test, training) for _, ways in words for way in ways for sound in way} <= set(
        g2p.PHONEMES
    )
    assert sum(len(ways) > 1 for _, ways in test) > 50
    assert len(TASK.calibration(150, 0)) == 2


def test_missing_words_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(g2p, "SAMPLES_DIR", tmp_path)
    g2p.load_words.cache_clear()
    assert "cmudict_words.txt is missing" in TASK.available()
    assert TASK.data() == TASK.available()
    with pytest.raises(UnavailableError, match="sample_models"):
        next(TASK.batches(0, 8))
