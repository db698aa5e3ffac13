"""Numbers as people read them."""

import pytest

from csbviz.figures import text


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (4.0666, "4.07"),
        (0.01234, "0.0123"),
        (1530.4, "1,530"),
        (99.96, "100"),
        (0.9996, "1.00"),
        (-2.5, "−2.50"),
    ],
)
def test_significant_digits_without_exponents(value, written):
    assert text.significant(value) == written


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1023.9 * 1024, "1.00 MiB"),
        (4 << 20, "4.00 MiB"),
    ],
)
def test_size_has_a_binary_unit(number, written):
    assert text.size(number) == written


@pytest.mark.parametrize(
    ("us", "written"),
    [
        (0, "0 µs"),
        (0.5, "0.500 µs"),
        (85.3, "85.3 µs"),
        (999.6, "1.00 ms"),
        (1430, "1.43 ms"),
        (2.1e6, "2.10 s"),
    ],
)
def test_time_has_a_unit_that_keeps_it_short(us, written):
    assert text.time_us(us) == written


@pytest.mark.parametrize(
    ("times", "unit"),
    [([], "µs"), ([80.0, 5000.0], "µs"), ([270.0, 1430.0], "ms"), ([2e5, 3e6], "s"), ([0.0], "µs")],
)
def test_one_unit_for_an_axis(times, unit):
    scale, name = text.time_scale(times)
    assert name == unit
    assert scale == {"µs": 1, "ms": 1e3, "s": 1e6}[unit]


@pytest.mark.parametrize(
    ("share", "written"),
    [(0, "0.0 %"), (1, "100.0 %"), (0.9, "90.0 %"), (0.99999, "> 99.9 %"), (0.00001, "< 0.1 %")],
)
def test_percent_never_rounds_to_all_or_nothing(share, written):
    assert text.percent(share) == written


def test_percent_of_whole_digits():
    assert text.percent(0.999, 0) == "> 99 %"
    assert text.percent(0.126, 0) == "13 %"


@pytest.mark.parametrize(
    ("share", "written"), [(0, "0 %"), (0.125, "12.5 %"), (0.0002, "0.02 %"), (1, "100 %")]
)
def test_ticks_have_no_idle_zeros(share, written):
    assert text.percent_tick(share) == written


def test_words():
    assert text.plural(1, "block") == "1 block"
    assert text.plural(1200, "block") == "1,200 blocks"
    assert text.span(128, 192) == "128–191"
    assert text.span(7, 8) == "7"
    assert text.shape((256, 2304)) == "256 × 2,304"
    assert text.list_of([]) == ""
    assert text.list_of(["A"]) == "A"
    assert text.list_of(["A", "B", "C"]) == "A, B and C"
    assert text.ratio(1.8437) == "1.84×"
    assert text.html_escape("<b>&</b>") == "&lt;b&gt;&amp;&lt;/b&gt;"
