"""Recordings: measured runs in one JSON file, to be looked at again without the device that made them.

A recording holds records and what they depend on: device, date, versions, settings. Nothing that follows
from the records is stored: speed-ups and verdicts are computed again when it is read, so a file cannot claim
what its times do not show. `read_recording` trusts nothing in the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from csbviz.bench.names import CLASSES, OP_NAMES
from csbviz.bench.record import STATUSES, Record, add_speedups
from csbviz.bench.verdict import Verdict, verdict
from csbviz.errors import CSBVizError, FileFormatError, InputError
from csbviz.formats.recorded_files import parse_recorded, read_recorded

__all__ = [
    "FOLDER",
    "KIND",
    "VERSION",
    "RecordedRun",
    "Recording",
    "device_facts",
    "load_recording",
    "make_recording",
    "read_recording",
    "recording_text",
    "save_recording",
    "shipped_recordings",
]

KIND = "csbviz run recording"
VERSION = 1
"""Version of the schema; a reader refuses newer ones."""

FOLDER = Path(__file__).resolve().parents[2] / "sample_models" / "recordings"
"""Where the recordings lie that come with a checkout of the project; a wheel has none."""

_MAX_RUNS, _MAX_RECORDS, _MAX_TEXT = 64, 5000, 600
_LEFT_OUT = ("samples", "speedup_vs_csr", "speedup_vs_dense", "clocks", "versions")
"""Fields of a record that a recording does without, or keeps once for all."""


@dataclass(frozen=True)
class RecordedRun:
    """What was measured on one matrix.

    Attributes
    ----------
    name : str
        Name of the layer or matrix.
    source : str
        What the matrix came from, such as "sample:fashion_cnn"; "" where it is not known.
    weights : str
        How it was pruned, in words.
    records : tuple of Record
    """

    name: str
    records: tuple[Record, ...]
    source: str = ""
    weights: str = ""

    @cached_property
    def verdict(self) -> Verdict:
        """What the records say."""
        return verdict(list(self.records))


@dataclass(frozen=True)
class Recording:
    """Runs of one device, made in one go.

    Attributes
    ----------
    title : str
        Name for people.
    when : str
        Date and time of the first record, ISO 8601.
    device : dict
        At least "name"; of a GPU also capability, multiprocessors, caches, driver, clocks.
    versions : dict
        Package → version.
    settings : dict
        What the runs were asked for.
    runs : tuple of RecordedRun
    """

    title: str
    when: str
    device: dict[str, Any]
    runs: tuple[RecordedRun, ...]
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def device_name(self) -> str:
        """Name of the device that was measured."""
        return self.device["name"]

    @property
    def date(self) -> str:
        """The day of the recording."""
        return self.when[:10]

    @property
    def label(self) -> str:
        """Where and when, as it stands beside every number of a recording."""
        return f"Recorded on {self.device_name}, {self.date}"

    def to_dict(self) -> dict[str, Any]:
        """The recording as JSON holds it: what all records of a run share stands once."""
        return {
            "kind": KIND,
            "version": VERSION,
            "title": self.title,
            "when": self.when,
            "device": self.device,
            "versions": self.versions,
            "settings": self.settings,
            "runs": [_run_to_dict(run) for run in self.runs],
        }


def make_recording(
    title: str,
    runs: Sequence[RecordedRun],
    settings: dict[str, Any] | None = None,
    device: dict[str, Any] | None = None,
) -> Recording:
    """A recording of runs that were just measured.

    Parameters
    ----------
    title : str
        Name for people.
    runs : sequence of RecordedRun
        Of one device, each with at least one record.
    settings : dict, optional
        What the runs were asked for, JSON-safe.
    device : dict, optional
        What is known of the device besides its name.

    Raises
    ------
    InputError
        If there is no record, or there are records of two devices.
    """
    records = [record for run in runs for record in run.records]
    if not records or not all(run.records for run in runs):
        raise InputError("There is nothing to record: a run without any record was given.")
    names = sorted({record.device_name for record in records})
    if len(names) > 1:
        raise InputError(f"A recording is of one device; these records are of {' and '.join(names)}.")
    return Recording(
        title,
        min(record.when for record in records),
        {**(device or {}), "name": names[0]},
        tuple(runs),
        dict(records[0].versions),
        dict(settings or {}),
    )


def device_facts(device: str) -> dict[str, Any]:
    """What a timing on "cpu" or "cuda" depends on, for the head of a recording."""
    from csbviz.bench.gpu_timing import device_info
    from csbviz.ops.devices import device_name

    return device_info() if device == "cuda" else {"name": device_name("cpu")}


def _run_to_dict(run: RecordedRun) -> dict[str, Any]:
    defaults = {entry.name: entry.default for entry in fields(Record)}
    rows = []
    for record in run.records:
        row = {name: value for name, value in record.to_dict().items() if name not in _LEFT_OUT}
        row["sample_count"] = record.count
        rows.append({name: _short(value) for name, value in row.items() if value != defaults[name]})
    shared = {
        name: value
        for name, value in (rows[0] if rows else {}).items()
        if all(name in row and row[name] == value for row in rows)
    }
    own = [{name: value for name, value in row.items() if name not in shared} for row in rows]
    return {"name": run.name, "source": run.source, "weights": run.weights, "shared": shared, "records": own}


def _short(value: Any) -> Any:
    """Times and ratios to six digits, which is far more than they mean."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def recording_text(recording: Recording) -> str:
    """A recording as JSON."""
    text = json.dumps(recording.to_dict(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A line a record: a file that lies in a repository should have readable differences.
    return text.replace('},{"kernel"', '},\n{"kernel"').replace('"records":[', '"records":[\n') + "\n"


def save_recording(recording: Recording, path: str | Path) -> None:
    """Write a recording to a file."""
    Path(path).write_text(recording_text(recording), encoding="utf-8")


def shipped_recordings() -> dict[str, Path]:
    """Name → file of the recorded runs that come with the project."""
    return {path.stem: path for path in sorted(FOLDER.glob("run_*.json"))}


def load_recording(path: str | Path) -> Recording:
    """Read a recording from a file.

    Raises
    ------
    FileFormatError
        If it is no recording, or one that this version cannot use.
    """
    return read_recording(read_recorded(path), Path(path).name)


def read_recording(data: bytes | str, name: str = "The recording") -> Recording:
    """Read a recording from the contents of a file.

    Parameters
    ----------
    data : bytes or str
        JSON.
    name : str
        How messages call it.

    Raises
    ------
    FileFormatError
        If anything in it is missing, of another kind or out of range; one sentence says what.
    """
    found = parse_recorded(data, name, "a run", KIND, VERSION)
    try:
        return _recording(found)
    except CSBVizError as error:
        raise FileFormatError(f"{name} cannot be used: {error}") from None


class _Wrong(CSBVizError):
    """Something in a recording that is not as it must be."""


def _recording(found: dict) -> Recording:
    device = _mapping(found, "device")
    _text(device, "name")
    rows = found.get("runs")
    if not isinstance(rows, list) or not 1 <= len(rows) <= _MAX_RUNS:
        raise _Wrong(f"it needs 1 to {_MAX_RUNS} runs.")
    runs = tuple(_run(row) for row in rows)
    if {record.device_name for run in runs for record in run.records} != {device["name"]}:
        raise _Wrong("it holds records of another device than its own.")
    return Recording(
        _text(found, "title"),
        _text(found, "when"),
        device,
        runs,
        {str(key): str(value) for key, value in _mapping(found, "versions").items()},
        _mapping(found, "settings"),
    )


def _run(found: Any) -> RecordedRun:
    if not isinstance(found, dict):
        raise _Wrong("a run is no object.")
    rows, shared = found.get("records"), _mapping(found, "shared")
    if not isinstance(rows, list) or not 1 <= len(rows) <= _MAX_RECORDS:
        raise _Wrong(f"a run needs 1 to {_MAX_RECORDS} records.")
    records = tuple(_record(shared | row if isinstance(row, dict) else row) for row in rows)
    add_speedups(list(records))
    return RecordedRun(_text(found, "name"), records, _text(found, "source"), _text(found, "weights"))


def _mapping(found: dict, key: str) -> dict:
    value = found.get(key, {})
    if not isinstance(value, dict):
        raise _Wrong(f"its {key} is no object.")
    return value


def _text(found: dict, key: str) -> str:
    value = found.get(key)
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise _Wrong(f"its {key} must be a text of at most {_MAX_TEXT} characters.")
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_TEXTS = ("kernel", "title", "format", "matrix", "device_name", "dtype", "mode", "message", "notes", "when")
_CHOICES = {"op": OP_NAMES, "device": ("cpu", "cuda"), "precision": CLASSES, "status": STATUSES}
_COUNTS = {"m": 1, "k": 1, "n": 1, "nnz": 0, "copies": 1}
_TIMES = ("median_us", "p25_us", "p75_us")
_NUMBERS = ("rel_error", "tflops", "imbalance", "prepare_us", "others_load")


def _record(row: Any) -> Record:
    if not isinstance(row, dict):
        raise _Wrong("a record is no object.")
    values = {name: value for name, value in row.items() if name not in _LEFT_OUT}
    if not isinstance(values.get("block_shape"), list):
        raise _Wrong("a record's block_shape must be two whole numbers above zero.")
    record = Record.from_dict(values)
    for name in _TEXTS:
        _text(vars(record), name)
    for name, known in _CHOICES.items():
        if getattr(record, name) not in tuple(known):
            raise _Wrong(f"a record's {name} is {str(getattr(record, name))[:40]!r}, which is not known.")
    for name, least in _COUNTS.items():
        if not _is_whole(getattr(record, name)) or not least <= getattr(record, name) < 2**53:
            raise _Wrong(f"a record's {name} must be a whole number from {least} on.")
    _check_optional(record)
    return record


def _check_optional(record: Record) -> None:
    for name in (*_TIMES, *_NUMBERS):
        value = getattr(record, name)
        if value is not None and not (_is_number(value) and value >= 0):
            raise _Wrong(f"a record's {name} must be a number that is not negative.")
    for name in ("bytes", "traffic", "threads", "sample_count"):
        value = getattr(record, name)
        if value is not None and not (_is_whole(value) and value >= 0):
            raise _Wrong(f"a record's {name} must be a whole number that is not negative.")
    shape = record.block_shape
    if len(shape) != 2 or not all(_is_whole(side) and side > 0 for side in shape):
        raise _Wrong("a record's block_shape must be two whole numbers above zero.")
    if record.balance is not None:
        _text(vars(record), "balance")
    if not isinstance(record.params, dict) or record.nnz > record.m * record.k:
        raise _Wrong("a record's parameters or its number of nonzeros make no sense.")
    record.sparsity = 1.0 - record.nnz / (record.m * record.k)
    if record.status == "ok":
        _check_measured(record)


def _check_measured(record: Record) -> None:
    if not (all(getattr(record, name) for name in _TIMES) and record.bytes):
        raise _Wrong("a verified record needs times and bytes above zero.")
    if not record.p25_us <= record.median_us <= record.p75_us:
        raise _Wrong("a record's median does not lie between its quartiles.")
