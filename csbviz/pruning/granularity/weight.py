"""Single weights: every weight is a unit."""

__all__ = ["expand", "unit_scores"]


def unit_scores(scores):
    """Give the scores of the weights as those of the units."""
    return scores


def expand(kept, shape):
    """Give the mask of the units as that of the weights."""
    return kept.reshape(shape)
