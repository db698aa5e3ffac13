"""The tables of strategies that a GPU executed: made from the records, and the document holds them."""

from __future__ import annotations

from benchmarks import balance_gpu_tables as report


def record(strategy, execution, median_us, n=128, kind="even", **other):
    facts = {"matrix": "layer", "target": "0.9", "op": "A@B", "status": "ok"}
    counts = {"planned": 1.5, "measured": 1.25, "jobs": 40, "partial_bytes": 2048}
    named = {"kind": kind, "n": n, "strategy": strategy, "execution": execution, "median_us": median_us}
    named |= {"by_height": {"8": median_us, "64": 2 * median_us if strategy == "in_order" else median_us}}
    return facts | counts | named | other


def test_times_are_compared_with_block_rows_in_order():
    records = [
        record("in_order", "grid", 8.0),
        record("in_order", "grid", 18.0, n=512),
        record("stream_k", "shares", 4.0),
        record("stream_k", "shares", 2.0, n=512),
        record("swizzle", "ticket", 1.0, status="wrong"),
        record("swizzle", "ticket", 1.0, n=512, status="wrong"),
    ]
    lines = report.time_table({"records": records}, "even").splitlines()
    assert lines[0].startswith("| strategy | N = 128 | N = 512 | all | fastest in |")
    assert lines[2] == "| `in_order`\\* | 1.00 | 1.00 | **1.00** | 0 of 2 | 1.50 | 1.25 | 40 | 2 | 1.00 |"
    assert lines[3] == "| `stream_k`\\* | 2.00 | 9.00 | **4.24** | 2 of 2 | 1.50 | 1.25 | 40 | 2 | 8.49 |"
    assert len(lines) == 4


def test_every_sparsity_shows_speed_balance_and_wins():
    records = [
        record("in_order", "grid", 8.0, measured=1.5),
        record("swizzle", "grid", 4.0),
        record("in_order", "grid", 8.0, n=64, measured=1.7),
        record("swizzle", "grid", 16.0, n=64),
        record("in_order", "grid", 6.0, target="0.98"),
        record("stream_k", "shares", 3.0, target="0.98", measured=1.0),
    ]
    lines = report.sparsity_table({"records": records}).splitlines()
    assert lines[0] == "| strategy | 90 % | 98 % |"
    assert lines[2:] == [
        "| `swizzle`\\* | 1.00, λ 1.60 → 1.25, 1 of 2 |  |",
        "| `stream_k`\\* |  | 2.00, λ 1.25 → 1.00, 1 of 1 |",
    ]


def test_the_best_of_a_product_is_bold():
    size = {"m": 512, "k": 2048, "nnz": 104857}
    records = [
        record("in_order", "grid", 8.0, **size),
        record("stream_k", "shares", 4.0, **size),
        record("split_k", "ticket", 1.0, **size),  # with tickets: not in this table
        record("in_order", "grid", 3.0, n=64, **size),
        record("stream_k", "shares", 4.0, n=64, **size),
    ]
    lines = report.layer_table({"records": records}).splitlines()
    assert lines[0].endswith("| µs in order | `stream_k` |")
    assert lines[2:] == [
        "| even 512 x 2048 | 0.9 | 104,857 | 64 | 1.50 | 3.0 | 0.75 |",
        "| even 512 x 2048 | 0.9 | 104,857 | 128 | 1.50 | 8.0 | **2.00** |",
    ]


def test_a_case_without_the_strategy_to_compare_with_is_left_out():
    assert report.cases({"records": [record("swizzle", "grid", 1.0)]}) == {}


def test_the_document_holds_the_tables_of_the_data():
    text = report.DOCUMENT.read_text(encoding="utf-8")
    shown = text[text.index(report.BEGIN) + len(report.BEGIN) : text.index(report.END)]
    assert shown.strip() == report.all_tables()
    assert shown.count("`stream_k`\\*") >= 2
