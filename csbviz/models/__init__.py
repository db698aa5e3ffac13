"""Model files as named weights, and the sample models.

A file becomes a `Model`: an immutable list of `Layer`s that are read when they are looked at. A weight is
seen as the matrix of its product (`Layer.matrix`): a linear weight as it is, a convolution as (out,
in·kh·kw).
"""

from csbviz.models.loader import SUFFIXES, load_model
from csbviz.models.model import Layer, Model
from csbviz.models.samples import SAMPLES, Sample, load_sample, sample_models

__all__ = [
    "SAMPLES",
    "SUFFIXES",
    "Layer",
    "Model",
    "Sample",
    "load_model",
    "load_sample",
    "sample_models",
]
