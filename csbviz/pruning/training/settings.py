"""The training methods and their settings, checked before any work begins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from csbviz.errors import OptionError

__all__ = ["COMMON", "TRAINING", "TrainSettings", "TrainingMethod", "settings_of"]


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a training run, beside its data and first weights. JSON-safe by `as_dict`.

    Attributes
    ----------
    epochs : float
        Passes over the training data; any part of one is possible.
    batch : int
        Examples of a step.
    optimizer : {"adamw", "sgd"}
    learning_rate : float
        At its highest.
    weight_decay : float
        Decoupled from the gradient with AdamW.
    momentum : float
        Of SGD.
    rate_schedule : {"cosine", "constant"}
        Cosine: down to zero at the end, after a rise over the first twentieth; in each round anew for
        "iterative".
    seed : int
        Of the order of the data, augmentation, dropout, noise and gates.
    threads : int
        Threads of PyTorch; 0 leaves them as they are. Another number sums in another order.
    layers : tuple of str or None
        Names of the weights to prune; None for all linear, convolutional and recurrent ones.
    eval_examples : int
        Held-out examples of the quick accuracy in the curve.
    eval_every : int
        Steps between two points of the curve; 0 for about 40 points.
    checkpoint_seconds : float
        Seconds between two checkpoints. It does not change the result.
    sparsity : float or None
        Asked share of units that go, 0 ≤ sparsity < 1; None, for "finetune" alone: what is zero stays zero.
    criterion, granularity, options, scope
        As `method`, `granularity`, `options` and `scope` of `csbviz.pruning.masks_for`. Criteria choose the
        masks alone; training takes the place of what one would do to the weights that stay.
    initial : float
        s_i of the cubic law. Zeros of the given weights stay zero in any case.
    begin : int
        t₀, in steps.
    count, every : int or None
        n and Δt in steps; None: every 20 steps (or a 20th of the way, if that is less) up to 40 % of the
        steps.
    rounds : int
        Cuts of "iterative"; the steps are shared evenly.
    strength : float
        Weight of the variational or L0 penalty.
    warmup : float
        Share of the steps over which that weight rises from 0.
    threshold : float
        A weight with a log alpha above it is noise: it is pruned.
    extra_rate : float
        Learning rate of the logarithms of the variances or of the gates.
    """

    epochs: float = 2.0
    batch: int = 128
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    rate_schedule: str = "cosine"
    seed: int = 0
    threads: int = 0
    layers: tuple[str, ...] | None = None
    eval_examples: int = 1000
    eval_every: int = 0
    checkpoint_seconds: float = 5.0
    sparsity: float | None = 0.9
    criterion: str = "magnitude"
    granularity: str | Mapping[str, Any] = "weight"
    options: Mapping[str, Any] | None = None
    scope: str = "global"
    initial: float = 0.0
    begin: int = 0
    count: int | None = None
    every: int | None = None
    rounds: int = 4
    strength: float = 1.0
    warmup: float = 0.25
    threshold: float = 3.0
    extra_rate: float = 1e-2

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        found = asdict(self)
        found["layers"] = None if self.layers is None else list(self.layers)
        return found


COMMON = (
    "epochs",
    "batch",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "momentum",
    "rate_schedule",
    "seed",
    "threads",
    "layers",
    "eval_examples",
    "eval_every",
    "checkpoint_seconds",
)
"""Settings that every training method reads."""

_PRUNING = ("sparsity", "criterion", "granularity", "options", "scope")
_PENALTY = ("strength", "warmup", "extra_rate")


@dataclass(frozen=True)
class TrainingMethod:
    """A way to a sparse network.

    Attributes
    ----------
    name, title, summary : str
    settings : tuple of str
        What it reads beside `COMMON`.
    defaults : mapping
        Settings whose usual value differs from that of `TrainSettings`.
    reference : str
    """

    name: str
    title: str
    summary: str
    settings: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""

    @property
    def asks_sparsity(self) -> bool:
        """Whether the sparsity is asked for; otherwise it is what the strength makes it."""
        return "sparsity" in self.settings


TRAINING = {
    method.name: method
    for method in (
        TrainingMethod(
            name="finetune",
            title="One-shot, then fine-tuning",
            summary="Prune at once and train what is left; what is zero stays zero.",
            settings=_PRUNING,
            reference="Han, Pool, Tran, Dally: Learning both Weights and Connections, NeurIPS 2015",
        ),
        TrainingMethod(
            name="gradual",
            title="Gradual pruning",
            summary="Prune by the cubic law while training goes on: fast first, then ever slower.",
            settings=(*_PRUNING, "initial", "begin", "count", "every"),
            reference="Zhu, Gupta: To prune, or not to prune, 2017",
        ),
        TrainingMethod(
            name="iterative",
            title="Iterative pruning",
            summary="Prune, train and again: each round keeps the same share of what is left.",
            settings=(*_PRUNING, "rounds"),
            reference="Han, Pool, Tran, Dally: Learning both Weights and Connections, NeurIPS 2015",
        ),
        TrainingMethod(
            name="variational",
            title="Variational dropout",
            summary="Each weight learns how much noise it bears; one that is mostly noise goes. The sparsity "
            "comes out of the training.",
            settings=(*_PENALTY, "threshold"),
            defaults={"weight_decay": 0.0},
            reference="Molchanov, Ashukha, Vetrov: Variational Dropout Sparsifies Deep Neural Networks, 2017",
        ),
        TrainingMethod(
            name="l0",
            title="L0 regularisation",
            summary="Each weight has a gate that may close, and each open gate has its price. The sparsity "
            "comes out of the training.",
            settings=_PENALTY,
            defaults={"weight_decay": 0.0, "strength": 3.0, "extra_rate": 0.05},
            reference="Louizos, Welling, Kingma: Learning Sparse Neural Networks through L0 Regularization, "
            "2018",
        ),
    )
}


def settings_of(method: str, given: Mapping[str, Any] | TrainSettings | None = None) -> TrainSettings:
    """Complete and check the settings of a training method.

    Parameters
    ----------
    method : str
        A name in `TRAINING`.
    given : mapping or TrainSettings, optional
        Settings that differ from the method's usual ones. Those that only other methods read are allowed and
        ignored.

    Returns
    -------
    TrainSettings

    Raises
    ------
    OptionError
        An unknown method or setting, or a value outside of what it can be.
    """
    if not isinstance(method, str) or method not in TRAINING:
        raise OptionError(f"the training method {method!r} is not known; there is {', '.join(TRAINING)}.")
    if isinstance(given, TrainSettings):
        given = given.as_dict()
    known = {x.name: x.default for x in fields(TrainSettings) if x.default is not MISSING}
    foreign = [str(name) for name in given or {} if name not in known]
    if foreign:
        raise OptionError(f"the training setting {foreign[0]!r} is not known; there is {', '.join(known)}.")
    values = {**known, **TRAINING[method].defaults, **(given or {})}
    for name, (kind, least, most) in _NUMBERS.items():
        values[name] = _number(name, values[name], kind, least, most)
    for name in ("sparsity", "initial"):
        values[name] = _share(name, values[name])
    for name, options in _CHOICES.items():
        if values[name] not in options:
            raise OptionError(f"the {name} is {values[name]!r}; it must be one of {', '.join(options)}.")
    if values["sparsity"] is None and method in ("gradual", "iterative"):
        raise OptionError(f"the training method {method} needs a sparsity, 0 ≤ sparsity < 1.")
    layers = values["layers"]
    if layers is not None:
        layers = (layers,) if isinstance(layers, str) else tuple(layers)
        if not layers:
            raise OptionError("no layer is chosen; name at least one layer to prune.")
        values["layers"] = layers
    _check_pruning(values)
    return TrainSettings(**values)


_MANY = 10**9
_NUMBERS = {  # kind, least and most; kinds that end in "?" may be None
    "epochs": ("float", 0.0, 10_000.0),
    "batch": ("int", 1, 65_536),
    "learning_rate": ("float", 0.0, 10.0),
    "weight_decay": ("float", 0.0, 10.0),
    "momentum": ("float", 0.0, 0.9999),
    "seed": ("int", 0, 2**63 - 1),
    "threads": ("int", 0, 1024),
    "eval_examples": ("int", 1, _MANY),
    "eval_every": ("int", 0, _MANY),
    "checkpoint_seconds": ("float", 0.0, 1e9),
    "begin": ("int", 0, _MANY),
    "count": ("int?", 1, _MANY),
    "every": ("int?", 1, _MANY),
    "rounds": ("int", 1, 1000),
    "strength": ("float", 0.0, 1e6),
    "warmup": ("float", 0.0, 1.0),
    "threshold": ("float", -20.0, 20.0),
    "extra_rate": ("float", 0.0, 10.0),
}
_CHOICES = {"optimizer": ("adamw", "sgd"), "rate_schedule": ("cosine", "constant")}


def _number(name: str, value: Any, kind: str, least: float, most: float) -> Any:
    if value is None and kind.endswith("?"):
        return None
    whole = kind.startswith("int")
    right = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not right or not math.isfinite(value) or not least <= value <= most:
        what = "a whole number" if whole else "a number"
        raise OptionError(f"the {name} is {value!r}; it must be {what} from {least:g} to {most:g}.")
    return int(value) if whole else float(value)


def _share(name: str, value: Any) -> float | None:
    if value is None and name == "sparsity":
        return None
    right = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not right or not 0 <= value < 1:
        raise OptionError(f"the {name} is {value!r}; it must be a number with 0 ≤ {name} < 1.")
    return float(value)


def _check_pruning(values: Mapping[str, Any]) -> None:
    """Refuse what the choice of masks would refuse at the first pruning step."""
    from csbviz.pruning.options import check_options, granularity_and_options

    check_options(values["criterion"], values["scope"], values["sparsity"] or 0.0, values["seed"])
    granularity_and_options(values["granularity"], values["options"])
