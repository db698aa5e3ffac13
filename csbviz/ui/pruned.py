"""The pruned form of what is opened, as the settings ask for it, or one sentence why there is none yet.

What a criterion must know of the data, and networks that were trained here, are kept by the session: both
come out of jobs and neither fits into a link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from csbviz.errors import CSBVizError
from csbviz.ui.settings import LOADED, TRAINED, Settings
from csbviz.ui.text import list_of

if TYPE_CHECKING:
    from csbviz.models.opened import Opened

__all__ = [
    "evidence_of",
    "keep_evidence",
    "keep_trained",
    "locked_layers",
    "options_of",
    "pruned_or_loaded",
    "pruning_key",
    "trained_of",
    "unit_of",
    "weights_in_words",
]

_EVIDENCE, _TRAINED = "csbviz.evidence", "csbviz.trained"
_MOST_EVIDENCE = 2  # collections a session keeps: second moments of a large model take hundreds of MB


def locked_layers(opened: Opened, chosen: Settings) -> tuple[str, ...]:
    """The layers that pruning leaves alone: the chosen ones, else embeddings beside other layers."""
    return opened.spared if chosen.locked is None else chosen.locked


def unit_of(chosen: Settings) -> tuple[int, int]:
    """Rows and columns of a block that is pruned: as chosen, else those of the CSB layout, else the usual."""
    from csbviz.pruning.registry import GRANULARITIES

    return chosen.unit or chosen.block or tuple(GRANULARITIES["block"].options["block"])


def options_of(chosen: Settings) -> dict[str, Any]:
    """The options of the chosen granularity."""
    return {"nm": {"nm": chosen.nm}, "block": {"block": unit_of(chosen)}}.get(chosen.granularity, {})


def pruning_key(opened: Opened, chosen: Settings) -> tuple:
    """The settings that pruned weights depend on; those of unpruned weights when there is nothing to see."""
    from csbviz.pruning.registry import METHODS

    if chosen.method == TRAINED:
        found = trained_of(opened)
        return (TRAINED, found.digest) if found else (LOADED,)
    if chosen.method in (None, LOADED):
        return (LOADED,)
    method = METHODS[chosen.method]
    seed = chosen.seed if method.seeded else 0
    if method.needs and evidence_of(opened, method.needs) is None:
        return (LOADED,)
    sparsity = None if chosen.granularity == "nm" else chosen.sparsity
    unit = tuple(options_of(chosen).values())
    return (
        chosen.method,
        chosen.granularity,
        unit,
        chosen.scope,
        sparsity,
        chosen.locked,
        seed,
    )


def pruned_or_loaded(opened: Opened, chosen: Settings) -> tuple[Opened, str]:
    """Prune as the settings say.

    Returns
    -------
    opened : Opened
        The unpruned one when that cannot be done.
    problem : str
        One sentence why, or "".
    """
    from csbviz.pruning.registry import METHODS

    if chosen.method in (None, LOADED):
        return opened, ""
    if chosen.method == TRAINED:
        found = trained_of(opened)
        gone = "No network was trained from this model in this session: train one on the page Prune."
        return (found, "") if found else (opened, gone)
    method = METHODS[chosen.method]
    if method.needs and evidence_of(opened, method.needs) is None:
        return opened, f"{method.title} must look at data first: {_how_to_get(opened)}"
    try:
        return _pruned((opened.digest, pruning_key(opened, chosen)), opened, chosen), ""
    except CSBVizError as error:
        return opened, f"The model cannot be pruned like this and is shown as loaded: {error}"


def _how_to_get(opened: Opened) -> str:
    from csbviz.tasks.accuracy import measurable_task

    if opened.model is not None and measurable_task(opened.model):
        return "collect that on the page Prune."
    return "there is no data for this model here, so choose a criterion that does without."


@st.cache_resource(max_entries=4, show_spinner="Pruning")
def _pruned(key: tuple, _opened: Opened, _chosen: Settings) -> Opened:
    from csbviz.pruning.opened import prune_opened
    from csbviz.pruning.registry import METHODS

    return prune_opened(
        _opened,
        method=_chosen.method,
        scope=_chosen.scope,
        sparsity=_chosen.sparsity / 100,
        locked=locked_layers(_opened, _chosen),
        seed=_chosen.seed,
        granularity=_chosen.granularity,
        options=options_of(_chosen),
        evidence=evidence_of(_opened, METHODS[_chosen.method].needs),
    )


def evidence_of(opened: Opened, needs: tuple[str, ...]) -> Any:
    """What this session has collected of the model's data, or None."""
    return st.session_state.get(_EVIDENCE, {}).get((opened.digest, needs)) if needs else None


def keep_evidence(digest: str, needs: tuple[str, ...], evidence: Any) -> None:
    """Keep what a job has collected; the oldest goes."""
    kept = {
        name: value for name, value in st.session_state.get(_EVIDENCE, {}).items() if name != (digest, needs)
    }
    st.session_state[_EVIDENCE] = dict([*kept.items(), ((digest, needs), evidence)][-_MOST_EVIDENCE:])


def trained_of(opened: Opened) -> Opened | None:
    """The network that was made from the opened model in this session and is in use, or None."""
    return st.session_state.get(_TRAINED, {}).get(opened.digest, (None, ""))[0]


def keep_trained(original: Opened, made: Opened, words: str) -> None:
    """Put weights that a job made of a model at the disposal of all pages; `words` say how they were made."""
    st.session_state[_TRAINED] = {original.digest: (made, words)}


def weights_in_words(opened: Opened, chosen: Settings, is_pruned: bool) -> str:
    """How the weights were pruned; equal words for one model mean equal weights."""
    from csbviz.pruning.registry import METHODS

    if not is_pruned:
        return "as loaded"
    if chosen.method == TRAINED:
        return st.session_state[_TRAINED][opened.digest][1]
    share = f"{chosen.nm[0]}:{chosen.nm[1]}" if chosen.granularity == "nm" else f"{chosen.sparsity:g} %"
    scope = "whole model" if chosen.scope == "global" else "each layer"
    text = f"{chosen.method} {share}, {scope}"
    if chosen.granularity == "block":
        text += ", blocks {} x {}".format(*unit_of(chosen))
    elif chosen.granularity not in ("weight", "nm"):
        text += f", {chosen.granularity}s"
    if METHODS[chosen.method].seeded:
        text += f", seed {chosen.seed}"
    if locked := locked_layers(opened, chosen):
        text += f", locked: {list_of(locked)}"
    return text
