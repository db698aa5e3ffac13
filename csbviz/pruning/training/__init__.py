"""Training sparse networks: fine-tuning, gradual and iterative pruning, variational dropout, L0 gates."""

from csbviz.pruning.training.checkpoint import checkpoint_folder, discard, saved_step
from csbviz.pruning.training.job import train
from csbviz.pruning.training.settings import (
    COMMON,
    TRAINING,
    TrainingMethod,
    TrainSettings,
    settings_of,
)
from csbviz.pruning.training.trained import Trained

__all__ = [
    "COMMON",
    "TRAINING",
    "TrainSettings",
    "Trained",
    "TrainingMethod",
    "checkpoint_folder",
    "discard",
    "saved_step",
    "settings_of",
    "train",
]
