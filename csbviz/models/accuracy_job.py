"""Accuracies of several versions of one model, as one job for the measurement service."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["accuracies"]


def accuracies(versions: Mapping[str, Mapping], progress: Callable[[float, str], None]) -> dict[str, float]:
    """Measure the accuracy of each version of the sample CNN.

    Parameters
    ----------
    versions : mapping of str to (mapping of str to numpy.ndarray)
        Name of the version → what `weights_for_accuracy` gives.
    progress : callable
        ``progress(fraction, message)``.

    Returns
    -------
    dict of str to float
        Name of the version → share of test images named rightly, 0 to 1.
    """
    from csbviz.models.evaluate import accuracy

    found = {}
    for index, (name, weights) in enumerate(versions.items()):

        def step(fraction: float, message: str, index: int = index, name: str = name) -> None:
            progress((index + fraction) / len(versions), f"{name}: {message}")

        found[name] = accuracy(weights, step)
    return found
