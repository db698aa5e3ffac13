"""The rule for block shapes: powers of two that serve both directions and feed the workers."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from csbviz.errors import OptionError
from csbviz.formats import choose_block_shape
from csbviz.ops.threads import cpu_count


# A side of 256 would suit the table of pointers, but not so many workers.
@example(rows=16257, cols=32001, density=0.0, n=None, workers=126)
@given(
    rows=st.integers(0, 10**7),
    cols=st.integers(0, 10**7),
    density=st.floats(0, 1),
    n=st.one_of(st.none(), st.integers(1, 4096)),
    workers=st.one_of(st.none(), st.integers(1, 256)),
)
def test_rule(rows, cols, density, n, workers):
    shape = choose_block_shape((rows, cols), int(rows * cols * density), n, workers=workers)
    turned = choose_block_shape((cols, rows), int(rows * cols * density), n, workers=workers)
    assert turned == shape[::-1]  # one stored copy serves both directions, so neither side is privileged
    for extent, side in zip((rows, cols), shape, strict=True):
        assert side & (side - 1) == 0
        assert 16 <= side <= 32768
        assert side < 2 * max(extent, 16)
    # No more block pointers than CSR has row pointers, unless the matrix is too small for it, or blocks twice
    # as large would leave fewer block rows or block columns than workers.
    blocks = -(-rows // shape[0]) * -(-cols // shape[1])
    fewest = min(rows / (2 * shape[0]), cols / (2 * shape[1]))
    assert blocks <= max(rows, cols) + 1 or min(shape) < 128 or fewest < (workers or cpu_count())


@pytest.mark.parametrize(
    ("shape", "density", "workers", "expected"),
    [
        ((2048, 512), 0.1, 2, (128, 128)),  # a slice of B that fits the first-level cache
        ((128, 512), 0.1, 2, (64, 128)),  # a block row for each worker
        ((2048, 2048), 0.02, 2, (256, 256)),  # longer rows inside a block for a sparser matrix
        ((10**6, 10**6), 1e-5, 2, (1024, 1024)),  # the paper's square root
        ((512, 512), 0.1, 64, (32, 32)),  # not below the smallest side
        ((6, 6), 0.3, 2, (16, 16)),
    ],
)
def test_cases(shape, density, workers, expected):
    assert choose_block_shape(shape, int(shape[0] * shape[1] * density), workers=workers) == expected


def test_gpu():
    assert choose_block_shape((2048, 512), 1000, device="cuda") == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(shape=(-1, 4), nnz=0), "-1 x 4"),
        (dict(shape=(4, 4), nnz=2, n=0), "N is 0"),
        (dict(shape=(4, 4), nnz=2, device="tpu"), "'tpu'"),
        (dict(shape=(4, 4), nnz=2, workers=0), "workers is 0"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(OptionError, match=message):
        choose_block_shape(**arguments)
