"""g2p: from letters to sounds, the GRU encoder and decoder of g2p_en on words of the CMU dictionary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.errors import UnavailableError
from csbviz.models.samples import SAMPLES_DIR
from csbviz.tasks.task import Metric, Network, Progress, Task, missing_data, picks

if TYPE_CHECKING:
    import torch

__all__ = ["GRAPHEMES", "PHONEMES", "TASK", "load_words", "pronounce"]

GRAPHEMES = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
_SOUNDS = (
    "AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2 ER0 ER1 "
    "ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 "
    "UH1 UH2 UW UW0 UW1 UW2 V W Y Z ZH"
)
PHONEMES = ("<pad>", "<unk>", "<s>", "</s>", *_SOUNDS.split())
"""In the order of the rows of the model's embeddings."""

_NUMBER_OF = {sound: number for number, sound in enumerate(PHONEMES)}
Word = tuple[str, tuple[tuple[str, ...], ...]]

_PAD, _END_OF_WORD, _START, _END = 0, 2, 2, 3
_WIDTH = 256
_LONGEST = 20  # phonemes that the decoder gives at most
_BATCH = 250  # words at a time

_SHAPES: dict[str, tuple[int, ...]] = {
    "enc_emb": (len(GRAPHEMES), _WIDTH),
    "dec_emb": (len(PHONEMES), _WIDTH),
    "fc_w": (len(PHONEMES), _WIDTH),
    "fc_b": (len(PHONEMES),),
} | {
    f"{part}_{tensor}_{side}": (3 * _WIDTH, _WIDTH)[: 2 if tensor == "w" else 1]
    for part in ("enc", "dec")
    for tensor in ("w", "b")
    for side in ("ih", "hh")
}


def network(weights: Mapping[str, np.ndarray]) -> Network:
    """Build the encoder and decoder from arrays, which are copied.

    Called with (letters, sounds), int64 (batch, letters) and (batch, sounds), the module reads the letters
    and, at each place, the right sounds so far: logits (batch, sounds, 74). Called with (letters, None) it
    reads its own: chosen sounds, int64 (batch, ≤ 20).
    """
    import torch
    from torch import nn

    class Cell(nn.Module):
        """A GRU cell of two linear layers, so that calibration can listen to their inputs."""

        def __init__(self):
            super().__init__()
            self.ih = nn.Linear(_WIDTH, 3 * _WIDTH)
            self.hh = nn.Linear(_WIDTH, 3 * _WIDTH)

        def forward(self, x, hidden):
            from_input, from_hidden = self.ih(x).chunk(3, 1), self.hh(hidden).chunk(3, 1)
            reset = torch.sigmoid(from_input[0] + from_hidden[0])
            keep = torch.sigmoid(from_input[1] + from_hidden[1])
            new = torch.tanh(from_input[2] + reset * from_hidden[2])
            return new + keep * (hidden - new)

    class Speller(nn.Module):
        def __init__(self):
            super().__init__()
            self.letters = nn.Embedding(len(GRAPHEMES), _WIDTH)
            self.sounds = nn.Embedding(len(PHONEMES), _WIDTH)
            self.encoder, self.decoder = Cell(), Cell()
            self.out = nn.Linear(_WIDTH, len(PHONEMES))

        def forward(self, inputs):
            letters, sounds = inputs
            hidden = self.encode(letters)
            if sounds is None:
                return self.speak(hidden)
            states = []
            for place in range(sounds.shape[1]):
                before = sounds[:, place - 1] if place else torch.full((len(sounds),), _START)
                hidden = self.step(self.decoder, self.sounds(before), hidden, sounds[:, place] != _PAD)
                states.append(hidden)
            states = torch.stack(states, 1)
            asked = sounds != _PAD
            logits = states.new_zeros(*sounds.shape, len(PHONEMES))
            logits[asked] = self.out(states[asked])
            return logits

        def encode(self, letters):
            hidden = torch.zeros(len(letters), _WIDTH)
            for place in range(letters.shape[1]):
                running = letters[:, place] != _PAD
                hidden = self.step(self.encoder, self.letters(letters[:, place]), hidden, running)
            return hidden

        def speak(self, hidden):
            said = torch.full((len(hidden), _LONGEST), _END)
            last = torch.full((len(hidden),), _START)
            running = torch.ones(len(hidden), dtype=torch.bool)
            for place in range(_LONGEST):
                hidden = self.step(self.decoder, self.sounds(last), hidden, running)
                last = torch.full_like(last, _END)
                last[running] = self.out(hidden[running]).argmax(1)
                running = last != _END
                said[:, place] = last
                if not running.any():
                    break
            return said

        @staticmethod
        def step(cell, x, hidden, running):
            """Go on where `running`; the linear layers are given these words alone."""
            if bool(running.all()):
                return cell(x, hidden)
            moved = hidden.clone()
            moved[running] = cell(x[running], hidden[running])
            return moved

    module = Speller()
    module.letters.weight, module.sounds.weight = (
        _parameter(weights[name]) for name in ("enc_emb", "dec_emb")
    )
    module.out.weight, module.out.bias = _parameter(weights["fc_w"]), _parameter(weights["fc_b"])
    parameters = {"enc_emb": module.letters.weight, "dec_emb": module.sounds.weight}
    parameters |= {"fc_w": module.out.weight, "fc_b": module.out.bias}
    readers: dict[str, torch.nn.Module] = {"fc_w": module.out}
    for part, cell in (("enc", module.encoder), ("dec", module.decoder)):
        for side, linear in (("ih", cell.ih), ("hh", cell.hh)):
            linear.weight = parameters[f"{part}_w_{side}"] = _parameter(weights[f"{part}_w_{side}"])
            linear.bias = parameters[f"{part}_b_{side}"] = _parameter(weights[f"{part}_b_{side}"])
            readers[f"{part}_w_{side}"] = linear
    letters, sounds = _mean_lengths()
    products = {name: letters if name.startswith("enc") else sounds for name in readers}
    return Network(module, {name: parameters[name] for name in _SHAPES}, readers, products)


def _parameter(values: np.ndarray) -> torch.nn.Parameter:
    import torch

    return torch.nn.Parameter(torch.tensor(np.asarray(values), dtype=torch.float32))


def pronounce(network: Network, words: list[str]) -> list[tuple[str, ...]]:
    """Give the sounds of words as the model says them.

    Parameters
    ----------
    network : Network
    words : list of str
        Of the letters a to z, small.

    Returns
    -------
    list of tuple of str
        Phonemes of the CMU dictionary, at most 20 a word.
    """
    import torch

    said: list[tuple[str, ...]] = [()] * len(words)
    order = sorted(range(len(words)), key=lambda index: len(words[index]))
    with torch.inference_mode():
        for begin in range(0, len(order), _BATCH):
            pick = order[begin : begin + _BATCH]
            rows = network.module((_letters([words[index] for index in pick]), None)).tolist()
            for index, row in zip(pick, rows, strict=True):
                ended = row.index(_END) if _END in row else len(row)
                said[index] = tuple(PHONEMES[number] for number in row[:ended])
    return said


def evaluate(
    network: Network, progress: Progress | None = None, limit: int | None = None
) -> dict[str, float]:
    """Measure how many test words are pronounced in one of the ways that the dictionary knows.

    Returns
    -------
    dict
        "words", 0 to 1, and "examples".

    Raises
    ------
    UnavailableError
        The words are not on this machine.
    """
    words = load_words()[0][:limit]
    right = 0
    for begin in range(0, len(words), 2 * _BATCH):
        part = words[begin : begin + 2 * _BATCH]
        said = pronounce(network, [word for word, _ in part])
        right += sum(sounds in ways for sounds, (_, ways) in zip(said, part, strict=True))
        if progress is not None:
            done = begin + len(part)
            progress(done / len(words), f"{done:,} of {len(words):,} words")
    return {"words": right / len(words), "examples": len(words)}


def batches(seed: int, size: int) -> Iterator[tuple[Any, torch.Tensor]]:
    """Give training words without end, each pass in a new seeded order, in one of their pronunciations."""
    words = load_words()[1]
    rng = np.random.default_rng(seed)
    for pick in picks(rng, len(words), size):
        yield _batch([words[index] for index in pick], rng)


def loss(network: Network, inputs: Any, targets: Any) -> torch.Tensor:
    """Cross entropy of each sound after the right sounds before it."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(network.module(inputs).flatten(0, 1), targets.flatten(), ignore_index=_PAD)


def calibration(count: int, seed: int) -> list[tuple[Any, torch.Tensor]]:
    """Give `count` training words in batches of 100, words of like length together."""
    rng = np.random.default_rng(seed)
    words = load_words()[1]
    pick = sorted((words[index] for index in rng.permutation(len(words))[:count]), key=lambda x: len(x[0]))
    return [_batch(pick[begin : begin + 100], rng) for begin in range(0, len(pick), 100)]


def _batch(words: list[Word], rng: np.random.Generator) -> tuple[Any, torch.Tensor]:
    ways = [ways[rng.integers(len(ways))] for _, ways in words]
    sounds = _padded([[*(_NUMBER_OF[sound] for sound in way), _END] for way in ways])
    return (_letters([word for word, _ in words]), sounds), sounds


def _letters(words: list[str]) -> torch.Tensor:
    return _padded([[*(3 + ord(letter) - ord("a") for letter in word), _END_OF_WORD] for word in words])


def _padded(rows: list[list[int]]) -> torch.Tensor:
    import torch

    longest = max(map(len, rows))
    return torch.tensor([row + [_PAD] * (longest - len(row)) for row in rows])


@lru_cache(maxsize=1)
def load_words() -> tuple[tuple[Word, ...], tuple[Word, ...]]:
    """Load the sample of the CMU dictionary.

    Returns
    -------
    test, training : tuple of (str, tuple of tuple of str)
        A word and its pronunciations.

    Raises
    ------
    UnavailableError
        The file is not on this machine.
    """
    path = SAMPLES_DIR / "cmudict_words.txt"
    if not path.is_file():
        raise UnavailableError(
            f"The words are not here: {path.name} is missing from the folder sample_models."
        )
    parts: dict[str, list[Word]] = {}
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(";;; "):
            words = parts.setdefault(line.removeprefix(";;; "), [])
        else:
            word, _, ways = line.partition("  ")
            words.append((word, tuple(tuple(way.split()) for way in ways.split(" | "))))
    return tuple(parts["test"]), tuple(parts["training"])


def _mean_lengths() -> tuple[int, int]:
    """Letters and sounds of a test word, the marks of its end included."""
    words = load_words()[0]
    letters = sum(len(word) + 1 for word, _ in words) / len(words)
    sounds = sum(len(ways[0]) + 1 for _, ways in words) / len(words)
    return round(letters), round(sounds)


def _available() -> str:
    return missing_data(load_words)


def _steps(size: int) -> int:
    return len(load_words()[1]) // size


def data() -> str:
    """Say which words are used, and how far the accuracy can be trusted."""
    missing = _available()
    if missing:
        return missing
    test, training = load_words()
    return (
        f"{len(test):,} words of the CMU dictionary serve for the accuracy, {len(training):,} others for "
        "training. The published weights were trained on most of that dictionary, so that the accuracy of "
        "the dense model says little about unknown words."
    )


TASK = Task(
    name="g2p",
    title="g2p GRU",
    summary="Say how an English word is pronounced: letters in, phonemes out, a word is right as a whole.",
    sample="g2p_gru",
    metrics=(Metric("words", "Word accuracy"),),
    shapes=_SHAPES,
    network=network,
    evaluate=evaluate,
    batches=batches,
    loss=loss,
    calibration=calibration,
    available=_available,
    steps_an_epoch=_steps,
    data=data,
)
