"""Tunable parameters that a caller sets by hand."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from csbviz.errors import OptionError

__all__ = ["given"]


def given(wanted: Mapping[str, Any], tunables: Mapping[str, Collection]) -> dict[str, Any]:
    """The parameters that a caller sets: those that are not None.

    Parameters
    ----------
    wanted : mapping
        A value, or None, for names among `tunables`.
    tunables : mapping
        The values that each parameter can have.

    Raises
    ------
    OptionError
        If a parameter has another value.
    """
    values = {name: value for name, value in wanted.items() if value is not None}
    for name, value in values.items():
        if value not in tunables[name]:
            raise OptionError(f"{name} is {value}; it must be one of {', '.join(map(str, tunables[name]))}.")
    return values
