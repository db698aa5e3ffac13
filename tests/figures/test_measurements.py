"""Run times and speed-ups of records."""

import pytest

from csbviz.bench.record import Record
from csbviz.figures import run_times, speedups, theme


def record(kernel, fmt, median, op="A@B", n=128, **changes):
    values = {
        "kernel": kernel,
        "title": kernel.replace("_", " "),
        "format": fmt,
        "matrix": "layer",
        "op": op,
        "device": "cpu",
        "device_name": "a processor",
        "dtype": "float32",
        "precision": "fp32",
        "m": 64,
        "k": 64,
        "n": n,
        "nnz": 400,
        "sparsity": 0.9,
        "block_shape": (16, 16),
        "balance": "chunks" if fmt == "csb" else None,
        "params": {},
        "threads": 2,
        "mode": "warm",
        "median_us": median,
        "p25_us": median and 0.9 * median,
        "p75_us": median and 1.2 * median,
        "samples": [1.0, 2.0],
    }
    return Record(**values | changes)


def run(op="A@B", n=128, csb=100.0, csr=150.0, dense=400.0):
    """The records of one case as a bench gives them."""
    times = {"csr_mkl": ("csr", csr), "csb_cpu": ("csb", csb), "dense_torch": ("dense", dense)}
    return [
        record(k, f, us, op, n, speedup_vs_csr=csr / us, speedup_vs_dense=dense / us)
        for k, (f, us) in times.items()
    ]


WRONG = record("new_kernel", "csb", None, status="wrong", message="the error is 0.3, and 1e-6 is allowed.")


def test_bars_are_sorted_within_each_case():
    info = run_times.get_run_times_info([*run(), *run("A.T@B", csb=200.0), WRONG])
    assert [(p.title, p.op, p.n) for p in info.panels] == [
        ("A·B · N = 128", "A@B", 128),
        ("Aᵀ·B · N = 128", "A.T@B", 128),
    ]
    assert [bar.kernel for bar in info.panels[0].bars] == ["csb_cpu", "csr_mkl", "dense_torch"]
    assert [bar.kernel for bar in info.panels[1].bars] == ["csr_mkl", "csb_cpu", "dense_torch"]
    first = info.panels[0].bars[0]
    assert (first.median, first.p25, first.p75, first.samples, first.format) == (100, 90, 120, 2, "csb")
    assert info.left_out == (("new kernel", "the error is 0.3, and 1e-6 is allowed."),)
    assert not info.log


def test_what_differs_between_cases_is_in_the_titles():
    other = [record("csb_cpu", "csb", 50.0, device_name="a GPU")]
    info = run_times.get_run_times_info([*run(), *other, *run(n=512)])
    assert [p.title for p in info.panels] == [
        "A·B · N = 128 · a processor",
        "A·B · N = 128 · a GPU",
        "A·B · N = 512 · a processor",
    ]


@pytest.mark.parametrize("dark", [False, True])
def test_bars_have_their_formats_color_and_variants_a_pattern(dark):
    records = [*run(), record("csr_scipy", "csr", 900.0), record("csb_cpu", "csb", 130.0, balance="in_order")]
    info = run_times.get_run_times_info(records)
    fig = run_times.plot_run_times(info, dark)
    bars = fig.data[0]
    formats = [bar.format for bar in info.panels[0].bars]
    assert list(bars.marker.color) == [theme.FORMAT_COLORS[f] for f in formats]
    styles = [(bar.format, bar.pattern) for bar in info.panels[0].bars]
    assert len(set(styles)) == len(styles)
    assert [bar.title for bar in info.panels[0].bars if bar.kernel == "csb_cpu"] == [
        "csb cpu, chunks",
        "csb cpu, in_order",
    ]


def test_a_kernel_keeps_its_pattern_in_every_case():
    one, two = run(), run("A.T@B")
    more = [record("csr_scipy", "csr", 10.0, "A.T@B"), record("csr_scipy", "csr", 900.0)]
    info = run_times.get_run_times_info([*one, *more, *two])
    for kernel in ("csr_scipy", "csr_mkl"):
        assert len({bar.pattern for p in info.panels for bar in p.bars if bar.kernel == kernel}) == 1


def test_whiskers_reach_the_quartiles_and_labels_name_the_median():
    fig = run_times.plot_run_times(run_times.get_run_times_info(run()))
    bars, labels = fig.data[0], fig.data[1]
    assert bars.x[0] - bars.error_x.arrayminus[0] == pytest.approx(0.09)  # 90 µs on an axis in ms
    assert bars.x[0] + bars.error_x.array[0] == pytest.approx(0.12)
    assert labels.text[0].strip() == "100 µs"
    assert "ms" in fig.layout.xaxis.title.text


def test_times_far_apart_go_on_a_log_scale():
    info = run_times.get_run_times_info(run(dense=200_000.0))
    assert info.log
    fig = run_times.plot_run_times(info)
    assert fig.layout.xaxis.type == "log"
    assert "log scale" in fig.layout.xaxis.title.text
    assert fig.data[0].type == "scatter"


@pytest.mark.parametrize(("low", "high"), [(90, 400), (0.5, 900), (1, 1), (3e-3, 4e5)])
def test_log_ticks_are_few_and_near_the_data(low, high):
    ticks = run_times.log_ticks(low, high)
    assert 1 <= len(ticks) <= 9
    assert all(low / 1.3 <= tick <= 1.5 * high for tick in ticks)


def test_caption_follows_the_measurements():
    text = run_times.caption(run_times.get_run_times_info([*run(), WRONG]))
    assert "csb cpu is fastest, 1.50× as fast as csr mkl" in text
    assert "Not timed: new kernel (the error is 0.3, and 1e-6 is allowed)." in text
    text = run_times.caption(run_times.get_run_times_info(run(csb=300.0)))
    assert "csr mkl is fastest, 2.00× as fast as csb cpu" in text
    many = [*run(), *run(n=32, csb=500.0), *run(n=512)]
    assert "Fastest in 3 cases: csb cpu in 2 and csr mkl in 1." in run_times.caption(
        run_times.get_run_times_info(many)
    )
    assert "No kernel was timed" in run_times.caption(run_times.get_run_times_info([WRONG]))


def test_speedups_leave_out_a_formats_own_reference():
    (panel,) = speedups.get_speedups_info([*run(), WRONG]).panels
    rows = {row.kernel: row for row in panel.rows}
    assert list(rows) == ["csb_cpu", "csr_mkl", "dense_torch"]
    assert (rows["csb_cpu"].vs_csr, rows["csb_cpu"].vs_dense) == (1.5, 4)
    assert rows["csr_mkl"].vs_csr is None
    assert rows["dense_torch"].vs_dense is None
    assert rows["dense_torch"].vs_csr == pytest.approx(0.375)


@pytest.mark.parametrize("dark", [False, True])
def test_speedup_dots_have_the_color_of_what_they_compare_with(dark):
    info = speedups.get_speedups_info([*run(), *run("A.T@B")])
    assert (info.low, info.high) == (0.375, 4)
    fig = speedups.plot_speedups(info, dark)
    dots = {trace.marker.symbol: trace for trace in fig.data if trace.mode == "markers+text"}
    assert dots["circle"].marker.color == theme.FORMAT_COLORS["csr"]
    assert dots["diamond"].marker.color == theme.FORMAT_COLORS["dense"]
    assert list(dots["circle"].text) == ["  1.50× CSR  ", "  0.375× CSR  "]
    assert list(dots["circle"].textposition) == ["middle right", "middle left"]
    assert any(shape.x0 == shape.x1 == 1 for shape in fig.layout.shapes)
    assert 1 in fig.layout.xaxis.tickvals


def test_speedup_caption_follows_the_measurements():
    text = speedups.caption(speedups.get_speedups_info(run()))
    assert "csb cpu runs 1.50× as fast as CSR and 4.00× as fast as dense" in text
    text = speedups.caption(speedups.get_speedups_info([*run(), *run(n=32, csb=300.0), *run(n=512)]))
    assert "Over 3 cases the fastest CSB kernel runs 0.500× to 1.50× as fast as CSR" in text
    assert "no speed-up" in speedups.caption(speedups.get_speedups_info([]))


def test_nothing_measured_still_draws():
    assert run_times.plot_run_times(run_times.get_run_times_info([])).to_json()
    assert speedups.plot_speedups(speedups.get_speedups_info([WRONG])).to_json()


def test_titles_from_recordings_are_plain_text():
    bad = record("k", "csb", 5.0, title="<a href='x'>go</a>")
    spec = run_times.plot_run_times(run_times.get_run_times_info([bad])).to_json()
    assert "<a href" not in spec.replace("\\u003c", "<")


def test_classes_have_panels_and_ranges_of_their_own():
    records = []
    for n in (128, 512):
        records += run(n=n)
        records += [
            record("csb_tf32", "csb", 90.0, n=n, precision="tf32", speedup_vs_dense=0.5),
            record("dense_tf32", "dense", 45.0, n=n, precision="tf32", speedup_vs_dense=1.0),
        ]
    info = speedups.get_speedups_info(records)
    assert [panel.title for panel in info.panels] == [
        f"A·B · N = {n} · {name}" for n in (128, 512) for name in ("fp32", "TF32")
    ]
    words = speedups.caption(info)
    assert (
        "Over 2 cases in fp32 the fastest CSB kernel runs 1.50× as fast as CSR and 4.00× as fast as dense."
        in words
    )
    assert "Over 2 cases in TF32 the fastest CSB kernel runs 0.500× as fast as dense." in words
