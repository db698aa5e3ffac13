"""Measuring: verify first, then time, keep a record, and say in one sentence what it means."""

from csbviz.bench.record import Record
from csbviz.bench.run import BenchRequest, bench_matrix
from csbviz.bench.verdict import Verdict, verdict

__all__ = ["BenchRequest", "Record", "Verdict", "bench_matrix", "verdict"]
