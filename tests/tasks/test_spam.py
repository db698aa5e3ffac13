"""MiniLM-L6 on spam: the published embeddings, an honest and clean extract, a head that stays as it is."""

import math
import re

import numpy as np
import pytest

from csbviz.errors import UnavailableError
from csbviz.models import load_sample, sample_models
from csbviz.ops.threads import use_threads
from csbviz.pruning import prune_model
from csbviz.tasks import bert, spam, task_of
from csbviz.tasks.accuracy import measurable_task

TASK = spam.TASK


@pytest.fixture(scope="module")
def model():
    sample = next(sample for sample in sample_models() if sample.id == "minilm_l6")
    if not sample.available:
        pytest.skip(f"MiniLM is {sample.reason}")
    return load_sample("minilm_l6")


@pytest.fixture(scope="module")
def weights(model):
    return TASK.weights_of(model)


@pytest.fixture(scope="module")
def network(weights):
    return TASK.network(weights)


@pytest.fixture(scope="module")
def random_network():
    """An encoder of random weights: what needs no trained model."""
    rng = np.random.default_rng(0)
    weights = {
        name: (0.05 * rng.standard_normal(shape, np.float32) + ("LayerNorm.weight" in name)).astype(
            np.float32
        )
        for name, shape in bert.SHAPES.items()
    }
    return TASK.network(weights)


def in_numpy(w, tokens):
    """Embedding of one text, as BERT's paper has it (Devlin et al. 2018), one head after the other."""

    def norm(x, name):
        centred = x - x.mean(1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-12)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T.astype(np.float64) + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][tokens].astype(np.float64)
    x = x + w["embeddings.position_embeddings.weight"][: len(tokens)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for index in range(6):
        layer = f"encoder.layer.{index}."
        query, key, value = (linear(x, f"{layer}attention.self.{name}") for name in ("query", "key", "value"))
        seen = np.empty_like(x)
        for part in (slice(begin, begin + 32) for begin in range(0, 384, 32)):
            scores = np.exp(query[:, part] @ key[:, part].T / math.sqrt(32))
            seen[:, part] = scores / scores.sum(1, keepdims=True) @ value[:, part]
        mixed = linear(seen, f"{layer}attention.output.dense")
        x = norm(x + mixed, f"{layer}attention.output.LayerNorm")
        wide = linear(x, f"{layer}intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = norm(x + linear(wide, f"{layer}output.dense"), f"{layer}output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def test_the_task_knows_its_sample(model):
    assert task_of(model) is TASK
    assert measurable_task(model) is TASK
    pruned = {layer.name for layer in model.prunable_layers() if layer.kind == "linear"}
    assert pruned - set(TASK.network(TASK.weights_of(model)).readers) == {"pooler.dense.weight"}


def test_an_embedding_is_the_published_one(network):
    """Of "This is an example sentence", as the card of sentence-transformers/all-MiniLM-L6-v2 prints it."""
    import torch

    with torch.inference_mode():
        found = network.module[0](torch.tensor([[101, 2023, 2003, 2019, 2742, 6251, 102]]))[0, :3]
    assert found.tolist() == pytest.approx([0.0677, 0.0635, 0.0487], abs=5e-5)


def test_embeddings_of_mails_of_several_lengths_are_those_of_plain_arithmetic(random_network):
    import torch

    tokens = np.zeros((3, 9), np.int64)
    for row, length in enumerate((9, 2, 5)):
        tokens[row, :length] = np.random.default_rng(row).integers(1, 30_000, length)
    with torch.inference_mode():
        found = random_network.module[0](torch.from_numpy(tokens)).numpy()
    weights = random_network.weights()
    for row, text in zip(found, tokens, strict=True):
        assert row == pytest.approx(in_numpy(weights, text[text != 0]), abs=2e-6)


def test_accuracy_of_some_mails(network):
    seen = []
    with use_threads(1):
        found = TASK.evaluate(network, lambda *step: seen.append(step), limit=100)
    assert found["examples"] == 100
    assert found["accuracy"] >= 0.85
    assert seen[-1] == (1.0, "100 of 100 mails")


def test_a_blank_encoder_guesses(random_network):
    zeros = {name: np.zeros(shape, np.float32) for name, shape in bert.SHAPES.items()}
    labels = spam.load_mails("test")[1]
    assert TASK.evaluate(TASK.network(zeros), limit=20)["accuracy"] in (
        np.mean(labels[:20] == 0),
        np.mean(labels[:20] == 1),
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_accuracy_dense_and_pruned(model, weights):
    found = {0.0: TASK.evaluate(TASK.network(weights))}
    for sparsity in (0.5, 0.8):
        pruned = prune_model(model, sparsity=sparsity).model
        found[sparsity] = TASK.evaluate(TASK.network(TASK.weights_of(pruned)))
    assert {result["examples"] for result in found.values()} == {800}
    assert found[0.0]["accuracy"] == pytest.approx(0.93, abs=0.005)
    assert found[0.0]["accuracy"] - 0.04 < found[0.5]["accuracy"]
    assert found[0.8]["accuracy"] < found[0.5]["accuracy"]


def test_calibration_listens_to_real_words_alone(random_network):
    assert len(random_network.readers) == 36
    assert set(random_network.products.values()) == {60}
    seen = dict.fromkeys(random_network.readers, 0)
    handles = []
    for name, reader in random_network.readers.items():
        assert reader.weight is random_network.parameters[name]

        def count(module, inputs, name=name):
            assert inputs[0].shape[1:] == (random_network.parameters[name].shape[1],)
            seen[name] += len(inputs[0])

        handles.append(reader.register_forward_pre_hook(count))
    inputs, _ = TASK.calibration(10, 0)[0]
    random_network.module(inputs)
    for handle in handles:
        handle.remove()
    assert set(seen.values()) == {int((inputs != 0).sum())}


def test_training_leaves_the_head_and_what_has_no_part(random_network):
    import torch

    inputs, targets = next(TASK.batches(0, 8))
    with use_threads(1):
        TASK.loss(random_network, inputs, targets).backward()
    still = {name for name, parameter in random_network.parameters.items() if parameter.grad is None}
    assert still == {"pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids"}
    assert torch.equal(random_network.module[1].weight, torch.tensor(spam.load_head()[0]))
    assert random_network.module[1].weight.grad is None
    for parameter in random_network.parameters.values():
        parameter.grad = None


def test_mails_are_balanced_and_no_two_are_alike():
    parts = {}
    for name, count in (("test", 800), ("train", 1080)):
        tokens, labels = spam.load_mails(name)
        assert tokens.shape == (count, 64)
        assert tokens.dtype == np.uint16
        assert labels.mean() == 0.5
        assert set(tokens[:, 0]) == {101}
        assert tokens.max() < 30_522
        parts[name] = [passages(row) for row in tokens]
    everything = parts["train"] + parts["test"]
    owners = {}
    for index, mine in enumerate(everything):
        shared = {}
        for passage in mine:
            for other in owners.setdefault(passage, []):
                shared[other] = shared.get(other, 0) + 1
            owners[passage].append(index)
        for other, count in shared.items():
            assert 2 * count < min(len(mine), len(everything[other])), (index, other)


def passages(row):
    words = [int(token) for token in row if token not in (0, 101, 102)]
    return {tuple(words[begin : begin + 4]) for begin in range(len(words) - 3)}


def test_addresses_links_and_long_numbers_are_gone(model):
    from csbviz.models.samples import SAMPLES, sample_path

    sample = next(sample for sample in SAMPLES if sample.id == "minilm_l6")
    vocabulary = sample_path(sample).with_name("vocab.txt").read_text(encoding="utf-8").splitlines()
    for part in ("test", "train"):
        for row in spam.load_mails(part)[0]:
            words = [vocabulary[token] for token in row if token]
            text = " ".join(words).replace(" ##", "")
            assert not re.search(r"(http|ftp)s? : / / \w|\bwww \. \w", text), text
            assert not any(len(word) > 2 and word.isdigit() for word in text.split()), text
            assert not re.search(r"\w @ \w+( [.-] \w+)* \. \w", text), text


def test_missing_mails_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(spam, "SAMPLES_DIR", tmp_path)
    spam.load_mails.cache_clear()
    spam.load_head.cache_clear()
    assert "spam_head.npz is missing" in TASK.available()
    assert TASK.data() == TASK.available()
    with pytest.raises(UnavailableError, match="sample_models"):
        next(TASK.batches(0, 8))
