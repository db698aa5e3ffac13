"""What racecheck sees of kernels whose warps arrive by one lane: the same source, every lane arriving."""

from __future__ import annotations

import pytest

from benchmarks import sanitize_cases
from benchmarks.sanitize import ONE_LANE, every_lane_arrives
from benchmarks.sanitize_cases import matrices
from csbviz.ops.cuda import module

ONE = """
    barrier_init(full_b + 8 * s, FUSED ? WARPS : 1);
    barrier_init(empty_a + 8 * s, 4);
    barrier_init(received, 1);
    __syncwarp();
    if (lane == 0) barrier_arrive(empty_a + 8 * slot);
    if (lane == 0) store(misfit);
    if (lane == 0) {
        if (z.share == 1)
            barrier_arrive(empty_b + 8 * stage);
    }
"""


def test_every_arrival_by_one_lane_becomes_one_of_all_and_the_counts_follow():
    lines = [line.strip() for line in every_lane_arrives(ONE).split("\n") if line.strip()]
    assert lines == [
        "barrier_init(full_b + 8 * s, FUSED ? 32 * WARPS : 1);",
        "barrier_init(empty_a + 8 * s, 32 * (4));",
        "barrier_init(received, 1);",
        "__syncwarp();",
        "barrier_arrive(empty_a + 8 * slot);",
        "if (lane == 0) store(misfit);",
        "{",
        "if (z.share == 1)",
        "barrier_arrive(empty_b + 8 * stage);",
        "}",
    ]


@pytest.mark.parametrize("name", module.SOURCES)
def test_no_arrival_by_one_lane_is_left_and_other_sources_stay_as_they_are(name):
    text = module.read_source(name)
    changed = every_lane_arrives(text)
    assert ONE_LANE not in changed
    assert (changed == text) == (ONE_LANE not in text)


def test_matrices_take_turns_until_each_has_been_through(monkeypatch):
    def two(A):
        yield "first", 0.0, 1.0
        if A.shape[0] > 200:
            yield "second", 0.0, 1.0

    monkeypatch.setitem(sanitize_cases.OTHERS, "two", two)
    shapes = [A.shape for A in matrices()]
    found = [(shape, what) for shape, (what, _, _) in sanitize_cases.every_product("two")]
    larger = [(shape, "second") for shape in shapes if shape[0] > 200]
    assert found == [(shape, "first") for shape in shapes] + larger


def test_the_shapes_are_ragged():
    for A in matrices():
        assert A.nnz
        assert not A.to_dense()[::3].any()
    assert any(side % block for A in matrices() for side, block in zip(A.shape, A.block_shape, strict=True))
