"""One measured case: what ran, on what, how long it took, and how exact it was."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from csbviz.bench.names import LAYER_OPS
from csbviz.errors import InputError

__all__ = ["OK", "STATUSES", "Record", "add_speedups", "by_case"]

OK = "ok"
"""Status of a record whose result was verified; only such records carry times."""

STATUSES = (OK, "wrong", "unavailable", "failed")
"""What became of a kernel."""


@dataclass
class Record:
    """One kernel on one matrix, operation and number of columns.

    Times are microseconds, bytes are bytes; a field is None where it does not apply, and every time is None
    unless `status` is "ok".

    Attributes
    ----------
    status : str
        "ok", "wrong" (the result was not exact enough and was not timed), "unavailable" or "failed".
    message : str
        One sentence when the status is not "ok".
    m, k, n, nnz : int
        The stored matrix is m x k with nnz entries; n columns are multiplied.
    bytes : int
        Stored bytes that the kernel reads besides B: matrix and plan arrays.
    traffic : int
        Compulsory bytes of one product: `bytes` plus B read once plus C written once.
    imbalance : float
        Heaviest worker's share over the average share (λ), for plans that fix who
        does what (those of the CPU kernels).
    prepare_us : float
        Time of conversion, plan and upload, which stays out of the timing; where a kernel is used for the
        first time, compiling it is part of that.
    others_load : float
        Share of all processors' time that other programs used while the case was timed, 0 to 1; of CPU
        kernels.
    copies : int
        Copies of the values that the kernel keeps.
    sample_count : int or None
        How many samples there were, where a recording left them out.
    """

    kernel: str
    title: str
    format: str
    matrix: str
    op: str
    device: str
    device_name: str
    dtype: str
    precision: str
    m: int
    k: int
    n: int
    nnz: int
    sparsity: float
    block_shape: tuple[int, int]
    balance: str | None
    params: dict[str, Any]
    threads: int | None
    mode: str
    status: str = OK
    message: str = ""
    median_us: float | None = None
    p25_us: float | None = None
    p75_us: float | None = None
    samples: list[float] = field(default_factory=list)
    rel_error: float | None = None
    tflops: float | None = None
    bytes: int | None = None
    traffic: int | None = None
    imbalance: float | None = None
    prepare_us: float | None = None
    others_load: float | None = None
    copies: int = 1
    deterministic: bool = True
    notes: str = ""
    speedup_vs_csr: float | None = None
    speedup_vs_dense: float | None = None
    clocks: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    when: str = ""
    sample_count: int | None = None

    @property
    def count(self) -> int:
        """How many samples the quartiles are of."""
        return len(self.samples) if self.sample_count is None else self.sample_count

    @property
    def ok(self) -> bool:
        """True when the result was verified and timed."""
        return self.status == OK and self.median_us is not None

    @property
    def case(self) -> tuple:
        """What must be equal before two records may be compared."""
        return (
            self.matrix,
            self.m,
            self.k,
            self.nnz,
            self.op,
            self.n,
            self.device_name,
            self.dtype,
            self.mode,
            self.precision,
        )

    def to_dict(self) -> dict[str, Any]:
        """A dict that JSON can hold."""
        values = asdict(self)
        values["block_shape"] = list(self.block_shape)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Record:
        """The record back from `to_dict`; unknown keys of a newer version are dropped.

        Raises
        ------
        InputError
            If a key is missing that every record has.
        """
        known = {entry.name for entry in fields(cls)}
        try:
            record = cls(**{key: value for key, value in values.items() if key in known})
        except TypeError as error:
            raise InputError(f"This is no bench record: {error}.") from None
        record.block_shape = tuple(record.block_shape)
        return record


def by_case(records: list[Record]) -> dict[tuple, list[Record]]:
    """Records grouped by what may be compared, in the order of their first appearance."""
    groups: dict[tuple, list[Record]] = {}
    for record in records:
        groups.setdefault(record.case, []).append(record)
    return groups


def add_speedups(records: list[Record]) -> None:
    """Fill in each record's ratios within its case: the best CSR of one copy, and the best dense, over it.

    A layer's CSR has two copies, because it needs both.
    """
    for group in by_case([record for record in records if record.ok]).values():
        for record in group:
            any_copies = record.op in LAYER_OPS
            csr = [p.median_us for p in group if p.format == "csr" and (p.copies == 1 or any_copies)]
            dense = [p.median_us for p in group if p.format == "dense"]
            record.speedup_vs_csr = min(csr) / record.median_us if csr else None
            record.speedup_vs_dense = min(dense) / record.median_us if dense else None
