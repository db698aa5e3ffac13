"""Why one format beat another: sentences from the measured and computed quantities of one case."""

from __future__ import annotations

from typing import NamedTuple

from csbviz.bench.names import VECTOR_OPS
from csbviz.bench.record import Record
from csbviz.ops.registry import is_transposed

__all__ = [
    "EVEN",
    "Best",
    "as_ratio",
    "as_share",
    "as_time",
    "break_even",
    "level",
    "multiplies_zeros",
    "ratio_phrase",
    "reason",
    "winner",
]

EVEN = 0.05
"""Two times closer than this share are called equal: medians of one run differ by that much."""

_LAUNCH_US = {"cpu": 8.0, "cuda": 4.0}
"""Below about this many microseconds a product is mostly the cost of starting threads or a kernel."""

_UNEVEN = 1.15
"""From this share of the average on, the busiest worker's load is worth a sentence."""


_ON_TENSOR_CORES = ("csb_mma", "csb_wgmma", "csb_few")
"""How the names of kernels begin that turn blocks into dense tiles for the tensor cores."""


class Best(NamedTuple):
    """The fastest verified kernels of one case, all of one precision class; None where there is none.

    Attributes
    ----------
    csr, csr_copy : Record or None
        The fastest CSR with one copy of the values, and with a second, transposed one.
    """

    csb: Record | None
    csr: Record | None
    csr_copy: Record | None
    dense: Record | None


def _ranked(best: Best) -> list[Record]:
    """CSB, CSR and dense, the fastest first."""
    return sorted(
        (record for record in (best.csb, best.csr, best.dense) if record), key=lambda record: record.median_us
    )


def winner(best: Best) -> tuple[str, tuple[str, ...]]:
    """Format of the fastest, and the formats whose time one run cannot tell from it."""
    first, *others = _ranked(best)
    return first.format, tuple(record.format for record in others if level(record, first))


def multiplies_zeros(csb: Record) -> bool:
    """Whether tensor cores multiplied whole blocks, so that the time hardly follows the nonzeros."""
    used = (csb.kernel, *(csb.params.get(key, "") for key in ("kernel", "A@B", "A.T@B")))
    return any(str(name).startswith(_ON_TENSOR_CORES) for name in used)


def break_even(best: Best) -> float | None:
    """Sparsity at which CSB and dense would take the same time, were CSB's proportional to its nonzeros.

    None without both, and where CSB's time is not proportional to them.
    """
    if not (best.dense and best.csb.nnz) or multiplies_zeros(best.csb):
        return None
    density = 1.0 - best.csb.sparsity
    return max(0.0, 1.0 - density * best.dense.median_us / best.csb.median_us)


def level(one: Record, other: Record) -> bool:
    """Whether two times are too close for one run to tell them apart."""
    return abs(one.median_us / other.median_us - 1.0) <= EVEN


def as_ratio(value: float) -> str:
    """A factor: 1.8×, 12×."""
    return f"{value:.1f}×" if value < 9.95 else f"{value:,.0f}×"


def as_share(value: float, digits: int = 0) -> str:
    """A share as percent."""
    return f"{100 * value:.{digits}f} %"


def as_time(microseconds: float) -> str:
    """A time with its unit."""
    return f"{microseconds:.3g} µs" if microseconds < 999.5 else f"{microseconds / 1e3:.3g} ms"


def ratio_phrase(record: Record, csb: Record, peer: str) -> str:
    """How CSB compares with a record, which is called `peer`: "2.0× faster than CSR"."""
    if level(record, csb):
        return f"as fast as {peer}"
    ratio = record.median_us / csb.median_us
    if ratio > 1.0:
        return f"{as_ratio(ratio)} faster than {peer}"
    return f"{as_ratio(1.0 / ratio)} slower than {peer}"


def reason(best: Best) -> str:
    """Why the winner wins, and what else a reader must know to read the comparison rightly."""
    csb, csr = best.csb, best.csr
    sentences = [_why(best, winner(best)[0], break_even(best))]
    if csr and csr.threads == 1 and (csb.threads or 1) > 1:
        sentences.append(f"The fastest CSR here, {csr.title}, has one thread.")
    if best.csr_copy:
        peer = f"CSR with a second, transposed copy ({as_ratio(best.csr_copy.bytes / csb.bytes)} the bytes)"
        sentences.append(f"CSB is {ratio_phrase(best.csr_copy, csb, peer)}.")
    return " ".join(sentences)


def _why(best: Best, first: str, even_at: float | None) -> str:
    csb = best.csb
    if not csb.nnz:
        return "the matrix holds no nonzero, so CSB and CSR have nothing to multiply."
    if csb.median_us < _LAUNCH_US[csb.device]:
        return (
            f"the product holds only {csb.nnz * csb.n:,} multiply-adds and takes {csb.median_us:.2g} µs, "
            "most of which is the cost of starting it: this compares the starts more than the formats."
        )
    if first == "dense":
        return _why_dense(best, even_at)
    if first == "csr":
        return _why_csr(best)
    return _why_csb(best, even_at)


def _rate(record: Record) -> float:
    """GFLOP/s; dense also multiplies the zeros, and a layer is one product forward, two backward."""
    entries = record.m * record.k if record.format == "dense" else record.nnz
    products = {"layer": 3, "layer.backward": 2}.get(record.op, 1)
    return 2e-3 * products * entries * record.n / record.median_us


def _rounded(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 9.95 else f"{rate:.2g}"


def _why_dense(best: Best, even_at: float | None) -> str:
    if multiplies_zeros(best.csb):
        share = as_share(best.dense.median_us / best.csb.median_us)
        return (
            "tensor cores multiply CSB's blocks with their zeros, so its time hardly follows the sparsity; "
            f"dense takes {share} of it."
        )
    sparse_rate, dense_rate = _rate(best.csb), _rate(best.dense)
    skipped = 1.0 / (1.0 - best.csb.sparsity)
    many = f"{as_ratio(skipped)} as many" if skipped >= 1.05 else "as many"
    text = (
        f"dense multiplies {many} numbers, but {as_ratio(dense_rate / sparse_rate)} as many a "
        f"second ({_rounded(dense_rate)} against {_rounded(sparse_rate)} GFLOP/s)"
    )
    if even_at is not None and even_at < 0.9995:
        digits = 1 if even_at > 0.99 else 0
        text += f"; at these rates CSB wins from about {as_share(even_at, digits)} sparsity"
    return text + "." + _imbalance_hint(best.csb)


def _why_csr(best: Best) -> str:
    csb, csr = best.csb, best.csr
    hint = _imbalance_hint(csb)
    if level(csb, csr):
        return _level_with_csr(best) + "." + hint
    if hint and csb.imbalance >= csb.median_us / csr.median_us:
        return f"CSB's work is shared unevenly, which explains the difference.{hint}"
    per_block = csb.nnz / max(1, _blocks(csb))
    rows, cols = csb.block_shape
    bytes_ratio = csr.bytes / csb.bytes
    though = "though it reads" if bytes_ratio > 1.0 else "and reads"
    return (
        f"a {rows} × {cols} block holds {per_block:.0f} nonzeros on average, of which about "
        f"{_reuse(csb):.1f} share {_of_b(csb)}: that does not pay for walking the blocks here. "
        f"CSR is faster {though} {as_ratio(bytes_ratio)} the bytes of CSB.{hint}"
    )


def _level_with_csr(best: Best) -> str:
    return (
        f"CSB and CSR are within {as_share(EVEN)} of each other, which one run cannot tell apart; CSB reads "
        f"{as_ratio(best.csb.bytes / best.csr.bytes)} the bytes of CSR"
    )


def _why_csb(best: Best, even_at: float | None) -> str:
    csb = best.csb
    reasons = []
    if best.csr:
        reasons.append(_level_with_csr(best) if level(best.csr, csb) else _ahead_of_csr(csb, best.csr))
    if best.dense and multiplies_zeros(csb):
        share = as_share(csb.median_us / best.dense.median_us)
        reasons.append(
            f"tensor cores multiply its blocks with their zeros in {share} of dense's time, which hardly "
            "follows the sparsity"
        )
    elif best.dense:
        rate = as_share(_rate(csb) / _rate(best.dense))
        skipped = 1.0 / (1.0 - csb.sparsity)
        if skipped >= 1.05:
            text = f"it skips all but one in {skipped:.1f} multiplications and does the rest at {rate}"
        else:
            text = f"it multiplies as many numbers as dense, at {rate}"
        text += " of the dense rate"
        if even_at:
            text += f" (at these rates dense would win below about {as_share(even_at)} sparsity)"
        reasons.append(text)
    return "; ".join(reasons) + "." + _imbalance_hint(csb)


def _ahead_of_csr(csb: Record, csr: Record) -> str:
    """What speaks for CSB by the numbers: rows of B that are shared, and bytes where they are fewer."""
    per_csb, per_csr = csb.bytes / csb.nnz, csr.bytes / csr.nnz
    cost = f"a nonzero costs {per_csb:.1f} bytes against {per_csr:.1f} in CSR"
    reuse = _reuse(csb)
    if reuse >= 1.1:
        shared = (
            f"about {reuse:.1f} nonzeros of a block share {_of_b(csb)}, which CSR fetches for each of them"
        )
        return f"{shared}, {'and' if per_csb < per_csr else 'though'} {cost}"
    rates = f"it does {_rounded(_rate(csb))} GFLOP/s against {_rounded(_rate(csr))} of CSR"
    return f"{rates}, {'and' if per_csb < per_csr else 'though'} {cost}"


def _imbalance_hint(csb: Record) -> str:
    if csb.imbalance is None or csb.imbalance < _UNEVEN:
        return ""
    return (
        f" The busiest thread has {csb.imbalance:.2f}× the average work, so the threads stand idle for about "
        f"{as_share(1 - 1 / csb.imbalance)} of the time."
    )


def _blocks(record: Record) -> int:
    rows, cols = record.block_shape
    return -(-record.m // rows) * -(-record.k // cols)


def _of_b(record: Record) -> str:
    """What nonzeros of one column read of the second operand."""
    return "an element of x" if record.op in VECTOR_OPS else "a row of B"


def _reuse(record: Record) -> float:
    """Nonzeros that share a row of B inside a block: βd / (1 - (1-d)^β), β along the output.

    That is the mean over the rows of B that a block needs at all, were the nonzeros spread evenly.
    """
    density = 1.0 - record.sparsity
    rows, cols = record.block_shape
    beta = min(cols, record.k) if is_transposed(record.op) else min(rows, record.m)
    if density <= 0.0:
        return 0.0
    return beta * density / (1.0 - (1.0 - density) ** beta)
