"""The verdict: is sparse faster here, by how much, and why (not)? Computed from the records alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from csbviz.bench.names import LAYER_OPS, OP_NAMES, VECTOR_OPS, class_name, class_rank, op_in_words
from csbviz.bench.noise import BUSY, busiest
from csbviz.bench.reasons import Best, as_share, as_time, break_even, ratio_phrase, reason, winner
from csbviz.bench.record import Record, by_case

__all__ = ["CaseVerdict", "Verdict", "verdict"]


@dataclass(frozen=True)
class CaseVerdict:
    """Who wins one operation at one N in one precision class, with the times that decide it.

    Times are microseconds, None where not measured.

    Attributes
    ----------
    winner : str
        "csb", "csr" or "dense": the format of the fastest verified kernel.
    level : tuple of str
        The other formats whose time is so close to the winner's that one run cannot tell them apart.
    break_even : float or None
        Sparsity at which CSB and dense would take the same time if CSB's time stayed proportional to its
        nonzeros, within one run; None without both.
    precision : str
        The precision class of every contender: "fp32", "tf32", ...
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
    precision: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a run says, in words.

    Attributes
    ----------
    sentence : str
        Who wins, by how much, on what, in the most exact precision class that was measured.
    reason : str
        Why, from measured and computed quantities.
    cases : tuple of CaseVerdict
        The verdict of each operation, N and precision class.
    problems : tuple of str
        One sentence for each kernel that was wrong or failed.
    caution : str
        Why the times should be measured again, "" when nothing speaks against them.
    less_exact : str
        What dense and CSB take in less exact precision classes, "" where none was measured.
    """

    sentence: str
    reason: str
    cases: tuple[CaseVerdict, ...] = ()
    problems: tuple[str, ...] = field(default=())
    caution: str = ""
    less_exact: str = ""


AUTOMATIC = ("csb_cuda", "csb_cuda_tf32")
"""Kernels that stand for the library's own choice among the others."""

_Case = tuple[Best, CaseVerdict]


def verdict(records: list[Record]) -> Verdict:
    """Judge the records of one matrix.

    Parameters
    ----------
    records : list of Record
        From one run on one device; several operations, N and precision classes are judged one by one. The
        sentence speaks of the largest N of each operation in the most exact class that has something to
        compare.

    Returns
    -------
    Verdict
    """
    problems = tuple(
        f"{record.title} ({_case_name(record.op, record.n)}): {record.message}"
        for record in records
        if record.status in ("wrong", "failed")
    )
    groups = list(by_case([record for record in records if record.ok]).values())
    found = [best for best in map(_best, groups) if best.csb and (best.csr or best.dense)]
    if not found:
        return Verdict(_nothing_to_compare(records), " ".join(problems), (), problems)
    judged = [(best, _judge(best)) for best in found]
    cases = tuple(case for _, case in judged)
    headline = _headline(judged)
    reasons = [
        f"{_start(case.op)}: {case.reason}{_elsewhere(case, cases)}{_own_choice(best, records)}"
        for best, case in headline
    ]
    return Verdict(
        _sentence(headline),
        " ".join(reasons),
        cases,
        problems,
        _caution(records),
        _less_exact(headline, groups),
    )


def _case_name(op: str, n: int) -> str:
    return op_in_words(op) if op in VECTOR_OPS else f"{op_in_words(op)}, N = {n}"


def _start(op: str) -> str:
    name = OP_NAMES[op]
    return name[:1].upper() + name[1:]


def _headline(judged: list[_Case]) -> list[_Case]:
    """Of each operation the largest N, in the most exact class; the parts of a layer go with the whole."""
    if any(case.op == "layer" for _, case in judged):
        judged = [one for one in judged if one[1].op not in LAYER_OPS[1:]]
    best: dict[str, _Case] = {}
    for one in judged:
        case = one[1]
        known = best[case.op][1] if case.op in best else None
        if known is None or (case.n, -class_rank(case.precision)) > (known.n, -class_rank(known.precision)):
            best[case.op] = one
    return list(best.values())


def _sentence(headline: list[_Case]) -> str:
    parts = [_compare(best, case) for best, case in headline]
    record = headline[0][0].csb
    ns = " and ".join(str(n) for n in sorted({case.n for _, case in headline if case.op not in VECTOR_OPS}))
    values = record.dtype if record.precision != "tf32" else f"{record.dtype} in TF32"
    facts = [f"{record.m} × {record.k}", f"{as_share(record.sparsity, 1)} sparse", f"N = {ns}" if ns else ""]
    facts += [values, record.mode, record.device_name]
    sentence = f"{'; '.join(parts)} ({', '.join(filter(None, facts))})."
    return sentence[0].upper() + sentence[1:]


def _compare(best: Best, case: CaseVerdict) -> str:
    phrases = []
    if best.csr:
        copies = " with both copies" if best.csr.copies > 1 else ""
        phrases.append(ratio_phrase(best.csr, best.csb, f"CSR{copies}"))
    if best.dense:
        phrases.append(ratio_phrase(best.dense, best.csb, "dense"))
    return f"for {op_in_words(case.op)} CSB is {' and '.join(phrases)}"


def _less_exact(headline: list[_Case], groups: list[list[Record]]) -> str:
    """What the classes below the headline's take: times beside each other, no comparison of kernels."""
    sentences = []
    for best, case in headline:
        rougher = [
            group
            for group in groups
            if (group[0].op, group[0].n) == (case.op, case.n)
            and class_rank(group[0].precision) > class_rank(case.precision)
        ]
        rougher.sort(key=lambda group: class_rank(group[0].precision))
        phrases = [_class_phrase(group) for group in rougher]
        phrases = [phrase for phrase in phrases if phrase]
        if phrases:
            sentences.append(
                f"Less exact, {_start(case.op)}: {', '.join(phrases)}, against "
                f"{as_time(best.csb.median_us)} of CSB in {class_name(case.precision)}."
            )
    return " ".join(sentences)


def _class_phrase(group: list[Record]) -> str:
    """What dense and CSB of one class take."""
    found = (("dense", _fastest(group, "dense")), ("CSB", _fastest(group, "csb")))
    times = [f"{name} {as_time(record.median_us)}" for name, record in found if record]
    return f"in {class_name(group[0].precision)} {' and '.join(times)}" if times else ""


def _elsewhere(headline: CaseVerdict, cases: tuple[CaseVerdict, ...]) -> str:
    """Name the N at which another format wins than in the headline."""

    def contradicts(case: CaseVerdict) -> bool:
        same = (case.op, case.precision) == (headline.op, headline.precision)
        return same and not {case.winner, *case.level} & {headline.winner, *headline.level}

    ns = sorted(case.n for case in cases if contradicts(case))
    return f" At N = {' and '.join(map(str, ns))} another format is the fastest." if ns else ""


def _own_choice(best: Best, records: list[Record]) -> str:
    """Tell what the library's own choice takes where another of its kernels was clearly faster."""
    own = [r for r in records if r.ok and r.case == best.csb.case and r.kernel in AUTOMATIC]
    if not own or own[0].median_us <= 1.05 * best.csb.median_us:
        return ""
    return (
        f" {best.csb.title} is the fastest kernel of CSB here; the one that the library would choose takes "
        f"{as_time(own[0].median_us)}, {own[0].median_us / best.csb.median_us:.2f}× as long."
    )


def _caution(records: list[Record]) -> str:
    load = busiest(records)
    if load < BUSY:
        return ""
    return (
        f"Other programs used {as_share(load)} of the processors meanwhile. Kernels that share their work "
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


def _best(group: list[Record]) -> Best:
    csb = _fastest(group, "csb")
    if csb is not None and csb.op in LAYER_OPS:  # a CSR layer needs both copies: that is what it is
        return Best(csb, _fastest(group, "csr"), None, _fastest(group, "dense"))
    return Best(csb, _fastest(group, "csr", 1), _fastest(group, "csr", 2), _fastest(group, "dense"))


def _time(record: Record | None) -> float | None:
    return record.median_us if record else None


def _judge(best: Best) -> CaseVerdict:
    csb = best.csb
    first, others = winner(best)
    return CaseVerdict(
        csb.op,
        csb.n,
        first,
        csb.median_us,
        _time(best.csr),
        _time(best.dense),
        break_even(best),
        reason(best),
        others,
        csb.precision,
    )
