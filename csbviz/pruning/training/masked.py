"""Training with masks that a schedule chooses anew: one-shot and fine-tuning, gradual, iterative."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csbviz.errors import OptionError
from csbviz.pruning.masks import masks_for
from csbviz.pruning.registry import METHODS
from csbviz.pruning.schedules import Gradual, Iterative, OneShot
from csbviz.pruning.training.sparsifier import Sparsifier

if TYPE_CHECKING:
    from csbviz.pruning.training.settings import TrainSettings

__all__ = ["FineTuned", "GraduallyPruned", "IterativelyPruned"]

_EVERY = 20  # steps between two cuts of the cubic law, unless that makes fewer than _CUTS cuts
_CUTS = 20
_LAST_CUT = 0.4  # share of the steps after which the rest is fine-tuning, while the rate is still high
_EVIDENCE_EXAMPLES = 512


class _Scheduled(Sparsifier):
    """Masks by the chosen criterion at the steps of a schedule. What is pruned once stays so."""

    schedule: OneShot | Gradual | Iterative | None = None

    def before(self, step: int) -> None:
        if self.schedule is not None and step in self._updates:
            self._choose(self.schedule.at(step))

    def target(self, step: int) -> float | None:
        return None if self.schedule is None else self.schedule.at(step)

    def _follow(self, schedule: OneShot | Gradual | Iterative) -> None:
        self.schedule, self._updates = schedule, frozenset(schedule.updates())
        last = max(self._updates)
        if last > self.steps:
            raise OptionError(
                f"the last pruning step would be step {last:,}, but the training ends at step "
                f"{self.steps:,}; train longer or prune earlier."
            )

    def _choose(self, sparsity: float) -> None:
        import torch

        settings = self.settings
        kept = masks_for(
            {name: weight.detach().cpu().numpy() for name, weight in self.weights.items()},
            self.kinds,
            method=settings.criterion,
            granularity=settings.granularity,
            sparsity=sparsity,
            scope=settings.scope,
            seed=settings.seed,
            options=settings.options,
            evidence=self._evidence(),
        )
        for name, mask in kept.items():
            self._gone[name] |= ~torch.from_numpy(mask)
        self.after_step()

    def _evidence(self):
        needs = METHODS[self.settings.criterion].needs
        if not needs:
            return None
        from csbviz.pruning.evidence import collect

        return collect(self.task, self.network, needs, count=_EVIDENCE_EXAMPLES, seed=self.settings.seed)


class FineTuned(_Scheduled):
    """One cut before the first step, or none when no sparsity is asked for."""

    def __init__(self, task, network, settings: TrainSettings, steps: int, examples: int) -> None:
        super().__init__(task, network, settings, steps, examples)
        if settings.sparsity is not None:
            self._follow(OneShot(settings.sparsity))


class GraduallyPruned(_Scheduled):
    """The cubic law, fitted into the training unless the settings say when."""

    def __init__(self, task, network, settings: TrainSettings, steps: int, examples: int) -> None:
        super().__init__(task, network, settings, steps, examples)
        room = max(1, int(_LAST_CUT * steps) - settings.begin)
        if settings.every is not None:
            every = settings.every
        elif settings.count is not None:
            every = max(1, room // settings.count)
        else:
            every = max(1, min(_EVERY, room // _CUTS))
        count = settings.count if settings.count is not None else max(1, room // every)
        self._follow(Gradual(settings.initial, settings.sparsity, settings.begin, count, every))


class IterativelyPruned(_Scheduled):
    """Rounds of equal length, each with a cut at its start and its own course of the learning rate."""

    def __init__(self, task, network, settings: TrainSettings, steps: int, examples: int) -> None:
        super().__init__(task, network, settings, steps, examples)
        self._length = max(1, steps // settings.rounds)
        self._follow(Iterative(0.0, settings.sparsity, settings.rounds, self._length))

    def round_of(self, step: int) -> tuple[int, int]:
        begin = min(step // self._length, self.settings.rounds - 1) * self._length
        last = begin == (self.settings.rounds - 1) * self._length
        return begin, max(1, self.steps - begin) if last else self._length
