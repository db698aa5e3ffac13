"""The verdict: is sparse faster here, by how much, and why (not)? Computed from the records alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from csbviz.bench.record import Record, by_case

__all__ = ["CaseVerdict", "Verdict", "verdict"]

_EVEN = 0.05
"""Two times closer than this share are called equal: medians of one run differ by that much."""

_LAUNCH_US = {"cpu": 8.0, "cuda": 4.0}
"""Below about this many microseconds a product is mostly the cost of starting threads or a kernel."""

_OP_NAMES = {"A@B": "A·B", "A.T@B": "Aᵀ·B"}


@dataclass(frozen=True)
class CaseVerdict:
    """Who wins one operation at one N, with the times that decide it (microseconds, None where not measured).

    Attributes
    ----------
    winner : str
        "csb", "csr" or "dense": the format of the fastest verified kernel.
    break_even : float or None
        Sparsity at which CSB and dense would take the same time if CSB's time stayed proportional to its
        nonzeros, within one run; None without both.
    """

    op: str
    n: int
    winner: str
    csb_us: float | None
    csr_us: float | None
    dense_us: float | None
    break_even: float | None
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What a run says, in words.

    Attributes
    ----------
    sentence : str
        Who wins, by how much, on what.
    reason : str
        Why, from measured and computed quantities.
    cases : tuple of CaseVerdict
        The verdict of each operation and N.
    problems : tuple of str
        One sentence for each kernel that was wrong or failed.
    """

    sentence: str
    reason: str
    cases: tuple[CaseVerdict, ...] = ()
    problems: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class _Best:
    csb: Record | None
    csr: Record | None
    csr_copy: Record | None
    dense: Record | None


def verdict(records: list[Record]) -> Verdict:
    """Judge the records of one matrix.

    Parameters
    ----------
    records : list of Record
        From one run on one device; several operations and N are judged one by one, and the sentence speaks
        of the largest N of each operation.

    Returns
    -------
    Verdict
    """
    problems = tuple(
        f"{record.title} ({_OP_NAMES[record.op]}, N = {record.n}): {record.message}"
        for record in records
        if record.status in ("wrong", "failed")
    )
    judged = [
        (group, _best(group)) for group in by_case([record for record in records if record.ok]).values()
    ]
    judged = [(group, best) for group, best in judged if best.csb and (best.csr or best.dense)]
    if not judged:
        return Verdict(_nothing_to_compare(records), " ".join(problems), (), problems)
    cases = tuple(_judge(best) for _, best in judged)
    headline: dict[str, tuple[_Best, CaseVerdict]] = {}
    for (_, best), case in zip(judged, cases, strict=True):
        if case.op not in headline or case.n > headline[case.op][1].n:
            headline[case.op] = (best, case)
    parts = [_compare(best, case) for best, case in headline.values()]
    record = next(iter(headline.values()))[0].csb
    where = (
        f"({record.m} x {record.k}, {record.sparsity:.1%} sparse, N = {record.n}, {record.dtype}, "
        f"{record.mode}, {record.device_name})"
    )
    reasons = [f"{_OP_NAMES[case.op]}: {case.reason}" for _, case in headline.values()]
    sentence = f"{'; '.join(parts)} {where}."
    return Verdict(sentence[0].upper() + sentence[1:], " ".join(reasons), cases, problems)


def _nothing_to_compare(records: list[Record]) -> str:
    if any(record.format == "csb" and record.ok for record in records):
        return "CSB was measured, but neither CSR nor dense was: there is nothing to compare it with."
    if any(record.format == "csb" and record.status == "wrong" for record in records):
        return "CSB gave a wrong result here, so no time is stated and nothing is compared."
    return "No CSB kernel was measured, so there is no verdict."


def _fastest(records: list[Record], format_name: str, copies: int | None = None) -> Record | None:
    matching = [r for r in records if r.format == format_name and (copies is None or r.copies == copies)]
    return min(matching, key=lambda record: record.median_us, default=None)


def _best(group: list[Record]) -> _Best:
    csb = _fastest(group, "csb")
    peers = [record for record in group if csb is None or record.precision == csb.precision]
    return _Best(csb, _fastest(peers, "csr", 1), _fastest(peers, "csr", 2), _fastest(peers, "dense"))


def _time(record: Record | None) -> float | None:
    return record.median_us if record else None


def _judge(best: _Best) -> CaseVerdict:
    csb = best.csb
    ranked = [record for record in (csb, best.csr, best.dense) if record]
    winner = min(ranked, key=lambda record: record.median_us).format
    break_even = None
    if best.dense:
        density = 1.0 - csb.sparsity
        break_even = max(0.0, 1.0 - density * best.dense.median_us / csb.median_us)
    return CaseVerdict(
        csb.op,
        csb.n,
        winner,
        csb.median_us,
        _time(best.csr),
        _time(best.dense),
        break_even,
        _reason(best, winner, break_even),
    )


def _ratio(value: float) -> str:
    return f"{value:.1f}x" if value < 9.95 else f"{value:.0f}x"


def _ratio_phrase(ratio: float, peer: str) -> str:
    if abs(ratio - 1.0) <= _EVEN:
        return f"as fast as {peer}"
    if ratio > 1.0:
        return f"{_ratio(ratio)} faster than {peer}"
    return f"{_ratio(1.0 / ratio)} slower than {peer}"


def _compare(best: _Best, case: CaseVerdict) -> str:
    phrases = []
    if best.csr:
        phrases.append(_ratio_phrase(best.csr.median_us / best.csb.median_us, "CSR"))
    if best.dense:
        phrases.append(_ratio_phrase(best.dense.median_us / best.csb.median_us, "dense"))
    return f"for {_OP_NAMES[case.op]} CSB is {' and '.join(phrases)}"


def _reason(best: _Best, winner: str, break_even: float | None) -> str:
    sentences = [_why(best, winner, break_even)]
    if best.csr_copy:
        ratio = best.csr_copy.median_us / best.csb.median_us
        sentences.append(
            f"Against CSR that keeps a second, transposed copy "
            f"({best.csr_copy.bytes / best.csb.bytes:.1f}x the bytes) CSB is {_ratio_phrase(ratio, 'it')}."
        )
    return " ".join(sentences)


def _why(best: _Best, winner: str, break_even: float | None) -> str:
    csb = best.csb
    if csb.median_us < _LAUNCH_US[csb.device]:
        return (
            f"the product holds only {csb.nnz * csb.n:,} multiply-adds and takes {csb.median_us:.2g} µs, "
            "most of which is the cost of starting it, so the storage format hardly matters."
        )
    if winner == "dense":
        return _why_dense(best, break_even)
    if winner == "csr":
        return _why_csr(best)
    return _why_csb(best, break_even)


def _rates(best: _Best) -> tuple[float, float]:
    """Multiply-adds a microsecond that CSB and dense reach; dense also multiplies the zeros."""
    csb, dense = best.csb, best.dense
    return csb.nnz * csb.n / csb.median_us, dense.m * dense.k * dense.n / dense.median_us


def _why_dense(best: _Best, break_even: float | None) -> str:
    sparse_rate, dense_rate = _rates(best)
    skipped = 1.0 / max(1.0 - best.csb.sparsity, 1e-12)
    text = (
        f"dense multiplies {skipped:.1f}x as many numbers, but {dense_rate / sparse_rate:.1f}x as many a "
        f"second ({2e-3 * dense_rate:,.0f} against {2e-3 * sparse_rate:,.0f} GFLOP/s)"
    )
    if break_even is not None and break_even < 1.0:
        text += f"; at these rates CSB wins from about {break_even:.0%} sparsity"
    return text + "." + _imbalance_hint(best.csb)


def _why_csr(best: _Best) -> str:
    csb, csr = best.csb, best.csr
    hint = _imbalance_hint(csb)
    if hint:
        return f"CSB's work is shared unevenly.{hint}"
    per_block = csb.nnz / max(1, _blocks(csb))
    rows, cols = csb.block_shape
    return (
        f"a {rows}x{cols} block holds {per_block:.0f} nonzeros on average and a loaded row of B serves "
        f"{_reuse(csb):.1f} of them, which does not pay for walking the blocks here: CSR reads "
        f"{csr.bytes / csb.bytes:.1f}x the bytes of CSB and is still faster."
    )


def _why_csb(best: _Best, break_even: float | None) -> str:
    csb = best.csb
    reasons = []
    if best.csr:
        reuse = _reuse(csb)
        reasons.append(
            f"a row of B that was loaded serves {reuse:.1f} nonzeros of a block, and a nonzero costs "
            f"{csb.bytes / max(csb.nnz, 1):.1f} bytes against {best.csr.bytes / max(csb.nnz, 1):.1f} in CSR"
        )
    if best.dense:
        sparse_rate, dense_rate = _rates(best)
        skipped = 1.0 / max(1.0 - csb.sparsity, 1e-12)
        text = (
            f"it skips all but one in {skipped:.1f} multiplications and does the rest at "
            f"{sparse_rate / dense_rate:.0%} of the dense rate"
        )
        if break_even:
            text += f" (dense would win below about {break_even:.0%} sparsity)"
        reasons.append(text)
    return "; ".join(reasons) + "." + _imbalance_hint(csb)


def _imbalance_hint(csb: Record) -> str:
    if csb.imbalance is None or csb.imbalance < 1.15:
        return ""
    return (
        f" The busiest thread has {csb.imbalance:.2f}x the average work, so the others wait up to "
        f"{1 - 1 / csb.imbalance:.0%} of the time."
    )


def _blocks(record: Record) -> int:
    rows, cols = record.block_shape
    return -(-record.m // rows) * -(-record.k // cols)


def _reuse(record: Record) -> float:
    """Nonzeros that share a row of B inside a block: βd / (1 - (1-d)^β), β along the output."""
    density = 1.0 - record.sparsity
    beta = record.block_shape[0 if record.op == "A@B" else 1]
    if density <= 0.0:
        return 0.0
    return beta * density / (1.0 - (1.0 - density) ** beta)
