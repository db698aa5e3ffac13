"""The verdict: is sparse faster here, by how much, and why (not)? Computed from the records alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from csbviz.bench.noise import BUSY, busiest
from csbviz.bench.record import Record, by_case

__all__ = ["CaseVerdict", "Verdict", "verdict"]

_EVEN = 0.05
"""Two times closer than this share are called equal: medians of one run differ by that much."""

_LAUNCH_US = {"cpu": 8.0, "cuda": 4.0}
"""Below about this many microseconds a product is mostly the cost of starting threads or a kernel."""

_UNEVEN = 1.15
"""From this share of the average on, the busiest worker's load is worth a sentence."""

_OP_NAMES = {"A@B": "A·B", "A.T@B": "Aᵀ·B"}


@dataclass(frozen=True)
class CaseVerdict:
    """Who wins one operation at one N, with the times that decide it (microseconds, None where not measured).

    Attributes
    ----------
    winner : str
        "csb", "csr" or "dense": the format of the fastest verified kernel.
    level : tuple of str
        The other formats whose time is so close to the winner's that one run cannot tell them apart.
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
    level: tuple[str, ...] = ()


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
    caution : str
        Why the times should be measured again, "" when nothing speaks against them.
    """

    sentence: str
    reason: str
    cases: tuple[CaseVerdict, ...] = ()
    problems: tuple[str, ...] = field(default=())
    caution: str = ""


@dataclass(frozen=True)
class _Best:
    csb: Record | None
    csr: Record | None
    csr_copy: Record | None
    dense: Record | None
    rougher: Record | None
    """The fastest dense kernel of another precision, such as TF32; named, but not compared with."""


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
    ns = " and ".join(str(n) for n in sorted({case.n for _, case in headline.values()}))
    where = (
        f"({record.m} × {record.k}, {_share(record.sparsity, 1)} sparse, N = {ns}, {record.dtype}, "
        f"{record.mode}, {record.device_name})"
    )
    reasons = [
        f"{_OP_NAMES[case.op]}: {case.reason}{_elsewhere(case, cases)}" for _, case in headline.values()
    ]
    sentence = f"{'; '.join(parts)} {where}."
    return Verdict(sentence[0].upper() + sentence[1:], " ".join(reasons), cases, problems, _caution(records))


def _elsewhere(headline: CaseVerdict, cases: tuple[CaseVerdict, ...]) -> str:
    """Name the N at which another format wins than in the headline."""

    def contradicts(case: CaseVerdict) -> bool:
        return case.op == headline.op and not {case.winner, *case.level} & {headline.winner, *headline.level}

    ns = sorted(case.n for case in cases if contradicts(case))
    return f" At N = {' and '.join(map(str, ns))} another format is the fastest." if ns else ""


def _caution(records: list[Record]) -> str:
    load = busiest(records)
    if load < BUSY:
        return ""
    return (
        f"Other programs used {_share(load)} of the processors meanwhile. Kernels that share their work "
        "among all processors suffer most, so run it again on a quiet machine."
    )


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
    others = [record for record in group if csb is not None and record.precision != csb.precision]
    return _Best(
        csb,
        _fastest(peers, "csr", 1),
        _fastest(peers, "csr", 2),
        _fastest(peers, "dense"),
        _fastest(others, "dense"),
    )


def _time(record: Record | None) -> float | None:
    return record.median_us if record else None


def _judge(best: _Best) -> CaseVerdict:
    csb = best.csb
    ranked = sorted(
        (record for record in (csb, best.csr, best.dense) if record), key=lambda record: record.median_us
    )
    winner = ranked[0].format
    break_even = None
    if best.dense and csb.nnz:
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
        tuple(record.format for record in ranked[1:] if _level(record, ranked[0])),
    )


def _level(one: Record, other: Record) -> bool:
    """Whether two times are too close for one run to tell them apart."""
    return abs(one.median_us / other.median_us - 1.0) <= _EVEN


def _ratio(value: float) -> str:
    return f"{value:.1f}×" if value < 9.95 else f"{value:,.0f}×"


def _share(value: float, digits: int = 0) -> str:
    return f"{100 * value:.{digits}f} %"


def _ratio_phrase(record: Record, csb: Record, peer: str) -> str:
    if _level(record, csb):
        return f"as fast as {peer}"
    ratio = record.median_us / csb.median_us
    if ratio > 1.0:
        return f"{_ratio(ratio)} faster than {peer}"
    return f"{_ratio(1.0 / ratio)} slower than {peer}"


def _compare(best: _Best, case: CaseVerdict) -> str:
    phrases = []
    if best.csr:
        phrases.append(_ratio_phrase(best.csr, best.csb, "CSR"))
    if best.dense:
        phrases.append(_ratio_phrase(best.dense, best.csb, "dense"))
    return f"for {_OP_NAMES[case.op]} CSB is {' and '.join(phrases)}"


def _reason(best: _Best, winner: str, break_even: float | None) -> str:
    """Why the winner wins, and what else a reader must know to read the comparison rightly."""
    csb, csr = best.csb, best.csr
    sentences = [_why(best, winner, break_even)]
    if csr and csr.threads == 1 and (csb.threads or 1) > 1:
        sentences.append(f"The fastest CSR here, {csr.title}, has one thread.")
    if best.csr_copy:
        peer = f"CSR with a second, transposed copy ({_ratio(best.csr_copy.bytes / csb.bytes)} the bytes)"
        sentences.append(f"CSB is {_ratio_phrase(best.csr_copy, csb, peer)}.")
    if best.rougher and best.rougher.median_us < csb.median_us and not _level(best.rougher, csb):
        sentences.append(
            f"Dense in {best.rougher.precision.upper()}, which is less exact, is "
            f"{_ratio(csb.median_us / best.rougher.median_us)} faster than CSB."
        )
    return " ".join(sentences)


def _why(best: _Best, winner: str, break_even: float | None) -> str:
    csb = best.csb
    if not csb.nnz:
        return "the matrix holds no nonzero, so CSB and CSR have nothing to multiply."
    if csb.median_us < _LAUNCH_US[csb.device]:
        return (
            f"the product holds only {csb.nnz * csb.n:,} multiply-adds and takes {csb.median_us:.2g} µs, "
            "most of which is the cost of starting it: this compares the starts more than the formats."
        )
    if winner == "dense":
        return _why_dense(best, break_even)
    if winner == "csr":
        return _why_csr(best)
    return _why_csb(best, break_even)


def _rate(record: Record) -> float:
    """Multiply-adds a microsecond; dense also multiplies the zeros."""
    entries = record.m * record.k if record.format == "dense" else record.nnz
    return entries * record.n / record.median_us


def _why_dense(best: _Best, break_even: float | None) -> str:
    sparse_rate, dense_rate = _rate(best.csb), _rate(best.dense)
    skipped = 1.0 / (1.0 - best.csb.sparsity)
    many = f"{_ratio(skipped)} as many" if skipped >= 1.05 else "as many"
    text = (
        f"dense multiplies {many} numbers, but {_ratio(dense_rate / sparse_rate)} as many a "
        f"second ({2e-3 * dense_rate:,.0f} against {2e-3 * sparse_rate:,.0f} GFLOP/s)"
    )
    if break_even is not None and break_even < 0.9995:
        digits = 1 if break_even > 0.99 else 0
        text += f"; at these rates CSB wins from about {_share(break_even, digits)} sparsity"
    return text + "." + _imbalance_hint(best.csb)


def _why_csr(best: _Best) -> str:
    csb, csr = best.csb, best.csr
    hint = _imbalance_hint(csb)
    if _level(csb, csr):
        return _level_with_csr(best) + "." + hint
    if hint and csb.imbalance >= csb.median_us / csr.median_us:
        return f"CSB's work is shared unevenly, which explains the difference.{hint}"
    per_block = csb.nnz / max(1, _blocks(csb))
    rows, cols = csb.block_shape
    bytes_ratio = csr.bytes / csb.bytes
    though = "though it reads" if bytes_ratio > 1.0 else "and reads"
    return (
        f"a {rows} × {cols} block holds {per_block:.0f} nonzeros on average, of which about "
        f"{_reuse(csb):.1f} share a row of B: that does not pay for walking the blocks here. "
        f"CSR is faster {though} {_ratio(bytes_ratio)} the bytes of CSB.{hint}"
    )


def _level_with_csr(best: _Best) -> str:
    return (
        f"CSB and CSR are within {_share(_EVEN)} of each other, which one run cannot tell apart; CSB reads "
        f"{_ratio(best.csb.bytes / best.csr.bytes)} the bytes of CSR"
    )


def _why_csb(best: _Best, break_even: float | None) -> str:
    csb = best.csb
    reasons = []
    if best.csr:
        reasons.append(_level_with_csr(best) if _level(best.csr, csb) else _ahead_of_csr(csb, best.csr))
    if best.dense:
        rate = _share(_rate(csb) / _rate(best.dense))
        skipped = 1.0 / (1.0 - csb.sparsity)
        if skipped >= 1.05:
            text = f"it skips all but one in {skipped:.1f} multiplications and does the rest at {rate}"
        else:
            text = f"it multiplies as many numbers as dense, at {rate}"
        text += " of the dense rate"
        if break_even:
            text += f" (at these rates dense would win below about {_share(break_even)} sparsity)"
        reasons.append(text)
    return "; ".join(reasons) + "." + _imbalance_hint(csb)


def _ahead_of_csr(csb: Record, csr: Record) -> str:
    """What speaks for CSB by the numbers: rows of B that are shared, and bytes where they are fewer."""
    per_csb, per_csr = csb.bytes / csb.nnz, csr.bytes / csr.nnz
    cost = f"a nonzero costs {per_csb:.1f} bytes against {per_csr:.1f} in CSR"
    reuse = _reuse(csb)
    if reuse >= 1.1:
        shared = f"about {reuse:.1f} nonzeros of a block share a row of B, which CSR fetches for each of them"
        return f"{shared}, {'and' if per_csb < per_csr else 'though'} {cost}"
    rates = f"it does {2e-3 * _rate(csb):,.0f} GFLOP/s against {2e-3 * _rate(csr):,.0f} of CSR"
    return f"{rates}, {'and' if per_csb < per_csr else 'though'} {cost}"


def _imbalance_hint(csb: Record) -> str:
    if csb.imbalance is None or csb.imbalance < _UNEVEN:
        return ""
    return (
        f" The busiest thread has {csb.imbalance:.2f}× the average work, so the threads stand idle for about "
        f"{_share(1 - 1 / csb.imbalance)} of the time."
    )


def _blocks(record: Record) -> int:
    rows, cols = record.block_shape
    return -(-record.m // rows) * -(-record.k // cols)


def _reuse(record: Record) -> float:
    """Nonzeros that share a row of B inside a block: βd / (1 - (1-d)^β), β along the output.

    That is the mean over the rows of B that a block needs at all, were the nonzeros spread evenly.
    """
    density = 1.0 - record.sparsity
    rows, cols = record.block_shape
    beta = min(rows, record.m) if record.op == "A@B" else min(cols, record.k)
    if density <= 0.0:
        return 0.0
    return beta * density / (1.0 - (1.0 - density) ** beta)
