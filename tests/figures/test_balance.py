"""The balance strip and the timeline."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.balance import STRATEGIES, make_plan, simulate
from csbviz.errors import OptionError
from csbviz.figures import balance_strip, timeline
from csbviz.formats import CSBMatrix


def played(worker, start, end, workers):
    """A timeline written by hand, with what the figures read of it."""
    worker, start, end = np.array(worker, np.int32), np.array(start, float), np.array(end, float)
    loads = np.bincount(worker, weights=end - start, minlength=workers)
    makespan = float(end.max(initial=0))
    return SimpleNamespace(
        item=np.arange(worker.size, dtype=np.int32),
        tile=np.zeros(worker.size, np.int32),
        worker=worker,
        start=start,
        end=end,
        workers=workers,
        ctas=worker.size,
        loads=loads,
        makespan=makespan,
        imbalance=float(loads.max() / loads.mean()) if loads.any() else 1.0,
        waves=-(-worker.size // workers),
    )


@pytest.fixture(scope="module")
def skewed():
    """Block rows of very different weight."""
    dense = np.random.default_rng(0).random((256, 256)) < np.linspace(0.01, 0.6, 256)[:, None]
    return CSBMatrix.from_scipy(sp.csr_matrix(dense.astype(np.float32)), block_shape=(16, 16))


def test_exact_loads_and_idle_share():
    before = played([0, 1, 1], [0, 0, 10], [10, 10, 30], 2)
    after = played([0, 1], [0, 0], [20, 20], 2)
    info = balance_strip.get_balance_strip_info(before, after, names=("in order", "chunks"), worker="thread")
    first, last = info.panels
    assert (first.name, first.loads.tolist(), first.mean, first.imbalance) == ("in order", [10, 30], 20, 1.5)
    assert first.idle == pytest.approx(1 / 3)
    assert (last.imbalance, last.idle) == (1, 0)
    text = balance_strip.caption(info)
    assert "The fullest of 2 threads does 1.00× the mean, after 1.50× before" in text
    assert "shortens the wait for it by 33 %" in text


def test_static_plans_and_their_timelines_give_the_same_strip(skewed):
    plans = [make_plan(skewed, name, workers=4) for name in ("in_order", "chunks")]
    from_plans = balance_strip.get_balance_strip_info(*plans)
    from_timelines = balance_strip.get_balance_strip_info(*(simulate(plan) for plan in plans))
    for plan, a, b in zip(plans, from_plans.panels, from_timelines.panels, strict=True):
        assert a.loads.tolist() == b.loads.tolist()
        assert a.loads.sum() == skewed.nnz
        assert a.imbalance == pytest.approx(plan.imbalance)


def test_a_plan_without_fixed_workers_is_refused(skewed):
    plan = make_plan(skewed, "chunks", workers=4, assignment="dynamic")
    with pytest.raises(OptionError, match="simulate it"):
        balance_strip.get_balance_strip_info(plan, plan)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("workers", [1, 2, 40, 132])
def test_strip_draws_loads_split_at_the_mean(skewed, workers, dark):
    lines = [
        simulate(make_plan(skewed, name, workers=workers, assignment="dynamic"), workers)
        for name in ("in_order", "equal_nnz")
    ]
    info = balance_strip.get_balance_strip_info(*lines)
    fig = balance_strip.plot_balance_strip(info, dark)
    for panel, (usual, excess) in zip(info.panels, (fig.data[:2], fig.data[2:]), strict=True):
        assert np.allclose(np.asarray(usual.y) + np.asarray(excess.y), panel.loads)
        assert np.max(usual.y) <= panel.mean + 1e-9
    titles = " ".join(note.text for note in fig.layout.annotations)
    assert f"λ = {info.panels[0].imbalance:.2f}" in titles


def test_names_are_plain_text():
    line = played([0], [0], [5], 1)
    fig = balance_strip.plot_balance_strip(
        balance_strip.get_balance_strip_info(line, line, names=("<i>a</i>", "b"))
    )
    assert "&lt;i&gt;a" in fig.layout.annotations[0].text


def test_exact_bars_and_tail():
    info = timeline.get_timeline_info(played([1, 0, 1], [0, 0, 4], [4, 9, 6], 2))
    assert info.worker.tolist() == [0, 1, 1]
    assert info.start.tolist() == [0, 0, 4]
    assert info.length.tolist() == [9, 4, 2]
    assert info.first_item.tolist() == [1, 0, 2]
    assert (info.makespan, info.mean, info.tail_begin) == (9, 7.5, 6)
    assert info.tail_share == pytest.approx(1 / 3)
    assert not info.merged
    text = timeline.caption(info)
    assert "20 % after the dashed even share" in text
    assert "33 % of the time, someone waits" in text


def test_workers_without_work_are_counted():
    info = timeline.get_timeline_info(played([0, 1], [0, 0], [4, 4], 5))
    assert info.tail_begin == 0
    assert "3 workers get nothing: cut the work finer" in timeline.caption(info)


@pytest.mark.parametrize("workers", [1, 7, 132, 1024])
def test_many_items_merge_without_losing_work(workers):
    rng = np.random.default_rng(0)
    count = 20_000
    worker, length = rng.integers(0, workers, count), rng.integers(0, 50, count)
    order = np.argsort(worker, kind="stable")
    worker, length = worker[order], length[order].astype(float)
    total = np.cumsum(length)
    first = np.searchsorted(worker, worker)
    start = total - length - (total - length)[first]
    info = timeline.get_timeline_info(played(worker, start, start + length, workers))
    assert info.merged
    assert info.length.size <= timeline.MAX_BARS
    assert info.length.sum() == pytest.approx(length.sum())  # no gaps on a worker, so bars add up
    assert info.items.sum() == np.count_nonzero(length)
    assert set(info.worker.tolist()) == set(worker[length > 0].tolist())
    assert len(timeline.plot_timeline(info).to_json()) < 200_000


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("dark", [False, True])
def test_every_strategy_draws(skewed, strategy, dark):
    line = simulate(make_plan(skewed, strategy, workers=6, n=256, tile_n=64, assignment="dynamic"), 6)
    info = timeline.get_timeline_info(line)
    assert info.tail_share == pytest.approx(line.tail_share)
    assert info.length.sum() == pytest.approx(line.work.sum())
    assert info.mean * 6 == pytest.approx(line.work.sum())
    assert timeline.plot_timeline(info, dark).to_json()
    assert timeline.caption(info)


def test_no_work_still_draws():
    nothing = played([], [], [], 3)
    info = timeline.get_timeline_info(nothing)
    assert timeline.plot_timeline(info).to_json()
    assert timeline.caption(info) == "There is no work to play."
    strip = balance_strip.get_balance_strip_info(nothing, nothing)
    assert balance_strip.plot_balance_strip(strip).to_json()
    assert balance_strip.caption(strip) == "There is no work to share."


def test_measured_times_are_written_in_microseconds():
    run = played([0, 1, 1], [0.0, 0.0, 4.5], [9.25, 4.5, 6.0], 2)
    info = timeline.get_timeline_info(run, unit="µs")
    fig = timeline.plot_timeline(info)
    assert fig.layout.xaxis.title.text == "Time (µs)"
    assert "µs from" in fig.data[0].hovertemplate
    assert list(fig.data[0].marker.colorbar.ticktext) == ["1.50", "5.38", "9.25"]
    assert "nonzeros" not in fig.to_json()
    assert fig.layout.xaxis.range[1] == pytest.approx(1.02 * 9.25)
    longer = timeline.plot_timeline(timeline.get_timeline_info(run, unit="µs", until=20.0))
    assert longer.layout.xaxis.range[1] == pytest.approx(20.4)
    strip = balance_strip.get_balance_strip_info(
        np.array([9.25, 6.0]), np.array([7.0, 7.0]), ("In order", "Tickets"), "multiprocessor", "µs"
    )
    assert [panel.mean for panel in strip.panels] == [7.625, 7.0]
    fig = balance_strip.plot_balance_strip(strip)
    assert fig.layout.yaxis.title.text == "Busy (µs)"
    assert "mean 7.62 µs" in fig.layout.annotations[0].text
    assert "nonzeros" not in fig.to_json()
    assert "is busy for 1.00× the mean, after 1.21× before" in balance_strip.caption(strip)
